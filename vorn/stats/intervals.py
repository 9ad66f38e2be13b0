"""Score intervals of rates and of paired differences: Wilson's and Tango's. Pure Python."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from vorn.records import BadInput


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends belong to it."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


def wilson(hits: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval (1927) of a hit rate, without continuity correction.

    `hits` may be a sum of outcomes between 0 and 1: then it is an interval of the mean outcome, and a wide one, because
    it takes the variance m (1 - m), the largest that outcomes with mean m can have.
    """
    check_counts(hits=hits)
    if n < 1 or hits > n:
        raise BadInput(f"hits={hits} of n={n}: legal is n >= 1 and hits <= n; leave cells without outcomes out")
    z2 = _normal_quantile(level) ** 2
    centre = (hits + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return Interval(centre - half if hits else 0.0, centre + half if hits < n else 1.0)


def tango_interval(lhs_only: int, rhs_only: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of the paired difference (lhs_only - rhs_only) / n.

    All differences whose score statistic, with the other parameter at its constrained maximum, stays within the
    normal quantile. Source: Tango, Statistics in Medicine 17:891 (1998).
    Raises: BadInput if n = 0 or there are more discordant pairs than pairs.
    """
    _check_pairs(lhs_only, rhs_only, n)
    z = _normal_quantile(level)
    return Interval(-_tango_upper(rhs_only, lhs_only, n, z), _tango_upper(lhs_only, rhs_only, n, z))


def tango_p_above(lhs_only: int, rhs_only: int, n: int, delta: float) -> float:
    """One-sided p of Tango's score test: how well the data fit a difference of at most `delta`.

    Args:
        lhs_only: fixtures that only lhs hit.
        rhs_only: fixtures that only rhs hit.
        n: paired fixtures.
        delta: hypothetical difference of the hit rates, lhs minus rhs, in (-1, 1).
    The statistic is the one of `tango_interval`: p <= alpha exactly where the interval of level 1 - 2 alpha lies above.
    Raises: BadInput as `tango_interval`, and for a `delta` outside.
    """
    _check_pairs(lhs_only, rhs_only, n)
    if not -1.0 < delta < 1.0:
        raise BadInput(f"delta={delta}: legal is -1 < delta < 1, as a fraction; 2 points are 0.02")
    distance = lhs_only - rhs_only - n * delta
    variance = _tango_variance(delta, lhs_only, rhs_only, n)
    if variance <= 0.0:  # delta = 0 without a discordant pair: the data say nothing against it
        return 1.0
    return NormalDist().cdf(-distance / math.sqrt(variance))


def _tango_upper(lhs_only: int, rhs_only: int, n: int, z: float) -> float:
    """Upper limit by bisection: the estimate lies inside, 1 outside, and the statistic falls between them."""
    inside, outside = (lhs_only - rhs_only) / n, 1.0
    while inside < (middle := (inside + outside) / 2) < outside:
        distance = n * middle - (lhs_only - rhs_only)
        if distance**2 <= z * z * _tango_variance(middle, lhs_only, rhs_only, n):
            inside = middle
        else:
            outside = middle
    return outside


def _tango_variance(delta: float, lhs_only: int, rhs_only: int, n: int) -> float:
    """Variance of lhs_only - rhs_only where the true difference is `delta`.

    P(rhs_only) at its constrained maximum is the larger root of 2n q^2 + b q + c; written so that nothing cancels.
    """
    b = (2 * n - lhs_only + rhs_only) * delta - lhs_only - rhs_only
    c = -rhs_only * delta * (1 - delta)
    root = math.sqrt(max(0.0, b * b - 8 * n * c))
    q = -2 * c / (b + root) if b > 0 else (root - b) / (4 * n)
    return n * (2 * q + delta * (1 - delta))


def _normal_quantile(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise BadInput(f"level={level!r}: legal values lie strictly between 0 and 1; 0.95 is usual")
    return NormalDist().inv_cdf((1 + level) / 2)


def _check_pairs(lhs_only: int, rhs_only: int, n: int) -> None:
    check_counts(lhs_only=lhs_only, rhs_only=rhs_only)
    if n < 1 or lhs_only + rhs_only > n:
        raise BadInput(
            f"n={n} with lhs_only={lhs_only} and rhs_only={rhs_only}: legal is n >= 1 and lhs_only + rhs_only <= n; "
            "leave pairs of cells without common fixtures out"
        )


def check_counts(**counts: float) -> None:
    """Raise BadInput for a negative count, by its name."""
    for name, count in counts.items():
        if count < 0:
            raise BadInput(f"{name}={count}: a count is at least 0; pass the counts of a paired table")
