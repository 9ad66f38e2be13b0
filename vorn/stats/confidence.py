"""Confidence sequences: intervals that hold at every fixture at once, so that a run may stop where it likes.

Source: Waudby-Smith and Ramdas, J. Royal Statistical Society B 86:1 (2024), betting on bounded means; Robbins, Annals
of Mathematical Statistics 41:1397 (1970), mixtures. Assumption: as for the e-values, see `vorn.stats.sequential`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from vorn.records import BadInput
from vorn.stats.intervals import Interval, check_counts
from vorn.stats.sequential import MIXTURE, log_beta

_RESOLUTION = 1e-9  # of a limit; the outer end is returned


def difference_sequence(lhs_only: int, rhs_only: int, n: int, alpha: float) -> Interval:
    """Confidence sequence of a paired difference at its n-th pair: all delta with E(delta) < 1 / alpha.

    E(delta) = integral of prod_i (1 + bet * (D_i - delta)) over the bets that keep every factor nonnegative, -1 / (1 -
    delta) to 1 / (1 + delta), with the Beta(a, a) density scaled to that range; D_i in {-1, 0, 1} is the difference of
    the hits of pair i. At delta = 0 it is exactly the e-value of `log_e_value`, so that test and interval agree at any
    one fixture. Its logarithm is convex in delta, so that the set is an interval; at the observed difference E <= 1.
    Raises: BadInput if n = 0, there are more discordant pairs than pairs, or alpha is not in (0, 1).
    """
    check_counts(lhs_only=lhs_only, rhs_only=rhs_only)
    _check(lhs_only + rhs_only, n, alpha)
    estimate = (lhs_only - rhs_only) / n
    log_e = _log_difference_e(lhs_only, rhs_only, n)
    return Interval(_limit(log_e, estimate, -1.0, alpha), _limit(log_e, estimate, 1.0, alpha))


def rate_sequence(hits: float, n: int, alpha: float) -> Interval:
    """Confidence sequence of a hit rate after n fixtures: all rates whose beta-binomial e-value is below 1 / alpha.

    E(rate) = B(hits + a, n - hits + a) / B(a, a) / (rate^hits (1 - rate)^(n - hits)).
    `hits` may be a sum of outcomes between 0 and 1, and the rate their mean: (p/q)^x ((1-p)/(1-q))^(1-x) is at most
    x p/q + (1-x) (1-p)/(1-q) (means inequality), whose expectation is 1 if x has mean q, so that E stays an e-value.
    Raises: BadInput if n = 0, hits > n, or alpha is not in (0, 1).
    """
    check_counts(hits=hits)
    _check(hits, n, alpha)
    mixed = log_beta(hits + MIXTURE, n - hits + MIXTURE) - log_beta(MIXTURE, MIXTURE)

    def log_e(rate: float) -> float:
        likelihood = (hits * math.log(rate) if hits else 0.0) + ((n - hits) * math.log1p(-rate) if n > hits else 0.0)
        return mixed - likelihood

    return Interval(_limit(log_e, hits / n, 0.0, alpha), _limit(log_e, hits / n, 1.0, alpha))


def _log_difference_e(lhs_only: int, rhs_only: int, n: int) -> Callable[[float], float]:
    """Logarithm of E as a function of delta in (-1, 1).

    With u the bet's place in its range, from 0 to 1, a factor is 2u / (1 + delta) for D = 1, 2(1 - u) / (1 - delta)
    for D = -1, and their mean for D = 0. Expanding the z factors of D = 0 makes the integral a finite sum:
    E = sum_j C(z, j) 2^(b + c) B(b + j + a, c + z - j + a) / B(a, a) (1 + delta)^-(b + j) (1 - delta)^-(c + z - j).
    """
    import numpy as np

    z = n - lhs_only - rhs_only
    terms = np.array(
        [
            (lhs_only + rhs_only) * math.log(2.0)
            + math.lgamma(z + 1) - math.lgamma(j + 1) - math.lgamma(z - j + 1)
            + log_beta(lhs_only + j + MIXTURE, rhs_only + z - j + MIXTURE) - log_beta(MIXTURE, MIXTURE)
            for j in range(z + 1)
        ]
    )  # fmt: skip
    ups = lhs_only + np.arange(z + 1)

    def log_e(delta: float) -> float:
        logs = terms - ups * math.log1p(delta) - (n - ups) * math.log1p(-delta)
        highest = float(logs.max())
        return highest + math.log(float(np.exp(logs - highest).sum()))

    return log_e


def _limit(log_e: Callable[[float], float], estimate: float, end: float, alpha: float) -> float:
    """The limit between the estimate, which belongs to the set, and the end of the range, by bisection."""
    inside, outside = estimate, end
    while abs(outside - inside) > _RESOLUTION:
        middle = (inside + outside) / 2
        if log_e(middle) < -math.log(alpha):
            inside = middle
        else:
            outside = middle
    return outside


def _check(part: float, n: int, alpha: float) -> None:
    if n < 1 or part > n or not 0.0 < alpha < 1.0:
        raise BadInput(
            f"n={n} with {part} counted among them and alpha={alpha}: legal is n >= 1, not more counted than n, and "
            "0 < alpha < 1; leave cells without outcomes out"
        )
