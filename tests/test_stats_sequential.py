"""Anytime-valid tests against integrals, enumeration of all paths and futures, and simulation of continuous looking."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import betaln
from scipy.stats import beta, binomtest

from vorn.records import BadInput
from vorn.stats import Evidence, anytime_p, common_prefix, futile, log_e_value, rejected, replay, settled
from vorn.stats.sequential import smallest_discordant_anytime

ALPHA = 0.05


@pytest.mark.parametrize(("lhs_only", "rhs_only"), [(1, 0), (0, 6), (7, 0), (3, 9), (20, 22)])
@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
def test_the_e_value_is_the_mixed_likelihood_ratio(lhs_only, rhs_only, a):
    """Oracle: the ratio (2u)^b (2(1 - u))^c integrated over the Beta density of u."""
    want, _ = quad(lambda u: (2 * u) ** lhs_only * (2 * (1 - u)) ** rhs_only * beta.pdf(u, a, a), 0, 1)
    assert math.exp(log_e_value(lhs_only, rhs_only, a)) == pytest.approx(want, rel=1e-6)
    assert log_e_value(0, 0, a) == 0.0


def test_looking_after_every_pair_keeps_the_error_rate_and_peeking_with_mcnemar_does_not():
    """Exact: every path of 14 fair pairs. Seven one-sided pairs reach 20, and six reach p = 0.05 of the plain test."""
    crossed = peeked = 0
    for path in product((False, True), repeat=14):
        evidence = replay((hit, not hit) for hit in path)
        crossed += anytime_p(evidence.max_log_e) <= ALPHA
        ahead = np.cumsum(path)
        peeked += any(binomial_p(int(ahead[m]), m + 1) <= ALPHA for m in range(14))
    assert 2 * 2 ** (14 - 7) / 2**14 <= crossed / 2**14 <= ALPHA
    assert peeked / 2**14 > ALPHA


P_VALUES: dict[tuple[int, int], float] = {}


def binomial_p(k: int, n: int) -> float:
    if (k, n) not in P_VALUES:
        P_VALUES[k, n] = binomtest(k, n).pvalue
    return P_VALUES[k, n]


def test_the_error_rate_holds_over_hundreds_of_looks():
    """Simulation: 4,000 runs of 400 fair discordant pairs, a look after each; plain McNemar is wrong far more often."""
    pairs, runs = 400, 4000
    ahead = np.random.default_rng(5).integers(0, 2, (runs, pairs)).cumsum(axis=1)
    table = np.array(
        [[log_e_value(k, m - k) if k <= m else 0.0 for k in range(pairs + 1)] for m in range(1, pairs + 1)]
    )
    crossed = (table[np.arange(pairs), ahead] >= math.log(1 / ALPHA)).any(axis=1).mean()
    assert crossed <= ALPHA
    z = np.abs(2 * ahead - np.arange(1, pairs + 1)) / np.sqrt(np.arange(1, pairs + 1))
    assert (z[:, 20:] > 1.96).any(axis=1).mean() > 3 * ALPHA


def test_evidence_counts_discordant_pairs_in_order_and_remembers_its_maximum():
    hits = [(True, False)] * 7 + [(True, True), (False, False)] + [(False, True)] * 7
    evidence = replay(hits)
    assert (evidence.lhs_only, evidence.rhs_only) == (7, 7)
    assert evidence.max_log_e == pytest.approx(7 * math.log(2) + betaln(7.5, 0.5) - betaln(0.5, 0.5))
    assert anytime_p(evidence.max_log_e) < ALPHA < 1.0 == anytime_p(replay(hits[::-1][:0]).max_log_e)
    # an outcome more for either side, and the expected e-value stays what it is: a martingale
    ahead, behind = (math.exp(log_e_value(7 + i, 8 - i)) for i in (0, 1))
    assert (ahead + behind) / 2 == pytest.approx(math.exp(log_e_value(7, 7)))


def e_value(lhs_only: int, rhs_only: int) -> float:
    """Oracle: scipy's beta function."""
    return (lhs_only + rhs_only) * math.log(2) + betaln(lhs_only + 0.5, rhs_only + 0.5) - betaln(0.5, 0.5)


