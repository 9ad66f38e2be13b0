"""The numbers of a report: families, order, exclusions and mixed situations, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import make_contents, make_observation, run_cell
from scipy.stats import binomtest

from vorn.ledger import Disagreement
from vorn.records import BadInput, ContractWork, Look
from vorn.report import build_report


def only(report):
    (evaluation,) = report.evaluations
    return evaluation


def test_cell_rows_count_what_is_there():
    cells = [*run_cell("1", policy="full"), *run_cell("110hx", kept_tokens=10.0, budget="25%")]
    cells[3] = replace(cells[3], budget_tokens=55, kept_tokens=20.0, evidence_kept=None)
    cells[5] = replace(cells[5], budget_tokens=9999, kept_tokens=9999.0)
    _, row = only(build_report(make_contents(*cells))).cells
    want = binomtest(2, 4).proportion_ci(method="wilson")
    assert (row.cell, row.n, row.n_errors, row.hits, row.hit_rate) == ("tova/token/25%", 4, 1, 2, 0.5)
    assert row.mean_outcome == (1 + 1 + 0 + 0.5) / 4
    assert (row.ci_low, row.ci_high, row.ci_method) == (pytest.approx(want.low), pytest.approx(want.high), "wilson")
    assert row.mean_budget_tokens == (25 + 25 + 55 + 25) / 4
    assert row.mean_kept_tokens == (10 + 10 + 20 + 10) / 4
    assert row.mean_evidence_kept == 0.5


def test_cells_are_ordered_reference_first_then_by_first_appearance_and_budget():
    names = [("tova", "token", "128"), ("vorn", "sentence", "64"), ("tova", "token", "64"), ("tova", "token", "2%")]
    names += [("full", "", ""), ("vorn", "token", "64"), ("tova", "sentence", "1000")]
    cells = [make_observation(policy=policy, unit=unit, budget=budget) for policy, unit, budget in names]
    got = [cell.cell for cell in only(build_report(make_contents(*cells))).cells]
    assert got == [
        "full",
        "tova/token/2%",
        "tova/token/64",
        "tova/token/128",
        "tova/sentence/1000",
        "vorn/token/64",
        "vorn/sentence/64",
    ]


def test_families_compare_what_differs_in_one_thing_only():
    settings = [
        {"policy": "full"},
        {"policy": "tova"},
        {"policy": "vorn", "params": "layer=1"},
        {"policy": "vorn", "params": "layer=2"},
        {"policy": "tova", "unit": "word"},
        {"policy": "tova", "budget": "128"},
        {"policy": "h2o", "guards": "published", "cell": "published"},
        {"policy": "h2o", "contract": "context_once", "cell": "context_once"},
        {"policy": "h2o", "guards": "published", "contract": "context_once", "cell": "both"},
        {"policy": "vorn", "params": "layer=2", "unit": "word", "budget": "128"},
    ]
    evaluation = only(build_report(make_contents(*(make_observation(**one) for one in settings))))
    families = {
        name: {frozenset((pair.lhs, pair.rhs)) for pair in evaluation.family(name)}
        for name in ("vs_full", "policies", "units", "guards", "contracts")
    }
    pruned = {cell.cell for cell in evaluation.cells} - {"full"}
    assert families["vs_full"] == {frozenset((cell, "full")) for cell in pruned}
    assert families["policies"] == {
        frozenset(("tova/token/64", "vorn(layer=1)/token/64")),
        frozenset(("tova/token/64", "vorn(layer=2)/token/64")),
        frozenset(("vorn(layer=1)/token/64", "vorn(layer=2)/token/64")),
    }
    assert families["units"] == {frozenset(("tova/token/64", "tova/word/64"))}
    assert families["guards"] == {frozenset(("context_once", "both"))}
    assert families["contracts"] == {frozenset(("published", "both"))}
    assert [len(evaluation.family(name)) for name in families] == [9, 3, 1, 1, 1]


def test_a_reference_of_the_same_contract_is_preferred():
    cells = [
        make_observation(policy="full"),
        make_observation(policy="full", contract="reforward"),
        make_observation(policy="tova"),
        make_observation(policy="tova", contract="reforward"),
        make_observation(policy="tova", contract="context_once"),
    ]
    evaluation = only(build_report(make_contents(*cells)))
    ids = {cell.cell_id: cell.contract for cell in evaluation.cells}
    got = [(ids[pair.lhs_id], ids[pair.rhs_id]) for pair in evaluation.family("vs_full")]
    assert sorted(got) == [
        ("context_once", "prefill_once"),
        ("prefill_once", "prefill_once"),
        ("reforward", "reforward"),
    ]


def test_pair_rows_hold_counts_and_exact_p_values_corrected_within_the_family():
    """Oracle: scipy's binomial test; Holm's products written out."""
    cells = [
        *run_cell("1" * 20, policy="full"),
        *run_cell("1" * 10 + "0" * 10, policy="tova"),
        *run_cell("0" * 4 + "1" * 6 + "0" * 10, policy="h2o"),
        *run_cell("0" * 12 + "1" * 8, policy="random"),
    ]
    evaluation = only(build_report(make_contents(*cells)))
    pairs = {(pair.lhs.split("/")[0], pair.rhs.split("/")[0]): pair for pair in evaluation.family("policies")}
    counts = {names: (p.both, p.lhs_only, p.rhs_only, p.neither) for names, p in pairs.items()}
    assert counts == {
        ("tova", "h2o"): (6, 4, 0, 10),
        ("tova", "random"): (0, 10, 8, 2),
        ("h2o", "random"): (0, 6, 8, 6),
    }
    exact = {names: binomtest(p.lhs_only, p.lhs_only + p.rhs_only).pvalue for names, p in pairs.items()}
    assert {names: pair.p_value for names, pair in pairs.items()} == pytest.approx(exact)
    assert pairs["tova", "h2o"].p_holm == pytest.approx(3 * 0.125)
    assert {pair.family_size for pair in pairs.values()} == {3}
    assert pairs["tova", "random"].difference == 0.1
    full = evaluation.family("vs_full")
    assert [pair.p_holm for pair in full] == pytest.approx([2**-9 * 1, 2**-13 * 3, 2**-11 * 2])
    assert [pair.is_real for pair in full] == [True, True, True]
    assert not any(pair.is_real for pair in pairs.values())


def test_corrections_do_not_cross_evaluations():
    one = [*run_cell("1" * 6, policy="full"), *run_cell("0" * 6)]
    other = [replace(seen, evaluation_id="e1", cell_id=seen.cell_id + "x", model="large") for seen in one]
    report = build_report(make_contents(*one, *other))
    assert [pair.p_holm for pair in report.pairs] == [2**-5, 2**-5]
    assert [pair.family_size for pair in report.pairs] == [1, 1]
    assert [(pair.model, pair.n) for pair in report.pairs] == [("pocket", 6), ("large", 6)]
    assert [len(evaluation.manifests) for evaluation in report.evaluations] == [1, 1]


def test_pairs_are_made_on_common_outcomes_and_the_rest_is_counted():
    lhs, rhs = run_cell("11x0 1", policy="tova"), run_cell("0x1 1x", policy="h2o")
    (pair,) = only(build_report(make_contents(*lhs, *rhs))).pairs
    assert (pair.n, pair.n_excluded, pair.lhs_only, pair.difference) == (1, 5, 1, 1.0)
    # f1 and f5 could add 0 or 1, f2 and f4 -1 or 0, f3 -1 or 0
    assert (pair.worst_low, pair.worst_high) == ((1 - 3) / 6, (1 + 2) / 6)


@pytest.mark.parametrize("change", [{"fingerprint": "other"}, {"grade": "ruler_any@1"}])
def test_a_fixture_that_is_not_the_same_in_both_cells_makes_no_pair(change):
    lhs, rhs = run_cell("11", policy="tova"), run_cell("00", policy="h2o")
    rhs[0] = replace(rhs[0], **change)
    (pair,) = only(build_report(make_contents(*lhs, *rhs))).pairs
    assert (pair.n, pair.lhs_only, pair.n_excluded) == (1, 1, 2)


def test_cells_without_common_fixtures_are_not_tested_and_do_not_enlarge_the_family():
    cells = [*run_cell("111111", policy="full"), *run_cell("000000", policy="tova"), *run_cell("xx", policy="h2o")]
    evaluation = only(build_report(make_contents(*cells)))
    tested, untested = evaluation.family("vs_full")
    assert (tested.p_holm, tested.family_size, tested.is_real) == (2**-5, 1, True)
    assert (untested.n, untested.n_excluded, untested.difference, untested.difference_low) == (0, 6, None, None)
    assert (untested.p_value, untested.p_holm, untested.is_real, untested.is_contradictory) == (
        None,
        None,
        False,
        False,
    )
    assert (untested.worst_low, untested.worst_high) == (-1.0, 0.0)
    broken = evaluation.cells[-1]
    assert (broken.n, broken.n_errors, broken.hit_rate, broken.ci_low, broken.mean_outcome) == (0, 2, None, None, None)


def test_interval_and_exact_test_that_disagree_are_marked():
    """Five one-sided pairs of 100: p is 2 / 32, and Tango's interval lies above 0."""
    lhs, rhs = run_cell("1" * 5 + "0" * 95, policy="tova"), run_cell("0" * 100, policy="h2o")
    (pair,) = only(build_report(make_contents(*lhs, *rhs))).pairs
    assert pair.p_value == 0.0625
    assert pair.difference_low > 0
    assert pair.is_contradictory
    lhs[5:7] = run_cell("     11", policy="tova")
    (pair,) = only(build_report(make_contents(*lhs, *rhs))).pairs
    assert not pair.is_contradictory


