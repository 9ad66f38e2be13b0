"""Which test a comparison gets, and the columns beside it: margins, power, noise, log-likelihoods."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
from factories import PLAN, make_contents, make_manifest, make_panel, run_cell
from scipy.stats import binomtest

from vorn.report import build_report
from vorn.report.markdown import render
from vorn.report.summaries import summaries
from vorn.report.words import sentence
from vorn.stats import TestPlan, least_fixtures, mcnemar_power, tango_interval, tango_p_above


def pair_of(*cells, **stats):
    (pair,) = build_report(make_contents(*cells), TestPlan.from_config(PLAN | stats)).pairs
    return pair


def clustered(cell, names):
    return [replace(seen, cluster=name) for seen, name in zip(cell, names, strict=True)]


def test_hits_are_tested_by_mcnemar_and_fractions_by_sign_flips():
    hits = pair_of(*run_cell("1111111000", policy="tova"), *run_cell("0000000011", policy="h2o"))
    assert (hits.test, hits.p_method, hits.ci_method) == ("mcnemar", "exact", "tango")
    assert (hits.lhs_mean, hits.rhs_mean) == (0.7, 0.2)
    half = pair_of(*run_cell("1h1hh0", policy="tova"), *run_cell("0h0000", policy="h2o"))
    assert (half.test, half.p_method, half.ci_method) == ("sign_flip", "exact", "sign_flip")
    # differences 1, 0, 1, 1/2, 1/2, 0: all signs must agree, 2 of 2^4 patterns
    assert (half.difference, half.p_value) == (3 / 6, 2 / 16)
    assert (half.lhs_only, half.rhs_only) == (2, 0)
    assert (half.difference_low, half.difference_high) == (0.0, 1.0)  # the least and the largest mean of a subset
    assert (half.least_discordant, half.detectable_difference) == (None, None)
    assert "mean outcome 58.3 % against 8.3 % on 6 fixtures" in sentence(half)


def test_clusters_flip_together_and_only_where_several_fixtures_share_one():
    """Oracle: the signs of four cluster sums, enumerated."""
    lhs = clustered(run_cell("1111110110", policy="tova"), "aaabbbccdd")
    rhs = clustered(run_cell("0000001000", policy="h2o"), "aaabbbccdd")
    got = pair_of(*lhs, *rhs)
    sums = (3, 3, 0, 1)
    reach = sum(abs(sum(s * v for s, v in zip(signs, sums, strict=True))) >= 7 for signs in product((1, -1), repeat=4))
    assert (got.test, got.p_value) == ("cluster_sign_flip", reach / 16)
    alone = pair_of(*clustered(lhs, "abcdefghij"), *clustered(rhs, "abcdefghij"))
    assert (alone.test, alone.p_value) == ("mcnemar", pytest.approx(binomtest(8, 9).pvalue))


def test_what_exclusions_could_change_counts_fractions():
    """Oracle: every missing outcome at 0 and at 1."""
    got = pair_of(*run_cell("hhx", policy="tova"), *run_cell("00h", policy="h2o"))
    assert (got.worst_low, got.worst_high) == ((0.5 + 0.5 + 0 - 0.5) / 3, (0.5 + 0.5 + 1 - 0.5) / 3)


def test_margins_are_claimed_against_full_and_corrected():
    full = run_cell("1" * 190 + "0" * 10, policy="full")
    cells = [*run_cell("1" * 190 + "0" * 9 + "1", policy="tova"), *run_cell("1" * 186 + "0" * 14, policy="h2o")]
    report = build_report(make_contents(*full, *cells))
    same, worse = report.evaluations[0].family("vs_full")
    (policies,) = report.evaluations[0].family("policies")
    p = [tango_p_above(1, 0, 200, -0.02), tango_p_above(0, 4, 200, -0.02)]
    assert [same.p_noninferior, worse.p_noninferior] == p
    assert p[0] < 0.025 < 0.05 < p[1]
    assert [same.p_noninferior_holm, worse.p_noninferior_holm] == [2 * p[0], p[1]]
    assert worse.least_margin == -tango_interval(0, 4, 200, 0.9).low
    assert worse.p_equivalent == max(p[1], tango_p_above(4, 0, 200, -0.02))
    assert (policies.p_noninferior, policies.least_margin) == (None, None)
    assert policies.p_equivalent is not None
    text = render(report)
    assert "no worse than full by 2 points or more: shown for 1 of 2 after Holm: tova/token/64; closest" in text
    assert "out of reach" not in text


def test_a_margin_that_is_out_of_reach_is_said():
    text = render(build_report(make_contents(*run_cell("1" * 40, policy="full"), *run_cell("1" * 40))))
    need = least_fixtures(0.02, 0.05)
    reach = tango_interval(0, 0, 40, 0.9).high
    assert need == 133
    assert (
        f"the same outcome on all 40 fixtures shows {math.ceil(1000 * reach) / 10}, and 133 fixtures are needed" in text
    )


def test_what_was_not_shown_stands_beside_what_could_have_been_found():
    (evaluation,) = build_report(
        make_contents(*make_panel()), TestPlan.from_config(PLAN | {"discordance": 0.5})
    ).evaluations
    pair = evaluation.family("units")[0]
    assert not pair.is_real
    found = pair.detectable_difference
    assert mcnemar_power(40, found, 0.5, 0.05 / 6) >= 0.8 > mcnemar_power(40, found - 1e-3, 0.5, 0.05 / 6)
    label = summaries(evaluation)[2].not_shown_label
    assert f"its power is 80 % for a true difference of {100 * found:.0f} points, if 50 % of 40 fixtures" in label
    (few,) = build_report(make_contents(*run_cell("1"), *run_cell("0", policy="h2o"))).evaluations
    assert few.pairs[0].detectable_difference is None
    assert "no difference has a power of 80 %, if 20 % of 1 fixtures" in summaries(few)[0].not_shown_label


def test_the_plan_sets_every_level():
    cells = [*run_cell("1" * 9 + "0" * 4, policy="tova"), *run_cell("0" * 13, policy="h2o")]
    strict = pair_of(*cells, alpha=0.001)
    assert (strict.p_value, strict.is_real, pair_of(*cells).is_real) == (2**-8, False, True)
    want = tango_interval(9, 0, 13, 0.999)
    assert (strict.difference_low, strict.difference_high) == pytest.approx((want.low, want.high))
    report = build_report(make_contents(*cells), TestPlan.from_config(PLAN | {"alpha": 0.1}))
    rates = binomtest(9, 13).proportion_ci(0.9, method="wilson")
    assert (report.cells[0].ci_low, report.cells[0].ci_high) == pytest.approx((rates.low, rates.high))
    text = render(report)
    assert "real after Holm at 10 %" in text
    assert "90 %" in text
    assert "95 %" not in text
    assert " 5 %" not in text


def test_families_that_are_not_planned_are_not_tested():
    plan = TestPlan.from_config(PLAN | {"families": ["units"]})
    assert {pair.family for pair in build_report(make_contents(*make_panel()), plan).pairs} == {"units"}


def replica(cell, original, **changes):
    return [replace(seen, cell_id="again", replica_of=original[0].cell_id, **changes) for seen in cell]


def test_a_replica_is_in_no_family_and_marks_what_is_not_above_the_noise():
    """Oracle: scipy's Wilson interval of 8 flips in 40."""
    tova, h2o = run_cell("1" * 30 + "0" * 10, policy="tova"), run_cell("1" * 22 + "0" * 18, policy="h2o")
    far = run_cell("0" * 40, policy="random")
    again = replica(run_cell("1" * 26 + "0000" + "1111" + "0" * 6, policy="tova"), tova)
    report = build_report(make_contents(*tova, *h2o, *far, *again))
    (row,) = report.noise
    limit = binomtest(8, 40).proportion_ci(method="wilson").high
    assert (row.cell.split()[0], row.n, row.flips, row.limit) == ("tova/token/64", 40, 8, pytest.approx(limit))
    near, *others = report.pairs
    assert {pair.lhs_id for pair in report.pairs} | {pair.rhs_id for pair in report.pairs} == {
        tova[0].cell_id, h2o[0].cell_id, far[0].cell_id,
    }  # fmt: skip
    assert (near.difference, near.is_real, near.above_noise) == (0.2, True, False)
    assert [pair.above_noise for pair in others] == [True, True]
    text = render(report)
    assert "(not above the noise floor)" in text
    assert "changes 8 of 40 outcomes, at most" in text
    assert "1 real difference not above the noise floor" in text


