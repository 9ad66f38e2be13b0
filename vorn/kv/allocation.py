"""How a budget is spread over layers and heads. Without an allocation every layer and KV head keeps the same number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from vorn.records import BadInput


class Allocation(Protocol):
    """Spreads the entries that the guards leave over; frozen and hashable."""

    def __call__(self, scores: Tensor, free: int, layers: int) -> list[list[int]]:
        """Entries to keep beside the guards, [layers][heads of `scores`].

        Args:
            scores: [1 or layers, 1 or Hkv, M] of the positions between the guards, higher means keep.
            free: mean number to keep per layer and head, 0 <= free <= M.
            layers: caches of the model.
        Returns: numbers in [0, M] whose sum is exactly layers * heads * free.
        """


@dataclass(frozen=True)
class Pyramid:
    """Lower layers keep more than upper ones, on a straight line (PyramidKV, arXiv:2406.02069).

    Formula, with C' = `free` and M positions to choose from: the top layer gets min = C' // beta, the bottom one
    max = 2 C' - min; if max > M, max = M and min = 2 C' - M. Layer l gets max - l (max - min) / (L - 1).
    Published default: beta = 20.
    Departure: shares are rounded by the largest remainder, so that the sum is exactly L C'; the published code rounds
    the line's slope down and keeps more, or fewer, than it was given. Its code spreads evenly if T < 2 C'; here the
    line, cut at M, flattens by itself.
    Source: Zefan-Cai/KVCache-Factory, pyramidkv_utils.py.

    Attributes:
        beta: how steep; 1 spreads evenly.
    """

    beta: int

    def __post_init__(self) -> None:
        if self.beta < 1:
            raise BadInput(f"allocation.pyramid.beta={self.beta}: must be at least 1, which spreads evenly; raise it")

    def __call__(self, scores: Tensor, free: int, layers: int) -> list[list[int]]:
        """The same number for all heads of a layer."""
        most = min(2 * free - free // self.beta, scores.shape[-1])
        least = 2 * free - most
        slope = Fraction(most - least, max(1, layers - 1))
        line = [most - layer * slope for layer in range(layers)] if layers > 1 else [Fraction(free)]
        return [[count] * scores.shape[1] for count in rounded(line)]


@dataclass(frozen=True)
class Adaptive:
    """Heads with more high scores keep more, within each layer (AdaKV, arXiv:2407.11550).

    Formula, with C' = `free`: of all (head, position) pairs of a layer the Hkv C' best are counted per head, c_h; head
    h keeps its own best (1 - floor) c_h + floor C'. Among equal scores the lower position counts first, then the lower
    head. Scores without a head axis are spread evenly.
    Published default: floor = 0.2.
    GQA: a head here is a KV head, with the score that the policy gives it.
    Departure: shares are rounded by the largest remainder, so that the sum is exact; the published code rounds each.
    Source: FFY0/AdaKV 0ae8e19, snapkv_utils.py. NVIDIA/kvpress protects each head's best floor * C' pairs instead.

    Attributes:
        floor: share of the budget that is spread evenly, in [0, 1].
    """

    floor: float

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise BadInput(f"allocation.adaptive.floor={self.floor}: must lie in [0, 1]; choose 0.2 as published")

    def __call__(self, scores: Tensor, free: int, layers: int) -> list[list[int]]:
        """Numbers per head; their sum is the same in every layer."""
        heads, floor = scores.shape[1], Fraction(str(self.floor))
        # Position by position, so that the stable sort leaves the lower position, then the lower head, first.
        order = scores.transpose(1, 2).flatten(1).sort(dim=-1, descending=True, stable=True).indices
        best = (order[:, : heads * free] % heads).cpu()
        counts = [torch.bincount(layer, minlength=heads).tolist() for layer in best]
        spread = [rounded([(1 - floor) * count + floor * free for count in layer]) for layer in counts]
        return spread * layers if len(spread) == 1 else spread


def rounded(shares: Sequence[Fraction]) -> list[int]:
    """Whole numbers next to `shares`, of the same sum, which is whole: the largest remainders are rounded up."""
    floors = [int(share // 1) for share in shares]
    missing = int(sum(shares)) - sum(floors)
    by_remainder = sorted(range(len(shares)), key=lambda i: (floors[i] - shares[i], i))
    for index in by_remainder[:missing]:
        floors[index] += 1
    return floors