def test_only_what_survives_holm_is_real():
    """Six one-sided pairs: p is 2 / 64, which is below 0.05 alone and not three times."""
    lhs, rhs = run_cell("1" * 6, policy="tova"), run_cell("0" * 6, policy="h2o")
    assert [pair.is_real for pair in only(build_report(make_contents(*lhs, *rhs))).pairs] == [True]
    more = run_cell("111000", policy="random")
    pairs = only(build_report(make_contents(*lhs, *rhs, *more))).pairs
    assert [pair.p_value for pair in pairs if pair.lhs_only == 6] == [2 / 64]
    assert not any(pair.is_real for pair in pairs)


def test_labels_that_do_not_tell_cells_apart_get_ids():
    cells = [make_observation(guards="matched"), make_observation(guards="none"), make_observation(policy="h2o")]
    rows = only(build_report(make_contents(*cells))).cells
    assert [row.cell for row in rows] == [
        f"tova/token/64 #{cells[0].cell_id[:6]}",
        f"tova/token/64 #{cells[1].cell_id[:6]}",
        "h2o/token/64",
    ]


def test_errors_are_grouped_by_message():
    cells = run_cell("x1xx", policy="tova") + run_cell("x", policy="h2o") + run_cell(" x", policy="random")
    cells[0] = replace(cells[0], error="all NaN")
    groups = only(build_report(make_contents(*cells))).errors
    assert [(one.message, one.count, one.cells, one.fixture_id) for one in groups] == [
        ("all NaN", 1, ("tova/token/64",), "f0"),
        ("broke", 4, ("tova/token/64", "h2o/token/64", "random/token/64"), "f2"),
    ]


