"""Vorn: how well a token's residual state points where the end of the prompt points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vorn.kv.scorers.layers import layer_number
from vorn.kv.signals import ModelShape, PrefillSignals, Residual, Signal
from vorn.records import BadInput

DIRECTIONS = ("mean", "unit_mean")


@dataclass(frozen=True)
class Vorn:
    """Vorn (DOI 10.5281/zenodo.20519215): cosine of each residual state with the mean state of the last tokens.

    Formula: score_i = cos(h_i, mean(h_{T-W}, ..., h_{T-1})), h the residual stream after decoder layer L*. The mean is
    taken of unnormalised states; normalising the mean, as the paper writes, changes no cosine.
    Published defaults: L* = L // 2 (`layer=None`), W = 16. Its released harness uses layer 16 for every model.
    GQA: none; the residual stream has no heads. One set for all layers.
    Departure: scored once, after the prompt; the released harness scores again at every decode step. It also cuts W to
    the prompt's length silently; a window longer than the prompt is refused here.
    Source: vorn-mat 2589773, baselines/vorn.py:75-144.

    Attributes:
        layer: L*, 0-based, so that its output is `hidden_states[layer + 1]`; a percentage of the model's layers,
            rounded down; or None for half of them.
        window: W, trailing tokens that give the direction.
        direction: `mean`, as published, or `unit_mean`, in which every state of the window counts alike whatever its
            norm.
    """

    layer: int | str | None
    window: int
    direction: str

    def __post_init__(self) -> None:
        if self.window < 1:
            raise BadInput(f"policy.vorn.window={self.window}: must be at least 1 token; raise policy.vorn.window")
        if self.direction not in DIRECTIONS:
            raise BadInput(f"policy.vorn.direction={self.direction!r}: legal values are {', '.join(DIRECTIONS)}")

    def _layer(self, shape: ModelShape) -> int:
        layer = "50%" if self.layer is None else self.layer
        return layer_number("policy.vorn.layer", layer, shape.layers)

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The residual stream after L*."""
        return frozenset({Residual(self._layer(shape))})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32 in [-1, 1]."""
        if self.window > signals.prompt_tokens:
            raise BadInput(
                f"policy.vorn.window={self.window}: longer than a prompt of {signals.prompt_tokens} tokens; "
                "lower policy.vorn.window or lengthen the prompts"
            )
        states = signals[Residual(self._layer(signals.shape))].float()
        window = states[-self.window :]
        direction = (normalize(window, dim=1) if self.direction == "unit_mean" else window).mean(dim=0)
        return torch.cosine_similarity(states, direction[None], dim=1)[None, None]