@pytest.mark.parametrize("threshold", [0.5, 1.0, math.log(20), math.log(400)])
def test_futile_means_that_no_future_reaches_the_threshold(threshold):
    for lhs_only, rhs_only, left in product(range(6), range(6), (0, 1, 4, 9)):
        futures = ((j, k) for j in range(left + 1) for k in range(left + 1 - j))
        reachable = any(e_value(lhs_only + j, rhs_only + k) >= threshold for j, k in futures)
        assert futile(lhs_only, rhs_only, left, threshold) == (not reachable)


def test_rejections_are_those_of_holm():
    """Oracle: Holm's procedure written out: the largest first, against 1/alpha times the number still there."""
    max_log_e = {"a": math.log(81), "b": math.log(61), "c": math.log(19), "d": math.log(1e9)}
    assert rejected(max_log_e, ALPHA) == {"a", "b", "d"}  # thresholds 80, 60, 40, 20 in the order d, a, b, c
    assert rejected(max_log_e | {"c": math.log(21)}, ALPHA) == {"a", "b", "c", "d"}
    assert rejected(max_log_e | {"a": math.log(59), "b": math.log(59)}, ALPHA) == {"d"}
    assert rejected({}, ALPHA) == set()


def test_settled_pairs_never_change_whatever_comes():
    """Enumeration: three pairs, every possible future of each; what is called futile is in no future rejected."""
    evidence = {"far": Evidence(12, 0, e_value(12, 0)), "near": Evidence(6, 0, e_value(6, 0)), "even": Evidence(3, 3)}
    left = {"far": 2, "near": 3, "even": 3}
    got = settled(evidence, left, ALPHA)
    assert (got.rejected, got.futile) == ({"far"}, {"even"})
    ever: set[str] = set()
    for steps in product(range(4), repeat=2):
        future = {"far": e_value(12, 0), "near": e_value(6 + steps[0], 0), "even": e_value(3 + steps[1], 3)}
        ever |= rejected(future, ALPHA)
    assert ever == {"far", "near"}


def test_pairs_that_are_beyond_reach_put_others_beyond_reach():
    """Alone, ten one-sided pairs may suffice; with three hopeless pairs the threshold is four times as high."""
    one = {"one": Evidence(4, 0, e_value(4, 0))}
    assert not settled(one, {"one": 4}, ALPHA).futile
    others = {name: Evidence(5, 5) for name in ("x", "y", "z")}
    left = {"one": 4, "x": 1, "y": 1, "z": 1}
    assert e_value(8, 0) < math.log(4 / ALPHA) < math.log(81) < e_value(9, 0)
    assert settled(one | others, left, ALPHA).futile == {"one", "x", "y", "z"}
    assert settled(one | others, left | {"one": 5}, ALPHA).futile == {"x", "y", "z"}


def test_the_family_wise_error_rate_holds_at_any_stop():
    """Simulation: 600 runs of 5 pairs without a difference and 3 with one, looked at after each of 60 fixtures."""
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(600):
        evidence = {k: Evidence() for k in range(8)}
        speaks = random.random((60, 8)) < np.array([0.5] * 5 + [0.95] * 3)
        for row in speaks:
            for k, hit in enumerate(row):
                evidence[k].observe(bool(hit), not hit)
        wrong += any(k < 5 for k in rejected({k: one.max_log_e for k, one in evidence.items()}, ALPHA))
    assert 0 < wrong / 600 <= ALPHA


@pytest.mark.parametrize(
    ("lhs", "rhs", "want"), [("", "01", 0), ("012", "01", 2), ("013", "0123", 2), ("12", "012", 0)]
)
def test_the_common_prefix_ends_at_the_first_fixture_that_a_cell_lacks(lhs, rhs, want):
    assert common_prefix(set(map(int, lhs)), set(map(int, rhs))) == want


def test_smallest_discordant_anytime_is_the_first_that_reaches_the_threshold():
    for size in (1, 4, 40):
        want = next(m for m in range(1, 50) if e_value(m, 0) >= math.log(size / ALPHA))
        assert smallest_discordant_anytime(ALPHA, size) == want
    assert smallest_discordant_anytime(ALPHA, 1) == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_e_value(-1, 2), "lhs_only=-1"),
        (lambda: log_e_value(1, 2, 0.0), r"a=0\.0"),
        (lambda: futile(1, 1, -1, 3.0), "left=-1"),
        (lambda: smallest_discordant_anytime(0.05, 0), "family_size=0"),
    ],
)
def test_impossible_evidence_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
