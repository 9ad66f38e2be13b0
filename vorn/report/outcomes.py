"""Two cells on their common fixtures, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vorn.report.columns import Column, Floats, Mask
from vorn.stats import (
    Interval,
    PairedTable,
    TestPlan,
    common_prefix,
)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Two cells on the fixtures that count.

    Attributes:
        lhs: one cell.
        rhs: the other, over the same axis of fixtures.
        looks: length of the common prefix where only that counts; None where all fixtures do.
    """

    lhs: Column
    rhs: Column
    looks: int | None

    @classmethod
    def of(cls, lhs: Column, rhs: Column, plan: TestPlan) -> Outcomes:
        """What is compared under this plan."""
        if not plan.is_sequential:
            return cls(lhs, rhs, None)
        looks = common_prefix(*({int(index) for index in side.index if index >= 0} for side in (lhs, rhs)))
        return cls(_before(looks, lhs), _before(looks, rhs), looks)

    @cached_property
    def is_paired(self) -> Mask:
        """The fixtures with an outcome in both cells."""
        return self.lhs.is_done & self.rhs.is_done

    @cached_property
    def paired(self) -> tuple[Floats, Floats]:
        """Outcomes of either cell on the paired fixtures, in fixture order."""
        return self.lhs.outcome[self.is_paired], self.rhs.outcome[self.is_paired]

    @cached_property
    def clusters(self) -> list[str]:
        """Of the paired fixtures."""
        return clusters_of(self.lhs, self.is_paired)

    @property
    def n(self) -> int:
        """Paired fixtures."""
        return len(self.paired[0])

    @cached_property
    def table(self) -> PairedTable:
        """Hits and misses, and what is excluded."""
        lhs, rhs = (side == 1.0 for side in self.paired)
        left_out = self._is_attempted & ~self.is_paired
        left, right = self.lhs.outcome[left_out], self.rhs.outcome[left_out]
        return PairedTable(
            both=int((lhs & rhs).sum()),
            lhs_only=int((lhs & ~rhs).sum()),
            rhs_only=int((~lhs & rhs).sum()),
            neither=int((~lhs & ~rhs).sum()),
            n_excluded=int(left_out.sum()),
            excluded_for_lhs=int(((np.isnan(left) | (left == 1.0)) & (right != 1.0)).sum()),
            excluded_for_rhs=int(((np.isnan(right) | (right == 1.0)) & (left != 1.0)).sum()),
        )

    @cached_property
    def is_clustered(self) -> bool:
        """Whether several paired fixtures share a cluster."""
        named = list(filter(None, self.clusters))
        return len(set(named)) < len(named)

    @cached_property
    def is_fractional(self) -> bool:
        """Whether some paired outcome is neither a hit nor a plain miss."""
        return any(bool(((side != 0.0) & (side != 1.0)).any()) for side in self.paired)

    @property
    def means(self) -> tuple[float, float] | tuple[None, None]:
        """Mean outcome of either cell on the paired fixtures."""
        if not self.n:
            return None, None
        lhs, rhs = self.paired
        return float(lhs.mean()), float(rhs.mean())

    @property
    def worst_case(self) -> Interval | None:
        """Differences that are possible for any outcome of the excluded fixtures; None without a fixture."""
        if not self._is_attempted.any():
            return None
        if not self.is_fractional:
            return self.table.worst_case
        lhs, rhs = (side.outcome[self._is_attempted] for side in (self.lhs, self.rhs))
        low = np.nan_to_num(lhs, nan=0.0) - np.nan_to_num(rhs, nan=1.0)
        high = np.nan_to_num(lhs, nan=1.0) - np.nan_to_num(rhs, nan=0.0)
        return Interval(float(low.mean()), float(high.mean()))

    @cached_property
    def _is_attempted(self) -> Mask:
        return self.lhs.is_attempted | self.rhs.is_attempted


def _before(looks: int, column: Column) -> Column:
    """The column without the fixtures that come later."""
    later = column.index >= looks
    return replace(column, index=np.where(later, -1, column.index), outcome=np.where(later, np.nan, column.outcome))


def clusters_of(column: Column, rows: Mask) -> list[str]:
    """The clusters of these rows of a column, in order."""
    return [column.clusters[row] for row in np.flatnonzero(rows).tolist()]
