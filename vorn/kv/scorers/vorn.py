"""Vorn: how well a token's residual state points where the end of the prompt points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vorn.kv.rules import DecodeRule, DecodeStep
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
    While decoding: the direction is the mean state of the last W tokens read, decoded ones included, and the entry
    whose state points elsewhere the most goes; a state stays as it was when its token was read, the refed token's is
    that of its second reading.
    Departure: under prefill_once scored once, after the prompt. The released harness scores again at every decode step,
    with states computed anew from the tokens that are left, and takes the direction from these alone. It also cuts W
    to the prompt's length silently; a window longer than the prompt is refused here.
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
            legal = ", ".join(DIRECTIONS)
            raise BadInput(f"policy.vorn.direction={self.direction!r}: legal values are {legal}; choose one")

    def _layer(self, shape: ModelShape) -> int:
        layer = "50%" if self.layer is None else self.layer
        return layer_number("policy.vorn.layer", layer, shape.depth)

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
        return _alignment(states[None], states[None, -self.window :], self.direction)[None]

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """The entries whose states point elsewhere go."""
        layer = self._layer(signals.shape)
        return _Alignment(signals[Residual(layer)], layer, self.window, self.direction)


class _Alignment:
    uses_attention = False

    def __init__(self, states: Tensor, layer: int, window: int, direction: str) -> None:
        self.states, self.window, self.direction = states, window, direction
        self.residual_layer: int | None = layer

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        index = positions[0, :, 0].clamp(min=0).to(self.states.device)
        self.held = self.states[index]  # [rows, slots, D]
        self.latest = self.states[-self.window :].expand(len(index), -1, -1)
        self.next = len(self.states)

    def observe(self, step: DecodeStep) -> None:
        state = step.seen_residual().to(self.held.device)[:, None]
        slots = step.slots[0, :, 0].to(self.held.device)[..., None].expand(-1, -1, self.held.shape[2])
        self.held.scatter_(1, slots, state)
        stays = self.latest[:, 1:] if step.position >= self.next else self.latest[:, :-1]
        self.latest = torch.cat([stays, state], dim=1)

    def scores(self, step: DecodeStep) -> Tensor:
        scores = _alignment(self.held.float(), self.latest.float(), self.direction)
        return scores[None, :, None].to(step.positions.device)


def _alignment(states: Tensor, window: Tensor, direction: str) -> Tensor:
    """[rows, n] cosines of states [rows, n, D] with the mean of [rows, W, D], all float32."""
    mean = (normalize(window, dim=2) if direction == "unit_mean" else window).mean(dim=1, keepdim=True)
    return torch.cosine_similarity(states, mean, dim=2)
