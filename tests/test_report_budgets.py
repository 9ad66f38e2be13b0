"""Budget to success and choosing on one half, against needs and means written down by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from factories import PLAN, in_halves, make_contents, run_cell

from vorn.records import digest
from vorn.report import build_report
from vorn.report.markdown import render
from vorn.stats import TestPlan


def policy(name, low, high, **changes):
    return [
        *run_cell(low, policy=name, budget="64", **changes),
        *run_cell(high, policy=name, budget="256", **changes),
    ]


FULL = run_cell("1111110x", policy="full")


def test_the_need_is_the_smallest_budget_that_hits_or_the_prompt():
    """Needs of a: 64, 64, 256, 1000; of b: 64, 256, 1000, 1000. The ratio is the geometric mean."""
    a = policy("a", "11001x11", "10100111")
    b = policy("b", "10001111", "010011 1")
    (row,) = build_report(make_contents(*FULL, *a, *b)).budgets
    assert (row.lhs, row.rhs, row.budgets) == ("a/token", "b/token", "64,256")
    assert (row.n, row.n_full_missed, row.n_excluded) == (5, 1, 2)  # f6 is missed by full; f5 and f7 lack an outcome
    assert (row.lhs_never, row.rhs_never) == (1, 2)
    logs = [math.log(x / y) for x, y in zip((64, 64, 256, 1000, 64), (64, 256, 1000, 1000, 64), strict=True)]
    assert row.ratio == pytest.approx(math.exp(sum(logs) / 5))
    assert (row.p_value, row.test, row.p_method, row.family_size) == (0.5, "sign_flip", "exact", 1)
    assert (row.ratio_low, row.ratio_high) == (0.0, math.inf)  # five fixtures bound nothing


def test_a_real_ratio_reads_as_a_sentence_and_the_family_is_its_own():
    full = run_cell("1" * 20, policy="full")
    a, b = policy("a", "1" * 20, "1" * 20), policy("b", "0" * 20, "1" * 20)
    c = policy("c", "1" * 10 + "0" * 10, "1" * 20)
    report = build_report(make_contents(*full, *b, *a, *c))
    rows = {(row.lhs[0], row.rhs[0]): row for row in report.budgets}
    assert rows["b", "a"].ratio == pytest.approx(4.0)
    assert rows["b", "a"].p_holm == pytest.approx(3 * 2.0**-19)
    assert (rows["b", "a"].ratio_low, rows["b", "a"].ratio_high) == pytest.approx((4.0, 4.0))
    text = render(report)
    assert "a/token needs 0.25 [0.25 to 0.25] times the budget of b/token: 20 fixtures, p(Holm) \\< 0.001" in text
    assert {row.family_size for row in report.budgets} == {3}


def test_only_the_same_setting_and_two_common_budgets_are_compared():
    cells = [
        *run_cell("11", policy="full"),
        *policy("a", "10", "11"),
        *policy("b", "10", "11", unit="word"),
        *run_cell("11", policy="c", budget="64"),
        *run_cell("11", policy="d", budget="64"),
        *run_cell("11", policy="d", budget="128"),
    ]
    assert build_report(make_contents(*cells)).budgets == []
    without_full = [*policy("a", "10", "11"), *policy("b", "10", "11")]
    assert build_report(make_contents(*without_full)).budgets == []


def test_a_reference_that_misses_everything_leaves_nothing_to_compare():
    cells = [*run_cell("00", policy="full"), *policy("a", "10", "11"), *policy("b", "10", "11")]
    (row,) = build_report(make_contents(*cells)).budgets
    assert (row.n, row.n_full_missed, row.ratio, row.p_value, row.is_real) == (0, 2, None, None, False)
    assert "a/token and b/token" in render(build_report(make_contents(*cells)))


SELECT = TestPlan.from_config(PLAN | {"split": "select"})


def layers(*outcomes, **changes):
    return [
        seen for k, hits in enumerate(outcomes) for seen in run_cell(hits, policy="p", params=f"layer={k}", **changes)
    ]


def test_the_best_of_the_even_half_is_tested_on_the_odd_half():
    """layer=0 hits the odd fixtures only, layer=1 the even ones: the choice must not see what it is tested on."""
    cells = [
        *run_cell("1" * 8, policy="full"),
        *layers("01" * 4, "10" * 4, "10100000"),
        *run_cell("00011111", policy="q"),
    ]
    report = build_report(make_contents(*in_halves(cells)), SELECT)
    got = {row.cell: (row.chosen, row.n_select, row.select_mean, row.n_test, row.test_mean) for row in report.selection}
    assert got == {
        "p(layer=0)/token/64": (False, 4, 0.0, 4, 1.0),
        "p(layer=1)/token/64": (True, 4, 1.0, 4, 0.0),
        "p(layer=2)/token/64": (False, 4, 0.5, 4, 0.0),
    }
    pairs = {(pair.lhs, pair.rhs): pair for pair in report.pairs}
    assert set(pairs) == {
        ("p(layer=1)/token/64", "full"), ("q/token/64", "full"), ("p(layer=1)/token/64", "q/token/64"),
    }  # fmt: skip
    assert {pair.n for pair in report.pairs} == {4}
    assert pairs["p(layer=1)/token/64", "q/token/64"].rhs_only == 3  # q hits f3, f5 and f7
    assert len(report.cells) == 5
    text = render(report)
    assert (
        "p/token/64: p(layer=1)/token/64 chosen of 3, 100% of 4 where it was chosen, 0% of 4 where it is tested" in text
    )


def test_candidates_are_compared_on_common_fixtures_and_the_first_of_equal_ones_is_chosen():
    report = build_report(make_contents(*in_halves(layers("x0101", "10101"))), SELECT)
    assert [(row.chosen, row.n_select, row.select_mean) for row in report.selection] == [
        (True, 2, 1.0),
        (False, 2, 1.0),
    ]


def test_nothing_is_chosen_without_a_common_fixture():
    report = build_report(make_contents(*layers("1 x", "x 1"), *run_cell("111", policy="full")), SELECT)
    assert [(row.chosen, row.select_mean) for row in report.selection] == [(False, None), (False, None)]
    assert report.pairs == []
    assert "nothing chosen, because no fixture has an outcome in all 2 candidates" in render(report)


def test_fixtures_of_a_cluster_stay_in_one_half():
    cells = [replace(seen, cluster=f"c{seen.fixture_index // 4}") for seen in layers("1" * 40, "1" * 40)]
    (first, _) = build_report(make_contents(*cells), SELECT).selection
    tests = sum(int(digest(f"c{k}"), 16) % 2 for k in range(10))
    assert 0 < tests < 10
    assert (first.n_select, first.n_test) == (4 * (10 - tests), 4 * tests)
