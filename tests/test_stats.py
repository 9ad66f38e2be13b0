"""Statistics against scipy, enumeration, brute-force likelihoods and published intervals."""

from __future__ import annotations

import math
from itertools import permutations, product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vorn.records import BadInput
from vorn.stats import (
    Interval,
    PairedTable,
    holm,
    mcnemar_exact,
    smallest_discordant,
    tango_interval,
    wilson,
)


@pytest.mark.parametrize(("lhs_only", "rhs_only"), [(0, 1), (1, 1), (0, 6), (3, 9), (20, 7), (50, 50), (300, 180)])
def test_mcnemar_equals_the_binomial_test(lhs_only, rhs_only):
    want = binomtest(lhs_only, lhs_only + rhs_only, 0.5).pvalue
    assert mcnemar_exact(lhs_only, rhs_only) == pytest.approx(want, rel=1e-12)
    assert mcnemar_exact(rhs_only, lhs_only) == mcnemar_exact(lhs_only, rhs_only)


def test_mcnemar_without_discordant_pairs_and_far_in_the_tail():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 1000) == 2.0**-999


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_the_closed_testing_procedure(p_values):
    """Oracle: the adjusted p of i is the largest Bonferroni p of any set of hypotheses that contains i."""
    subsets = [mask for mask in product([False, True], repeat=len(p_values)) if any(mask)]
    for index, got in enumerate(holm(p_values)):
        bonferroni = [
            min(1.0, sum(mask) * min(p for p, used in zip(p_values, mask, strict=True) if used))
            for mask in subsets
            if mask[index]
        ]
        assert got == max(bonferroni)


def test_holm_does_not_depend_on_the_order():
    fixed = dict(zip([0.01, 0.02, 0.03, 0.5], holm([0.01, 0.02, 0.03, 0.5]), strict=True))
    for order in permutations(fixed):
        assert holm(order) == [fixed[p] for p in order]
    assert holm([]) == []


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 100), (5, 100), (62, 100), (100, 100), (499, 500)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipy(hits, n, level):
    want = binomtest(hits, n).proportion_ci(level, method="wilson")
    got = wilson(hits, n, level)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-12)
    assert (got.low == 0.0, got.high == 1.0) == (hits == 0, hits == n)


def test_wilson_ends_exactly_at_0_and_1():
    for n in range(1, 300):
        assert (wilson(0, n).low, wilson(n, n).high) == (0.0, 1.0)


