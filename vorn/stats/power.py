"""Power of the exact McNemar test at an assumed discordance, never at an observed effect. Pure Python.

With n pairs, a share d of which is discordant, the number of discordant pairs is Binomial(n, d), and of m such pairs
those for lhs are Binomial(m, (1 + difference / d) / 2). The power sums over both, exactly: Miettinen, Biometrics 24:339
(1968). Observed power says nothing that p does not: Hoenig and Heisey, The American Statistician 55:19 (2001).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from vorn.records import BadInput

_NEGLIGIBLE = 1e-12  # of a probability, where a sum may end
_RESOLUTION = 1e-4  # of a difference: a hundredth of a point


def mcnemar_power(n: int, difference: float, discordance: float, alpha: float) -> float:
    """Probability that the exact two-sided McNemar test rejects at level `alpha`.

    Args:
        n: paired fixtures, >= 1.
        difference: true difference of the hit rates, 0 <= difference <= discordance.
        discordance: true share of discordant pairs, in (0, 1].
        alpha: of this one test; in a family of k, Holm's first step tests at alpha / k.
    Raises: BadInput outside these ranges.
    """
    if n < 1 or not 0.0 < discordance <= 1.0 or not 0.0 <= difference <= discordance or not 0.0 < alpha < 1.0:
        raise BadInput(
            f"n={n}, difference={difference}, discordance={discordance}, alpha={alpha}: legal is n >= 1, 0 < alpha < 1 "
            "and 0 <= difference <= discordance <= 1; assume a discordance of at least the difference"
        )
    share = (1.0 + difference / discordance) / 2
    weights = _weights(n, discordance)
    criticals = _criticals(min(weights), max(weights), alpha)
    for_lhs, for_rhs = (_tails(criticals, p) for p in (1.0 - share, share))
    return min(1.0, math.fsum(weights[m] * (for_lhs[m] + for_rhs[m]) for m in weights))


@cache
def detectable_difference(n: int, discordance: float, alpha: float, power: float) -> float | None:
    """Smallest true difference that is found with probability `power`, to a hundredth of a point, rounded up.

    Returns: None if not even a completely one-sided discordance is found as often.
    """
    if mcnemar_power(n, discordance, discordance, alpha) < power:
        return None
    missed, found = 0.0, discordance
    while found - missed > _RESOLUTION:
        middle = (missed + found) / 2
        if mcnemar_power(n, middle, discordance, alpha) < power:
            missed = middle
        else:
            found = middle
    return found


@cache
def fixtures_for(difference: float, discordance: float, alpha: float, power: float) -> int:
    """Number of fixtures at which a true difference is found with probability `power`.

    An exact test's power rises in n with small steps back; the search assumes that it rises, so that the number may be
    a step above the very first that suffices; the power there is reached.
    Raises: BadInput unless 0 < difference <= discordance and 0 < power < 1.
    """
    if not 0.0 < difference <= discordance or not 0.0 < power < 1.0:
        raise BadInput(
            f"difference={difference}, discordance={discordance}, power={power}: legal is 0 < difference <= "
            "discordance and 0 < power < 1; 0.8 is usual"
        )
    enough = 1
    while mcnemar_power(enough, difference, discordance, alpha) < power:
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if mcnemar_power(middle, difference, discordance, alpha) < power:
            short = middle
        else:
            enough = middle
    return enough


@cache
def _weights(n: int, discordance: float) -> dict[int, float]:
    """Probability of m discordant pairs among n, by m in rising order, where it is not negligible."""
    centre = int(n * discordance)
    weights: dict[int, float] = {}
    for step in (range(centre - 1, -1, -1), range(centre, n + 1)):
        for m in step:
            weight = _binomial(m, n, discordance)
            if weight < _NEGLIGIBLE:
                break
            weights[m] = weight
    return dict(sorted(weights.items()))


@cache
def _criticals(first: int, last: int, alpha: float) -> dict[int, int]:
    """By number of discordant pairs m, largest count of the rarer side that the test rejects; -1 if there is none.

    It rises by at most one from m to m + 1.
    """
    tail = _Tail(first, -1, 0.5)
    while tail.count < first and 2 * (tail.value + tail.next) <= alpha:
        tail.raise_count()
    found = {first: tail.count}
    for m in range(first + 1, last + 1):
        tail.add_pair()
        if tail.count < m and 2 * (tail.value + tail.next) <= alpha:
            tail.raise_count()
        found[m] = tail.count
    return found


def _tails(criticals: Mapping[int, int], p: float) -> dict[int, float]:
    """P(Binomial(m, p) <= the critical count of m), by m, which rises by one from entry to entry."""
    first = min(criticals)
    tail = _Tail(first, criticals[first], p)
    found = {}
    for m, count in criticals.items():
        if m > tail.m:
            tail.add_pair()
        while tail.count < count:
            tail.raise_count()
        found[m] = tail.value
    return found


class _Tail:
    """P(Binomial(m, p) <= count), from one m and one count to the next in constant time.

    P(X_(m+1) <= c) = P(X_m <= c) - p P(X_m = c), since only a success in the new trial leaves the tail.
    """

    def __init__(self, m: int, count: int, p: float) -> None:
        self.m, self.count, self._p = m, count, p
        mode = int((m + 1) * p)
        terms = []
        for k in range(count, -1, -1):
            terms.append(_binomial(k, m, p))
            if k < mode and terms[-1] < _NEGLIGIBLE**2:
                break
        self.value = math.fsum(terms)

    @property
    def next(self) -> float:
        """P(Binomial(m, p) = count + 1)."""
        return _binomial(self.count + 1, self.m, self._p)

    def raise_count(self) -> None:
        self.value += self.next
        self.count += 1

    def add_pair(self) -> None:
        if self.count >= 0:
            self.value = max(0.0, self.value - self._p * _binomial(self.count, self.m, self._p))
        self.m += 1


def _binomial(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) = k)."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    return math.exp(log)
