"""Tests that hold at any stopping time: e-values of discordant pairs, and Holm's correction on them. Pure Python.

A run may look after each fixture and stop when it likes: under the hypothesis that a discordant pair speaks for either
cell with probability 1/2, the e-value is a nonnegative martingale that starts at 1, so that its running maximum reaches
1/alpha with probability at most alpha (Ville's inequality). Source: Ramdas, Grunwald, Vovk, Shafer, Statistical Science
38:576 (2023). Assumption: fixtures are independent, and their order does not depend on outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from vorn.records import BadInput

Key = TypeVar("Key", bound=Hashable)

MIXTURE = 0.5
"""a of the Beta(a, a) mixture: Jeffreys' prior, also known as the Krichevsky-Trofimov mixture.

Its growth falls short of the best alternative's by at most log(m) / 2 + log(2) nats after m discordant pairs, whatever
that alternative is, also a completely one-sided one, which is what eviction at a low budget looks like. Seven one-sided
pairs reach 20; the uniform mixture, a = 1, needs eight.
"""


def log_e_value(lhs_only: int, rhs_only: int, a: float = MIXTURE) -> float:
    """Natural logarithm of E = 2^m B(lhs_only + a, rhs_only + a) / B(a, a) for m discordant pairs; 0.0 for none.

    The likelihood ratio of "a discordant pair speaks for lhs with probability u", u mixed over Beta(a, a), against
    u = 1/2. Raises: BadInput for a negative count or a <= 0.
    """
    if lhs_only < 0 or rhs_only < 0 or a <= 0.0:
        raise BadInput(f"lhs_only={lhs_only}, rhs_only={rhs_only}, a={a}: legal are counts >= 0 and a > 0")
    if lhs_only + rhs_only == 0:
        return 0.0
    return (lhs_only + rhs_only) * math.log(2.0) + log_beta(lhs_only + a, rhs_only + a) - log_beta(a, a)


def log_beta(x: float, y: float) -> float:
    """Logarithm of the beta function of positive numbers."""
    return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)


def anytime_p(max_log_e: float) -> float:
    """min(1, 1 / max E): a p-value at whichever fixture the run was stopped."""
    return min(1.0, math.exp(-max_log_e))


@dataclass(slots=True)
class Evidence:
    """What the looks at a pair have shown so far; updated per fixture in O(1)."""

    lhs_only: int = 0
    rhs_only: int = 0
    max_log_e: float = 0.0  # over all looks, the one before the first fixture included

    def observe(self, lhs_hit: bool, rhs_hit: bool) -> None:
        """Take in the next fixture, in fixture order, of those with an outcome in both cells."""
        if lhs_hit == rhs_hit:
            return
        self.lhs_only += lhs_hit
        self.rhs_only += rhs_hit
        self.max_log_e = max(self.max_log_e, log_e_value(self.lhs_only, self.rhs_only))


def replay(hits: Iterable[tuple[bool, bool]]) -> Evidence:
    """The evidence after looking at each pair (lhs hit, rhs hit) in turn."""
    evidence = Evidence()
    for lhs_hit, rhs_hit in hits:
        evidence.observe(lhs_hit, rhs_hit)
    return evidence


def futile(lhs_only: int, rhs_only: int, left: int, log_threshold: float) -> bool:
    """Whether E stays below the threshold whatever the `left` fixtures that are still to come bring.

    E is convex in the numbers of further discordant pairs, so that it is largest with all of them on one side.
    """
    if left < 0:
        raise BadInput(f"left={left}: legal is the number of fixtures still to come, >= 0")
    most = max(log_e_value(lhs_only + left, rhs_only), log_e_value(lhs_only, rhs_only + left))
    return most < log_threshold


def rejected(max_log_e: Mapping[Key, float], alpha: float) -> set[Key]:
    """The pairs of one family that differ, by Holm's procedure on their anytime-valid p-values.

    The family-wise error rate is at most `alpha` at any stopping time of the whole run, since each p-value is valid
    there; a rejection stays one, since the running maxima only grow.
    """
    found: set[Key] = set()
    for key in sorted(max_log_e, key=lambda one: -max_log_e[one]):
        if max_log_e[key] < math.log((len(max_log_e) - len(found)) / alpha):
            break
        found.add(key)
    return found


class Settled(NamedTuple):
    """Pairs of one family on which further fixtures change nothing."""

    rejected: Collection[Hashable]
    futile: Collection[Hashable]


def settled(evidence: Mapping[Key, Evidence], left: Mapping[Key, int], alpha: float) -> Settled:
    """Which pairs of one family are decided: rejected already, or never to be rejected.

    If k pairs can never be rejected, Holm's procedure rejects another one only at 1 / (k + 1) of alpha or less; raising
    the threshold so can make further pairs futile, until nothing changes.

    Args:
        evidence: of each pair of the family.
        left: fixtures still to come for the pair, those without an outcome in one of the cells included.
        alpha: family-wise error rate.
    """
    done = rejected({key: one.max_log_e for key, one in evidence.items()}, alpha)
    hopeless: set[Key] = set()
    while True:
        threshold = math.log((len(hopeless) + 1) / alpha)
        more = {
            key
            for key, one in evidence.items()
            if key not in done
            and key not in hopeless
            and one.max_log_e < threshold
            and futile(one.lhs_only, one.rhs_only, left[key], threshold)
        }
        if not more:
            return Settled(done, hopeless)
        hopeless |= more


def smallest_discordant_anytime(alpha: float, family_size: int) -> int:
    """Least number of discordant pairs, all on one side, whose E reaches family_size / alpha: Holm's first step."""
    if not 0.0 < alpha < 1.0 or family_size < 1:
        raise BadInput(f"alpha={alpha!r}, family_size={family_size}: legal is 0 < alpha < 1 and family_size >= 1")
    m = 1
    while log_e_value(m, 0) < math.log(family_size / alpha):
        m += 1
    return m


def common_prefix(lhs: Collection[int], rhs: Collection[int]) -> int:
    """Length k of the prefix on which a pair is looked at: both cells attempted each of the fixtures 0..k-1.

    Args:
        lhs: indices of the fixtures that the cell attempted, with an outcome or an error; constant-time membership.
        rhs: the same of the other cell.
    An error makes no pair but does not end the prefix; a fixture that one cell lacks does, whatever comes later.
    """
    length = 0
    while length in lhs and length in rhs:
        length += 1
    return length
