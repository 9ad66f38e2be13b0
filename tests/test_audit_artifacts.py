"""Published artifacts, recomputed: every kind of schema is read, and every wrong number in them is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import KINDS, cell, families, family, flat, legacy, observations, pair_test, row
from scipy import stats

from vorn.audit.__main__ import main
from vorn.audit.build import Audit, audit
from vorn.audit.exact import fisher_exact, wilson_by_z
from vorn.audit.published import Cells


def audited(folder: Path, *values: Any) -> Audit:
    """The audit of these values, one file each."""
    folder.mkdir(exist_ok=True)
    for index, value in enumerate(values):
        (folder / f"{index}.json").write_text(json.dumps(value))
    return audit([folder])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_schema_is_read_and_agrees(tmp_path, kind):
    value, rows, with_observations, totals = KINDS[kind]
    found = audited(tmp_path, value)
    artifact = found.files[0].artifact
    assert found.problems == ()
    assert found.disagreements == []
    assert (len(artifact.rows), sum(bool(one.observations) for one in artifact.rows)) == (rows, with_observations)
    sums = found.totals
    assert (sums.rows, sums.rows_with_observations, sums.observations) == totals[:3]
    assert (sums.cost_usd, round(sums.duration_h, 4)) == totals[3:]
    assert artifact.is_failure_list == (kind == "failures")


def put(path: str, value: Any) -> Callable[[Any], object]:
    """A change that puts `value` at a dotted path."""

    def change(item: Any) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in way:
            item = item[key]
        item[last] = value

    return change


@pytest.mark.parametrize(
    ("sample", "change", "what"),
    [
        (flat, put("rows.0.hits", 2), {"hits"}),
        (flat, put("rows.0.cases", 5), {"fixtures"}),
        (flat, put("rows.0.hit_rate", 0.7500001), {"rate"}),
        (flat, put("rows.0.wilson_ci_95.0", 0.3006361), {"Wilson interval"}),
        (flat, put("rows.1.observations.3.fixture_id", "other"), {"same fixtures", "table"}),
        (
            flat,
            put("rows.1.observations.3.fixture_id", "niah_multikey_1_4k-2"),
            {"distinct fixtures", "same fixtures", "table"},
        ),
        (flat, put("pairwise_tests.0.table", [[1, 2], [0, 1]]), {"table"}),
        (flat, put("pairwise_tests.0.p_value", 0.2500001), {"McNemar p"}),
        (flat, put("pairwise_tests.1.p_value", 0.5), {"McNemar p"}),
        (flat, put("pairwise_tests.0.discordant_pairs", 2), {"discordant pairs"}),
        (flat, put("pairwise_tests.0.lhs_discordant_share", 0.5), {"share of discordant pairs"}),
        (flat, put("pairwise_tests.0.paired", False), {"same fixtures"}),
        (lambda: cell("1110"), put("result.metrics.needle_hit_rate", 0.5), {"rate"}),
        (legacy, put("rows.0.hit_rate", 0.5), {"rate"}),
        (legacy, put("rows.0.wilson_ci_95.high", 0.99), {"Wilson interval"}),
        (legacy, put("significance.p_value", 0.4), {"Fisher p"}),
        (legacy, put("significance.odds_ratio", 1 / 9), {"odds ratio"}),
        (legacy, put("significance.absolute_hit_rate_delta", 0.4), {"difference"}),
        (legacy, put("analysis.requested_comparisons.0.p_value", 0.2), {"Fisher p"}),
        (legacy, put("analysis.requested_comparisons.0.significant_at_0_05", True), {"significance"}),
        (families, put("comparisons.0.paired_test.holm_adjusted_p_within_family", 0.015625), {"Holm p"}),
        (families, put("comparisons.1.paired_test.p_value", 0.5), {"McNemar p"}),
        (families, put("comparisons.1.classification", "directional_only"), {"label"}),
        (families, put("comparisons.2.classification", "directional_only"), {"label"}),
        (families, put("alpha", 0.03), {"label"}),
        (families, put("comparisons.0.lhs_hit_rate", 0.6), {"rate"}),
        (families, put("comparisons.0.delta_hit_rate", -0.7), {"difference"}),
        (families, put("claims.0.support.0.paired_test.holm_adjusted_p_within_family", 0.04), {"Holm p"}),
    ],
)
def test_a_wrong_number_is_a_disagreement(tmp_path, sample, change, what):
    value = copy.deepcopy(sample())
    change(value)
    found = audited(tmp_path, value)
    assert {check.what for check in found.files[0].differing} == what
    assert found.problems == ()
    assert main([str(tmp_path)]) == 5


def test_a_rate_of_n_fixtures_must_be_a_whole_number_of_hits(tmp_path):
    one = {"method": "vorn", "hit_rate": 0.51, "n": 50}
    assert audited(tmp_path / "a", {"cells": [one, {**one, "n": 100}]}).disagreements == [
        "0.json: cells[0] (vorn): rate is 0.51, the counts give 0.52"
    ]


def test_rows_of_one_label_in_two_artifacts_are_two_comparisons_of_a_family(tmp_path):
    one = family("x", 6, 0.0625, "directional_only")
    found = audited(tmp_path, {"comparisons": [{**one, "artifact_id": name} for name in ("here", "there")]})
    assert found.disagreements == []
    assert sum(check.what == "Holm p" for check in found.files[0].checks) == 2


def test_labels_mean_the_rows_of_their_own_model(tmp_path):
    first, second = flat(), flat()
    for one in second["rows"]:
        one["observations"] = observations("0111")
        one |= {"hits": 3, "hit_rate": 0.75, "wilson_ci_95": None}
    second["pairwise_tests"] = []
    found = audited(tmp_path, {"models": [second, first]})
    assert (found.disagreements, found.files[0].unresolved) == ([], ())
    assert sum(check.what == "McNemar p" for check in found.files[0].checks) == 3


def test_claims_that_cannot_be_recomputed_are_named(tmp_path):
    value = flat()
    value["rows"].append({**row("a", "0000"), "elapsed_seconds": 1.0})  # the label "a" means two rows now
    value["pairwise_tests"] += [
        {"lhs": "b", "rhs": "x", "test": "mcnemar_exact_two_sided", "p_value": 1.0},
        {"lhs": "b", "rhs": "c", "test": "chi_square", "p_value": 1.0},
    ]
    value["fixture_deltas"] = [
        {"lhs": "b", "rhs": "x", "lhs_only_correct_fixture_ids": [], "rhs_only_correct_fixture_ids": []}
    ]
    (file,) = audited(tmp_path, value).files
    assert [one.split(":")[0] for one in file.unresolved] == [
        *(f"pairwise_tests[{i}]" for i in range(5)),
        "fixture_deltas[0]",
    ]
    assert "label 'a' names 2 rows that differ" in file.unresolved[0]


def test_fixtures_of_one_side_are_compared(tmp_path):
    value = flat()
    ids = [f"niah_multikey_1_4k-{i}" for i in range(4)]
    delta = {"lhs": "a", "rhs": "c", "lhs_only_correct_fixture_ids": [ids[2]], "rhs_only_correct_fixture_ids": []}
    value["fixture_deltas"] = [delta]
    assert audited(tmp_path / "a", value).disagreements == []
    delta["lhs_only_correct_fixture_ids"] = [ids[1]]
    assert "fixtures of lhs alone is ['niah_multikey_1_4k-1']" in audited(tmp_path / "b", value).disagreements[0]


def test_a_run_in_several_places_is_found_by_its_content_and_counted_once(tmp_path):
    copied = row("another name", "1110", elapsed_seconds=flat()["rows"][0]["elapsed_seconds"])
    again = row("a", "1110", elapsed_seconds=99.0)
    unnamed = {"method": "x", "hits": 1, "cases": 4, "elapsed_seconds": 7.5, "estimated_cost_usd": 1.0}
    found = audited(
        tmp_path, flat(), {"rows": [copied, unnamed]}, {"ceiling": copied, "rows": [again, {**unnamed, "method": "y"}]}
    )
    same = [group for group in found.repeated if group.is_same_run]
    apart = [group for group in found.repeated if not group.is_same_run]
    assert [[place.row.where for place in group.places] for group in same] == [
        ["rows[0]", "rows[0]", "ceiling"],
        ["rows[1]", "rows[1]"],
    ]
    assert [[place.row.where for place in group.places] for group in apart] == [["rows[0]", "rows[0]"]]
    assert (found.totals.rows, found.totals.observations, found.totals.cost_usd) == (7, 20, 3.25)
    assert (found.totals_once.rows, found.totals_once.observations, found.totals_once.cost_usd) == (5, 16, 2.0)


def test_the_rule_is_inferred_from_completions_and_answers_that_other_rows_give_away(tmp_path):
    plain = row("plain", "1110")
    wordy = row("wordy", "1100", observations=observations("1100", wrap="It is {}."))
    strict = row(
        "strict", "1000", observations=[{**one, "correct": i == 0} for i, one in enumerate(plain["observations"])]
    )
    strict["observations"][1]["prediction"] = "It is 4712."
    strict["observations"][2]["prediction"] = "none"
    wrong = row("wrong", "1100", observations=[{**one, "correct": i < 2} for i, one in enumerate(observations("1011"))])
    told = audited(tmp_path / "a", {"rows": [plain, wordy, strict, wrong]}).files[0].inferred
    assert [one.verdict for one in told] == ["both", "v2", "v1", "neither"]
    assert told[3].contradicting == ("niah_multikey_1_4k-1", "niah_multikey_1_4k-2")
    assert [one.n_known for one in told] == [3] * 4
    alone = audited(tmp_path / "b", {"rows": [wordy]}).files[0].inferred
    assert [one.verdict for one in alone] == ["untold"]


def test_a_fixture_that_gives_two_answers_away_tells_nothing(tmp_path):
    other = observations("1110")
    other[0]["prediction"] = "9999"
    value = {"rows": [row("a", "1110"), row("b", "1110", observations=other)]}
    told = audited(tmp_path, value).files[0].inferred
    assert [(one.verdict, one.n_known) for one in told] == [("both", 2), ("both", 2)]


def test_paired_tests_are_told_under_both_rules(tmp_path):
    answers = [str(4711 + i) for i in range(8)]
    ids = [f"niah_multikey_1_4k-{i}" for i in range(8)]

    def strict(label: str, texts: list[str]) -> dict[str, Any]:
        seen = [
            {"fixture_id": key, "correct": text == answer, "prediction": text}
            for key, text, answer in zip(ids, texts, answers, strict=True)
        ]
        return {"label": label, "method": "m", "elapsed_seconds": float(len(texts[0])), "observations": seen}

    value = {
        "rows": [strict("bare", answers), strict("wordy", [f"It is {answer}." for answer in answers])],
        "pairwise_tests": [pair_test("bare", "wordy", [[0, 8], [0, 0]], 0.0078125)],
    }
    found = audited(tmp_path, value)
    assert found.disagreements == []
    assert [(one.n, one.p_values, one.is_torn) for one in found.files[0].by_rule] == [(8, (0.0078125, 1.0), True)]


def test_other_tasks_are_graded_by_equality_which_contradicting_outcomes_break(tmp_path):
    value = {"rows": [row("a", "1100", observations=observations("1100", task="qa_2_4k"))]}
    assert [one.verdict for one in audited(tmp_path / "a", value).files[0].inferred] == ["both"]
    value["rows"].append(copy.deepcopy(value["rows"][0]))
    value["rows"][1]["observations"][0]["correct"] = False
    assert [one.verdict for one in audited(tmp_path / "b", value).files[0].inferred] == ["neither", "neither"]


def test_the_same_completions_with_other_outcomes_are_a_disagreement(tmp_path):
    relaxed = row("a", "1110", observations=observations("1110", wrap="It is {}."))
    strict = copy.deepcopy(relaxed) | {"hits": 0, "hit_rate": 0.0, "wilson_ci_95": None, "elapsed_seconds": 5.0}
    for one in strict["observations"]:
        one["correct"] = False
    found = audited(tmp_path, {"rows": [relaxed]}, {"rows": [strict]})
    assert found.disagreements == [
        "the same completions have other outcomes: 0.json rows[0] (3 of 4); 1.json rows[0] (0 of 4)"
    ]


def test_fishers_test_equals_scipys_on_all_small_tables():
    for a, b, c, d in ((a, b, c, d) for a in range(6) for b in range(6) for c in range(6) for d in range(6)):
        table = [[a, b], [c, d]]
        assert fisher_exact(Cells(a, b, c, d)) == pytest.approx(stats.fisher_exact(table)[1], abs=1e-12)
        above = stats.fisher_exact(table, alternative="greater")[1]
        assert fisher_exact(Cells(a, b, c, d), one_sided=True) == pytest.approx(above, abs=1e-12)


@pytest.mark.parametrize("z", [1.0, 1.96, 2.5])
@pytest.mark.parametrize(("hits", "n"), [(0, 50), (13, 50), (50, 50), (47, 200)])
def test_wilsons_interval_for_any_quantile(hits, n, z):
    expected = stats.binomtest(hits, n).proportion_ci(2 * stats.norm.cdf(z) - 1, method="wilson")
    found = wilson_by_z(hits, n, z)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