def test_without_a_replica_nothing_is_said_on_noise():
    report = build_report(make_contents(*make_panel()))
    assert {pair.above_noise for pair in report.pairs} == {None}
    assert "noise" not in render(report)


def test_log_likelihoods_show_what_hits_do_not():
    """Oracle: 14 of 15 differences of one sign; the enumerated p of sign patterns whose sum is as far from 0."""
    hits = "1" * 15
    lhs = [replace(seen, answer_nll=1.0 + i) for i, seen in enumerate(run_cell(hits, policy="tova"))]
    rhs = [replace(seen, answer_nll=1.5 + i) for i, seen in enumerate(run_cell(hits, policy="h2o"))]
    rhs[3] = replace(rhs[3], answer_nll=3.5)
    rhs[4] = replace(rhs[4], answer_nll=None)
    report = build_report(make_contents(*lhs, *rhs))
    (pair,) = report.pairs
    assert (pair.nll_n, pair.nll_difference) == (14, pytest.approx((-0.5 * 13 + 0.5) / 14))
    assert (pair.nll_p, pair.nll_p_holm) == (30 / 2**14, 30 / 2**14)  # at most one sign differs from the others
    assert pair.nll_low < pair.nll_difference < pair.nll_high < 0
    assert (pair.p_value, pair.is_real) == (1.0, False)
    assert (
        "1 comparison, 1 real after Holm at 5 %; 1 of them not shown by hits, in nats: tova/token/64 against"
        in render(report)
    )
    silent = pair_of(*run_cell(hits, policy="tova"), *rhs)
    assert (silent.nll_n, silent.nll_p) == (0, None)


def test_a_recorded_plan_is_followed():
    cells = [*run_cell("1" * 9, policy="tova"), *run_cell("0" * 9, policy="h2o")]
    manifest = make_manifest(config={"stats": PLAN | {"alpha": 0.001}})
    assert not build_report(make_contents(*cells, manifests=(manifest,))).pairs[0].is_real
    assert build_report(make_contents(*cells)).pairs[0].is_real
