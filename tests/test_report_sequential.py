"""Reports on runs that may stop early: only what holds at any stop is printed, and what was saved is counted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from factories import make_config, make_contents, make_manifest, run_cell
from scipy.special import betaln

from vorn.records import Look
from vorn.report import build_report
from vorn.report.markdown import render
from vorn.stats import difference_sequence, rate_sequence


def sequential(*cells, **changes):
    """A report whose run planned 20 fixtures and could stop."""
    config = make_config(stop="sequential") | {"limit": 20} | changes.pop("config", {})
    return build_report(make_contents(*cells, manifests=(make_manifest(config=config),), **changes))


def log_e(b: int, c: int) -> float:
    return (b + c) * math.log(2) + betaln(b + 0.5, c + 0.5) - betaln(0.5, 0.5)


def test_only_anytime_valid_numbers_are_printed():
    """Oracle: scipy's beta function at the best look, nine one-sided pairs, before two speak for the other side."""
    lhs, rhs = run_cell("1" * 9 + "0011", policy="tova"), run_cell("0" * 9 + "1111", policy="h2o")
    report = sequential(*lhs, *rhs, looks=(Look(evaluation_id="e0", created="", fixtures=5),))
    (pair,) = report.pairs
    assert (pair.test, pair.p_method, pair.ci_method) == ("e_value", "anytime", "confidence_sequence")
    assert pair.max_log_e == pytest.approx(log_e(9, 0))
    assert pair.p_value == pytest.approx(math.exp(-log_e(9, 0)))
    want = difference_sequence(9, 2, 13, 0.05)
    assert (pair.difference_low, pair.difference_high) == (want.low, want.high)
    assert (pair.p_noninferior, pair.p_equivalent, pair.detectable_difference, pair.nll_p) == (None,) * 4
    assert pair.least_equivalence_margin == max(-want.low, want.high)
    cell = report.cells[0]
    want = rate_sequence(11, 13, 0.05)
    assert (cell.ci_method, cell.ci_low, cell.ci_high) == ("confidence_sequence", want.low, want.high)
    text = render(report)
    for fixed in ("McNemar", "Tango", "Wilson", "look 2", "power"):
        assert fixed not in text
    assert "1 / max E over the looks" in text


def test_holm_corrects_anytime_p_values():
    cells = [run_cell("1" * 12, policy="full"), run_cell("0" * 12, policy="a"), run_cell("1" * 12, policy="b")]
    pairs = sequential(*cells[0], *cells[1], *cells[2]).evaluations[0].family("vs_full")
    assert [pair.p_holm for pair in pairs] == pytest.approx([2 * math.exp(-log_e(12, 0)), 1.0])
    assert [pair.least_discordant for pair in pairs] == [8, 8]  # E(8, 0) is the first above 2 / 0.05


def test_pairs_end_where_a_cell_has_no_observation_and_errors_do_not_end_them():
    lhs, rhs = run_cell("1x11 111", policy="tova"), run_cell("00000000", policy="h2o")
    (pair,) = sequential(*lhs, *rhs).pairs
    assert (pair.looks, pair.n, pair.lhs_only, pair.n_excluded) == (4, 3, 3, 1)
    (none,) = sequential(*run_cell(" 1", policy="tova"), *run_cell("00", policy="h2o")).pairs
    assert (none.looks, none.n, none.p_value, none.worst_low) == (0, 0, None, None)


def test_fixtures_are_looked_at_in_their_order_whatever_order_they_were_measured_in():
    lhs, rhs = run_cell("1" * 9 + "0" * 9, policy="tova"), run_cell("0" * 9 + "1" * 9, policy="h2o")
    (pair,) = sequential(*lhs[::-1], *rhs).pairs
    assert (pair.lhs_only, pair.rhs_only) == (9, 9)
    assert pair.max_log_e == pytest.approx(log_e(9, 0))


def test_what_stopping_saved_is_counted_for_settled_cells_only():
    """far is rejected after 10 of 20; near could still differ, and so full, its partner, is open too."""
    full, far, near = (
        run_cell("1" * 12, policy="full"),
        run_cell("0" * 10, policy="far"),
        run_cell("1" * 12, policy="near"),
    )
    plan = {"families": ["vs_full"]}
    report = sequential(*full, *far, *near, config=make_config(stop="sequential", **plan) | {"limit": 20})
    saved = report.evaluations[0].saved
    assert (saved.planned, saved.fixtures, saved.rows, saved.prefills) == (20, 12, 10, 0)
    assert saved.stopped == (("far/token/64", 10),)
    assert saved.unfinished == ("full", "near/token/64")
    text = render(report)
    assert "stopped early: 1 cell settled after 10 of 20 fixtures; saved 10 decoded rows and 0 prefills" in text
    assert "unfinished, not settled: full, near/token/64; the same command continues" in text


def test_a_stopped_panel_saves_prefills():
    """After 16 of 20 fixtures without a discordant one, four more cannot reach 2 / 0.05."""
    full, same, far = (
        run_cell("1" * 16, policy="full"),
        run_cell("1" * 16, policy="same"),
        run_cell("0" * 16, policy="far"),
    )
    saved = sequential(*full, *same, *far).evaluations[0].saved
    assert (saved.unfinished, saved.rows, saved.prefills) == ((), 12, 4)


@pytest.mark.parametrize(("config", "planned"), [({"limit": None}, 100), ({"limit": None, "task": {}}, None)])
def test_the_planned_fixtures_come_from_the_configuration(config, planned):
    report = sequential(*run_cell("11", policy="full"), *run_cell("11"), config=config)
    assert report.evaluations[0].saved.planned == planned
    assert ("is not recorded: what stopping early saved is unknown" in render(report)) == (planned is None)


def test_clustered_fixtures_are_not_tested_and_that_is_said():
    cells = [
        replace(seen, cluster="a") for seen in [*run_cell("1" * 9, policy="tova"), *run_cell("0" * 9, policy="h2o")]
    ]
    report = sequential(*cells)
    (pair,) = report.pairs
    assert (pair.test, pair.p_value, pair.difference) == ("", None, 1.0)
    assert "no test here allows looking early: 1 comparison not tested" in render(report)


def test_a_run_that_cannot_stop_saves_nothing():
    assert build_report(make_contents(*run_cell("11"))).evaluations[0].saved is None
