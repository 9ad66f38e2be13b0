"""Margins against likelihoods on a grid and all tables of a size; power against the enumeration of all tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial, norm

from vorn.records import BadInput
from vorn.stats import (
    Interval,
    detectable_difference,
    fixtures_for,
    least_fixtures,
    margins,
    mcnemar_power,
    tango_interval,
    tango_margins,
    tango_p_above,
)

TABLES = [(0, 0, 30), (1, 0, 1), (3, 9, 40), (12, 0, 12), (0, 5, 20), (40, 31, 300)]


@pytest.mark.parametrize(("lhs_only", "rhs_only", "n"), TABLES)
@pytest.mark.parametrize("delta", [-0.02, -0.2, 0.1])
def test_the_one_sided_p_is_the_score_test(lhs_only, rhs_only, n, delta):
    """Oracle: the multinomial likelihood under the hypothesis, maximised over a fine grid."""
    q = np.linspace(max(0.0, -delta) + 1e-9, (1.0 - delta) / 2 - 1e-9, 400_001)
    counts = ((lhs_only, q + delta), (rhs_only, q), (n - lhs_only - rhs_only, 1 - delta - 2 * q))
    best = q[np.argmax(sum(count * np.log(p) for count, p in counts if count))]
    z = (lhs_only - rhs_only - n * delta) / math.sqrt(n * (2 * best + delta - delta**2))
    assert tango_p_above(lhs_only, rhs_only, n, delta) == pytest.approx(norm.sf(z), rel=1e-2, abs=1e-5)


@pytest.mark.parametrize(("lhs_only", "rhs_only", "n"), TABLES)
def test_the_smallest_margins_are_where_the_tests_begin_to_reject(lhs_only, rhs_only, n):
    """Oracle: the p-values just inside and just outside the bounds."""
    got = tango_margins(lhs_only, rhs_only, n, 0.1, 0.05)
    for step, rejects in ((1e-6, True), (-1e-6, False)):
        inferior, different = got.least_noninferior + step, got.least_equivalent + step
        if 0 < inferior < 1 and got.least_noninferior > 0:
            assert (tango_p_above(lhs_only, rhs_only, n, -inferior) <= 0.05) == rejects
        if different < 1:
            either = max(tango_p_above(*pair, n, -different) for pair in ((lhs_only, rhs_only), (rhs_only, lhs_only)))
            assert (either <= 0.05) == rejects
    assert got.p_noninferior == tango_p_above(lhs_only, rhs_only, n, -0.1)
    assert got.p_equivalent == max(got.p_noninferior, tango_p_above(rhs_only, lhs_only, n, -0.1))
    assert got.least_noninferior == max(0.0, -tango_interval(lhs_only, rhs_only, n, 0.9).low)


def test_no_evidence_against_no_difference_without_a_discordant_pair():
    assert tango_p_above(0, 0, 50, 0.0) == 1.0


def test_two_points_take_133_fixtures_and_no_table_of_132_shows_equivalence():
    """Enumeration of all tables that could; a cell that beats the reference is shown not to be worse with fewer."""
    assert least_fixtures(0.02, 0.05) == 133
    assert tango_margins(0, 0, 133, 0.02, 0.05).p_equivalent <= 0.05
    smallest = min(
        tango_margins(lhs_only, rhs_only, 132, 0.02, 0.05).p_equivalent
        for lhs_only in range(30)
        for rhs_only in range(lhs_only + 1)
    )
    assert smallest > 0.05
    assert tango_margins(3, 0, 100, 0.02, 0.05).p_noninferior < 0.05


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.3])
def test_least_fixtures_in_closed_form(margin):
    """Without a discordant pair z = sqrt(n margin / (1 - margin))."""
    assert least_fixtures(margin, 0.05) == math.ceil(norm.ppf(0.95) ** 2 * (1 - margin) / margin)


def test_margins_take_any_one_sided_tests():
    got = margins(lambda delta: 0.5 + delta, lambda delta: 0.9 - delta, Interval(-0.3, 0.1), 0.2)
    assert got.p_noninferior == 0.3
    assert got.p_equivalent == pytest.approx(0.7)
    assert (got.least_noninferior, got.least_equivalent) == (0.3, 0.3)
    assert margins(lambda _: 1.0, lambda _: 1.0, Interval(0.1, 0.4), 0.2).least_noninferior == 0.0


@pytest.mark.parametrize(
    ("n", "difference", "discordance", "alpha"), [(1, 0.0, 1.0, 0.05), (9, 0.5, 0.8, 0.05), (14, 0.4, 0.4, 0.1)]
)
def test_power_equals_the_enumeration_of_all_tables(n, difference, discordance, alpha):
    law = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    want = sum(
        multinomial.pmf([b, c, n - b - c], n, law)
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if b + c and binomtest(b, b + c).pvalue <= alpha
    )
    assert mcnemar_power(n, difference, discordance, alpha) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 20])
def test_the_detectable_difference_is_the_first_with_this_power(alpha):
    found = detectable_difference(100, 0.2, alpha, 0.8)
    assert mcnemar_power(100, found, 0.2, alpha) >= 0.8 > mcnemar_power(100, found - 2e-4, 0.2, alpha)


def test_few_fixtures_detect_nothing():
    """Five pairs cannot reach p = 0.05 at all; 20 rarely have six discordant ones."""
    assert detectable_difference(5, 1.0, 0.05, 0.8) is None
    assert detectable_difference(20, 0.2, 0.05, 0.8) is None


def test_the_number_of_fixtures_has_the_power_and_a_few_less_have_not():
    n = fixtures_for(0.1, 0.2, 0.05, 0.8)
    assert mcnemar_power(n, 0.1, 0.2, 0.05) >= 0.8 > mcnemar_power(n - 1, 0.1, 0.2, 0.05)
    # the usual approximation with the variance under either hypothesis, and z of 1.96 and 0.84, gives 155 without
    # the exact test's caution
    assert 155 < n < 190


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tango_p_above(0, 0, 0, 0.1), "n=0"),
        (lambda: tango_p_above(0, 0, 5, -1.0), r"delta=-1\.0"),
        (lambda: tango_margins(0, 0, 5, 0.0, 0.05), r"margin=0\.0"),
        (lambda: mcnemar_power(0, 0.1, 0.2, 0.05), "n=0"),
        (lambda: mcnemar_power(10, 0.3, 0.2, 0.05), r"difference=0\.3"),
        (lambda: fixtures_for(0.0, 0.2, 0.05, 0.8), r"difference=0\.0"),
    ],
)
def test_impossible_questions_are_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