# Fagerland, Lydersen and Laake, BMC Medical Research Methodology 14 (2014), their first example.
def test_tango_gives_the_published_interval():
    got = tango_interval(1, 7, 21)
    assert (round(got.low, 3), round(got.high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(
    ("lhs_only", "rhs_only", "n"),
    [(0, 0, 30), (1, 0, 1), (3, 9, 40), (12, 0, 12), (0, 5, 20), (25, 10, 35), (40, 31, 300)],
)
def test_tango_limits_solve_the_score_equation(lhs_only, rhs_only, n):
    """Oracle: the multinomial likelihood under a fixed difference, maximised over a fine grid."""
    z = NormalDist().inv_cdf(0.975)
    interval = tango_interval(lhs_only, rhs_only, n)
    estimate = (lhs_only - rhs_only) / n
    assert -1.0 <= interval.low <= estimate <= interval.high <= 1.0
    for limit, sign in ((interval.low, 1), (interval.high, -1)):
        if abs(limit) < 1.0:
            score = _score_by_grid(limit, lhs_only, rhs_only, n)
            assert score == pytest.approx(sign * z, abs=2e-3)
        else:
            assert estimate == limit  # nothing lies beyond


def _score_by_grid(delta: float, lhs_only: int, rhs_only: int, n: int) -> float:
    low, high = max(0.0, -delta), (1.0 - delta) / 2
    for _ in range(3):  # refine the grid around its best point
        q = np.linspace(low, high, 20_001)
        log_likelihood = sum(
            count * np.log(np.maximum(p, 1e-300))
            for count, p in ((lhs_only, q + delta), (rhs_only, q), (n - lhs_only - rhs_only, 1 - delta - 2 * q))
            if count
        )
        best, step = q[np.argmax(log_likelihood)], q[1] - q[0]
        low, high = max(low, best - 2 * step), min(high, best + 2 * step)
    return (lhs_only - rhs_only - n * delta) / math.sqrt(n * (2 * best + delta - delta**2))


def test_tango_edge_cases():
    z2 = NormalDist().inv_cdf(0.975) ** 2
    none = tango_interval(0, 0, 30)
    assert (none.low, none.high) == pytest.approx((-z2 / (30 + z2), z2 / (30 + z2)))
    assert tango_interval(30, 0, 30).high == 1.0
    assert tango_interval(0, 30, 30).low == -1.0
    swapped = tango_interval(9, 3, 40)
    assert (-swapped.high, -swapped.low) == (tango_interval(3, 9, 40).low, tango_interval(3, 9, 40).high)


def test_tango_is_narrower_at_a_lower_level():
    wide, narrow = tango_interval(10, 4, 50, 0.95), tango_interval(10, 4, 50, 0.8)
    assert wide.low < narrow.low < 6 / 50 < narrow.high < wide.high


outcomes = st.dictionaries(st.integers(0, 7), st.sampled_from([1.0, 0.5, 0.0, None]), max_size=8)


@settings(max_examples=60)
@given(outcomes, outcomes)
def test_paired_table_equals_counting_and_its_worst_case_equals_enumeration(lhs, rhs):
    """Oracle for the range: try every completion of the missing outcomes."""
    table = PairedTable.from_outcomes(lhs, rhs)
    keys = sorted(lhs.keys() | rhs.keys())
    known = [key for key in keys if lhs.get(key) is not None and rhs.get(key) is not None]
    assert table.both == sum(lhs[key] == 1 and rhs[key] == 1 for key in known)
    assert table.lhs_only == sum(lhs[key] == 1 and rhs[key] != 1 for key in known)
    assert table.rhs_only == sum(lhs[key] != 1 and rhs[key] == 1 for key in known)
    assert table.neither == sum(lhs[key] != 1 and rhs[key] != 1 for key in known)
    assert (table.n, table.n_excluded) == (len(known), len(keys) - len(known))
    if keys:
        extremes = [0, 0]
        for key in keys:
            left = [lhs[key] == 1] if lhs.get(key) is not None else [False, True]
            right = [rhs[key] == 1] if rhs.get(key) is not None else [False, True]
            moves = [a - b for a, b in product(left, right)]
            extremes = [extremes[0] + min(moves), extremes[1] + max(moves)]
        assert table.worst_case == Interval(extremes[0] / len(keys), extremes[1] / len(keys))


def test_smallest_discordant_is_the_first_that_the_test_accepts():
    """Oracle: scipy's binomial test on m one-sided pairs, times the size of the family."""
    for size in (1, 3, 10, 40, 77):
        want = next(m for m in range(1, 50) if size * binomtest(0, m, 0.5).pvalue <= 0.05)
        assert smallest_discordant(0.05, size) == want
    assert smallest_discordant(0.05, 1) == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar_exact(-1, 2), "lhs_only=-1"),
        (lambda: holm([0.1, 1.2]), r"1\.2.*\[0, 1\]"),
        (lambda: wilson(0, 0), "hits=0 of n=0"),
        (lambda: wilson(3, 2), "hits=3 of n=2"),
        (lambda: wilson(1, 2, 95), "level=95"),
        (lambda: tango_interval(0, 0, 0), "n=0"),
        (lambda: tango_interval(2, 2, 3), "n=3 with lhs_only=2 and rhs_only=2"),
        (lambda: smallest_discordant(0.05, 0), "family_size=0"),
        (lambda: PairedTable.from_outcomes({}, {"a": 1.0}).difference, "n=0 paired fixtures"),
        (lambda: PairedTable.from_outcomes({}, {}).worst_case, "n=0 fixtures in both cells"),
    ],
)
def test_impossible_counts_are_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_wilson_covers_the_mean_of_graded_outcomes_and_is_where_the_score_equation_is():
    """Oracle: the score equation with the largest variance a mean allows; coverage by simulation, wide on purpose."""
    low, high = vars_of(wilson(6.3, 9, 0.95))
    z = NormalDist().inv_cdf(0.975)
    for end in (low, high):
        assert abs(6.3 / 9 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 9))
    draws = np.random.default_rng(5).beta(2, 1, size=(2000, 25))  # mean 2/3
    covered = [low <= 2 / 3 <= high for low, high in (vars_of(wilson(float(row.sum()), 25)) for row in draws)]
    assert np.mean(covered) > 0.95


def vars_of(interval):
    return interval.low, interval.high
