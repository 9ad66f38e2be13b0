"""Chance: what any policy must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import digest


@dataclass(frozen=True)
class Random:
    """A uniformly random order of the positions, drawn for each fixture.

    Formula: the scores are a random permutation of 0 to T-1, from a generator seeded by `seed` and the fixture. It is
    drawn on the CPU, so it is the same on every device, and is independent of the global random state.
    GQA: one set for all layers and heads.
    """

    seed: int

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Nothing."""
        return frozenset()

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32, whole numbers without ties."""
        generator = torch.Generator().manual_seed(int(digest([self.seed, signals.seed]), 16) >> 1)
        order = torch.randperm(signals.prompt_tokens, generator=generator)
        return order.to(signals.device, torch.float32)[None, None]
