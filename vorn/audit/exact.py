"""Numbers of published results that the project's own statistics do not need: Fisher's exact test, intervals by z."""

from __future__ import annotations

import math
from statistics import NormalDist

from vorn.audit.published import Cells
from vorn.stats import Interval, wilson


def fisher_exact(cells: Cells, *, one_sided: bool = False) -> float:
    """The p-value of Fisher's exact test of [[hits, misses] of lhs, [hits, misses] of rhs]; 1.0 if a margin is empty.

    Two-sided: all tables with these margins that are no more probable than this one (Freeman and Halton 1951).
    One-sided: those with at least as many hits of lhs. Weights are integers, so equally probable tables compare equal.
    """
    row, other, column = cells.a + cells.b, cells.c + cells.d, cells.a + cells.c
    low, high = max(0, column - other), min(row, column)
    weights = [math.comb(row, low) * math.comb(other, column - low)]
    for hits in range(low, high):
        weights.append(weights[-1] * (row - hits) * (column - hits) // ((hits + 1) * (other - column + hits + 1)))
    own = weights[cells.a - low]
    chosen = weights[cells.a - low :] if one_sided else [weight for weight in weights if weight <= own]
    return sum(chosen) / sum(weights)


def wilson_by_z(hits: int, n: int, z: float) -> Interval:
    """Wilson's interval for a rounded normal quantile, as 1.96."""
    return wilson(hits, n, 2 * NormalDist().cdf(z) - 1)
