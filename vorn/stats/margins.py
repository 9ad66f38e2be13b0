"""Non-inferiority and equivalence: what data say about differences smaller than a margin. Pure Python.

Two one-sided tests (TOST), each at level alpha: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15:657 (1987);
with Tango's score statistic for paired rates: Tango, Statistics in Medicine 17:891 (1998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vorn.records import BadInput
from vorn.stats.intervals import Interval, tango_interval, tango_p_above


@dataclass(frozen=True, slots=True)
class Margins:
    """Claims about a margin, and the smallest margins that the data support; not corrected for a family."""

    p_noninferior: float  # of "lhs is worse than rhs by the margin or more"
    least_noninferior: float  # smallest margin for which lhs is shown to be no worse; 1 or more supports nothing
    p_equivalent: float  # of "they differ by the margin or more"
    least_equivalent: float


def margins(
    p_above: Callable[[float], float], p_below: Callable[[float], float], bounds: Interval, margin: float
) -> Margins:
    """The claims that one-sided tests and their bounds give.

    Args:
        p_above: one-sided p by hypothetical difference d: of "the difference is at most d".
        p_below: and of "the difference is at least d".
        bounds: the lower and the upper one-sided bound of the difference; the interval of level 1 - 2 alpha.
        margin: > 0, in the unit of the differences.
    """
    if margin <= 0.0:
        raise BadInput(f"margin={margin}: legal is > 0; 0.02 is 2 points")
    above = p_above(-margin)
    return Margins(
        p_noninferior=above,
        least_noninferior=max(0.0, -bounds.low),
        p_equivalent=max(above, p_below(margin)),
        least_equivalent=max(-bounds.low, bounds.high),
    )


def tango_margins(lhs_only: int, rhs_only: int, n: int, margin: float, alpha: float) -> Margins:
    """The claims for paired hits. Raises: BadInput as `tango_interval`, and for a margin that is not in (0, 1)."""
    return margins(
        lambda delta: tango_p_above(lhs_only, rhs_only, n, delta),
        lambda delta: tango_p_above(rhs_only, lhs_only, n, -delta),
        tango_interval(lhs_only, rhs_only, n, 1 - 2 * alpha),
        margin,
    )


def least_fixtures(margin: float, alpha: float) -> int:
    """Smallest n at which two cells with the same outcome on every fixture are shown to be within `margin`.

    No outcomes at all show equivalence with fewer; non-inferiority takes as many unless lhs hits fixtures that rhs
    misses. For 2 points at a one-sided 5 % it is 133.
    """
    n = 1
    while tango_p_above(0, 0, n, -margin) > alpha:
        n += 1
    return n
