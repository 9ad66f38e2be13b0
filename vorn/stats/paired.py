"""Paired outcomes of two cells: the table, the exact McNemar test, and Holm's correction. Pure Python."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vorn.records import BadInput
from vorn.stats.intervals import Interval, check_counts

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTable:
    """Hits and misses of two cells on the same fixtures, and what the fixtures left out could change."""

    both: int  # fixtures that both cells hit
    lhs_only: int
    rhs_only: int
    neither: int
    n_excluded: int  # attempted in at least one cell, but without an outcome in one or both
    excluded_for_lhs: int  # of those: how many could, at best for lhs, count as lhs_only
    excluded_for_rhs: int  # and how many, at best for rhs, as rhs_only

    @classmethod
    def from_outcomes(cls, lhs: Mapping[Key, float | None], rhs: Mapping[Key, float | None]) -> PairedTable:
        """The table of two cells.

        Args:
            lhs: outcome by fixture; exactly 1.0 is a hit, None an attempt without an outcome.
            rhs: the same of the other cell. A fixture that one mapping lacks was not attempted there.
        """
        counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        n_excluded = for_lhs = for_rhs = 0
        for key in lhs.keys() | rhs.keys():
            left, right = lhs.get(key), rhs.get(key)
            if left is not None and right is not None:
                counts[left == 1.0, right == 1.0] += 1
                continue
            n_excluded += 1
            for_lhs += left in (None, 1.0) and right != 1.0
            for_rhs += right in (None, 1.0) and left != 1.0
        return cls(
            both=counts[True, True],
            lhs_only=counts[True, False],
            rhs_only=counts[False, True],
            neither=counts[False, False],
            n_excluded=n_excluded,
            excluded_for_lhs=for_lhs,
            excluded_for_rhs=for_rhs,
        )

    @property
    def n(self) -> int:
        """Fixtures with an outcome in both cells."""
        return self.both + self.lhs_only + self.rhs_only + self.neither

    @property
    def difference(self) -> float:
        """Hit rate of lhs minus that of rhs on the paired fixtures. Raises BadInput if there are none."""
        if self.n == 0:
            raise BadInput("n=0 paired fixtures: a difference needs at least 1; run both cells on the same fixtures")
        return (self.lhs_only - self.rhs_only) / self.n

    @property
    def worst_case(self) -> Interval:
        """Differences that are possible if the excluded fixtures had been measured, for any of their outcomes."""
        total = self.n + self.n_excluded
        if total == 0:
            raise BadInput("n=0 fixtures in both cells: a difference needs at least 1; run the cells first")
        known = self.lhs_only - self.rhs_only
        return Interval((known - self.excluded_for_rhs) / total, (known + self.excluded_for_lhs) / total)


def mcnemar_exact(lhs_only: int, rhs_only: int) -> float:
    """Exact two-sided p of McNemar's test: Binomial(m, 1/2) on the m discordant pairs; 1.0 if there are none.

    The sum runs over integers, so that the p-value is correctly rounded however small it is.
    """
    check_counts(lhs_only=lhs_only, rhs_only=rhs_only)
    m = lhs_only + rhs_only
    tail = term = 1
    for hits in range(min(lhs_only, rhs_only)):
        term = term * (m - hits) // (hits + 1)
        tail += term
    return min(1.0, 2 * tail / 2**m)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure, in the order given; monotone in p and at most 1."""
    for p in p_values:
        if not 0.0 <= p <= 1.0:
            raise BadInput(f"p_values holds {p!r}: legal values lie in [0, 1]; pass p-values only")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def smallest_discordant(alpha: float, family_size: int) -> int:
    """Least number of discordant pairs, all on one side, that reach `alpha` at Holm's first step: 2 * 0.5^m * size."""
    if not 0.0 < alpha < 1.0 or family_size < 1:
        raise BadInput(f"alpha={alpha!r}, family_size={family_size}: legal is 0 < alpha < 1 and family_size >= 1")
    m = 1
    while 2 * 0.5**m > alpha / family_size:
        m += 1
    return m
