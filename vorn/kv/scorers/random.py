"""Chance: what any policy must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.rules import DecodeRule, DecodeStep
from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import digest


@dataclass(frozen=True)
class Random:
    """A uniformly random order of the positions, drawn for each fixture.

    Formula: the scores are a random permutation of 0 to T-1, from a generator seeded by `seed` and the fixture. It is
    drawn on the CPU, so it is the same on every device, and is independent of the global random state.
    While decoding: an order of all positions so far is drawn anew at every token, so that each entry that no guard
    protects is as likely to go as any other.
    GQA: one set for all layers and heads.
    """

    seed: int

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Nothing."""
        return frozenset()

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32, whole numbers without ties."""
        return _drawn(signals.prompt_tokens, self.seed, signals.seed).to(signals.device)[None, None]

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """Any entry goes."""
        return _Any(self.seed, signals.seed)


class _Any:
    uses_attention = False
    residual_layer: int | None = None

    def __init__(self, *seeds: int) -> None:
        self.seeds = seeds

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        pass

    def observe(self, step: DecodeStep) -> None:
        pass

    def scores(self, step: DecodeStep) -> Tensor:
        order = _drawn(step.position + 1, *self.seeds, step.position).to(step.positions.device)
        return order[step.positions.clamp(min=0)]


def _drawn(count: int, *seeds: int) -> Tensor:
    """0 to count - 1 in an order that these seeds decide, [count] float32 on the CPU."""
    generator = torch.Generator().manual_seed(int(digest(list(seeds)), 16) >> 1)
    return torch.randperm(count, generator=generator).float()