@pytest.mark.parametrize(("recorded", "want"), [([], (3,)), ([3], (3,)), ([2], (2, 3)), ([1, 2, 3], (1, 2, 3))])
def test_looks_end_with_the_present_one(recorded, want):
    looks = tuple(Look(evaluation_id="e0", created="", fixtures=fixtures) for fixtures in recorded)
    looks += (Look(evaluation_id="another", created="", fixtures=99),)
    assert only(build_report(make_contents(*run_cell("101x"), looks=looks))).looks == want


def test_the_state_of_the_ledgers_is_passed_on():
    disagreement = Disagreement(cell="c", fixture_id="f", field="outcome", kept=1.0, dropped=0.0)
    report = build_report(make_contents(*run_cell("1"), disagreements=(disagreement,), duplicates=3))
    assert (report.disagreements, report.duplicates) == ((disagreement,), 3)


def test_empty_ledgers_are_refused():
    with pytest.raises(BadInput, match="0 observations: a report needs at least 1"):
        build_report(make_contents())


def test_what_a_contract_spent_is_a_mean_over_fixtures_with_an_outcome():
    spent = [ContractWork(seconds=s, forwards=7, read_tokens=n, evictions=e) for s, n, e in ((1, 10, 2), (2, 30, 4))]
    seen = [make_observation(fixture_id=f"f{i}", contract_work=one) for i, one in enumerate(spent)]
    failed = make_observation(fixture_id="f2", outcome=None, error="x", contract_work=ContractWork(seconds=99.0))
    plain = make_observation(fixture_id="f0", policy="full")
    full, cell = only(build_report(make_contents(*seen, failed, plain))).cells
    assert (cell.mean_work_s, cell.mean_work_forwards, cell.mean_work_read_tokens) == (1.5, 7.0, 20.0)
    assert (cell.mean_work_written_tokens, cell.mean_work_evictions) == (0.0, 3.0)
    assert (full.mean_work_s, full.mean_work_evictions) == (None, None)
