"""Rates by sub-task: which fixtures count where, the table and the text, and what a run records."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from factories import in_halves, make_contents, run_cell
from rich.console import Console
from scipy.stats import binomtest

from callbacks.wandb_tables import _summary
from tests.composing import composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import Axes, Fixture, Observation
from vorn.report import build_report, print_report, write_report
from vorn.report.markdown import render
from vorn.report.page import build_page

HEADER = (
    "cell_id,cell,model,task,subtask,n,n_errors,hits,hit_rate,mean_outcome,ci_low,ci_high,ci_method,mean_evidence_kept"
)


def mixed() -> list[Observation]:
    """Sub-tasks in turn, vt before cwe; the second cell has no fixture of the third."""
    found = []
    for outcomes, policy in (("1h011x1", "full"), ("0101h ", "tova")):
        for seen in run_cell(outcomes, policy=policy):
            found.append(replace(seen, subtask=("vt", "cwe", "qa_1")[seen.fixture_index % 3]))
    return [seen for seen in found if (seen.policy, seen.subtask) != ("tova", "qa_1")][::-1]


def test_every_cell_has_a_row_per_sub_task_in_the_order_of_the_fixtures(tmp_path: Path) -> None:
    report = build_report(make_contents(*mixed()))
    got = [(row.cell.split("/")[0], row.subtask, row.n, row.n_errors, row.hits) for row in report.subtasks]
    assert got == [
        ("full", "vt", 3, 0, 3), ("full", "cwe", 2, 0, 1), ("full", "qa_1", 1, 1, 0), ("tova", "vt", 2, 0, 1),
        ("tova", "cwe", 2, 0, 1),
    ]  # fmt: skip
    assert [row.mean_outcome for row in report.subtasks] == [1.0, 0.75, 0.0, 0.5, 0.75]
    want = binomtest(1, 2).proportion_ci(0.95, "wilson")
    assert (report.subtasks[1].ci_low, report.subtasks[1].ci_high) == pytest.approx((want.low, want.high))
    write_report(report, tmp_path)
    text = (tmp_path / "tasks.csv").read_text()
    assert text.splitlines()[0] == HEADER
    assert [row["subtask"] for row in csv.DictReader(io.StringIO(text))] == ["vt", "cwe", "qa_1", "vt", "cwe"]


def test_the_text_shows_sub_tasks_and_total_side_by_side() -> None:
    report = build_report(make_contents(*mixed()))
    lines = render(report).splitlines()
    table = lines[lines.index("### Mean outcome by sub-task") + 2 :]
    assert table[0] == "| cell | vt | cwe | qa\\_1 | total |"
    assert table[2:4] == ["| full | 100.0% | 75.0% | 0.0% | 75.0% |", "| tova/token/64 | 50.0% | 75.0% |  | 62.5% |"]
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=200, color_system=None))
    assert "rates of its 3 sub-tasks are in tasks.csv and report.md" in stream.getvalue()


@pytest.mark.parametrize("names", [("", "", ""), ("vt", "vt", "vt")])
def test_a_task_that_is_one_has_no_table(names: tuple[str, ...], tmp_path: Path) -> None:
    seen = [replace(one, subtask=names[one.fixture_index]) for one in run_cell("101", policy="full")]
    report = build_report(make_contents(*seen))
    assert report.subtasks == []
    write_report(report, tmp_path)
    assert not (tmp_path / "tasks.csv").exists()
    assert "sub-task" not in render(report)


MARKS = {  # fixture i is of vt, cwe, qa_1 in turn
    "full": "1" * 36,
    "tova": "110" * 10 + "11h" + "11 ",
    "h2o": "010" * 8 + "001" * 2 + "01h" + "11x",
    "random": "000" * 11 + "11 ",
}


def several(names: Sequence[str] = ("vt", "cwe", "qa_1")) -> list[Observation]:
    return [
        replace(seen, subtask=names[seen.fixture_index % 3])
        for policy, marks in MARKS.items()
        for seen in run_cell(marks, policy=policy)
    ]


def test_policies_are_compared_within_each_sub_task_and_corrected_over_all_of_them(tmp_path: Path) -> None:
    """Oracle: outcomes of each sub-task by hand, scipy's binomial test, and Holm's steps over the sorted p."""
    report = build_report(make_contents(*several()))
    pairs = [pair for pair in report.pairs if pair.family == "subtasks"]
    names = [(one, two) for one, two in combinations(("tova", "h2o", "random"), 2)]
    assert [(pair.subtask, pair.lhs.split("/")[0], pair.rhs.split("/")[0]) for pair in pairs] == [
        (subtask, one, two) for subtask in ("vt", "cwe", "qa_1") for one, two in names
    ]
    found = []
    for pair in pairs[:6]:  # the third sub-task has an outcome that is no hit
        place = ("vt", "cwe").index(pair.subtask)
        lhs, rhs = (MARKS[one.split("/")[0]][place::3] for one in (pair.lhs, pair.rhs))
        only = [sum(one > two for one, two in zip(*sides, strict=True)) for sides in ((lhs, rhs), (rhs, lhs))]
        assert (pair.n, pair.lhs_only, pair.rhs_only, pair.test) == (12, *only, "mcnemar")
        found.append(binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0)
    assert [pair.p_value for pair in pairs[:6]] == pytest.approx(found)
    assert [(pair.test, pair.n) for pair in pairs[6:]] == [("sign_flip", 11), ("sign_flip", 11), ("sign_flip", 11)]
    every = [pair.p_value for pair in pairs if pair.p_value is not None]
    assert len(every) == 9
    steps, worst = {}, 0.0
    for rank, index in enumerate(sorted(range(9), key=lambda one: every[one])):
        worst = max(worst, min(1.0, every[index] * (9 - rank)))
        steps[index] = worst
    assert [pair.p_holm for pair in pairs] == pytest.approx([steps[index] for index in range(9)])
    assert {pair.family_size for pair in pairs} == {9}
    assert any(pair.is_real for pair in pairs)
    again = [seen for seen in several() if seen.policy == "random"]
    replicas = [replace(seen, cell="A/A", cell_id="again", replica_of=again[0].cell_id) for seen in again]
    noisy = build_report(make_contents(*several(), *replicas))
    marks = {pair.above_noise is None for pair in noisy.pairs if not pair.subtask}
    assert marks == {False}, "the noise floor of all fixtures marks the other families"
    assert {pair.above_noise for pair in noisy.pairs if pair.subtask} == {None}
    write_report(report, tmp_path)
    rows = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    assert Counter(row["subtask"] for row in rows) == {"": 6, "vt": 3, "cwe": 3, "qa_1": 3}


def test_a_cell_of_an_older_version_is_counted_by_what_other_cells_say_of_its_fixtures() -> None:
    """Oracle: the same report of cells that all name their sub-tasks."""
    older = [replace(seen, subtask="") if seen.policy == "tova" else seen for seen in several()]
    named, report = (build_report(make_contents(*seen)) for seen in (several(), older))
    assert report.subtasks == named.subtasks
    assert {row.cell for row in report.subtasks} == {cell.cell for cell in report.cells}
    assert report.pairs == named.pairs


def test_other_families_do_not_change_by_it() -> None:
    report = build_report(make_contents(*several()))
    alone = build_report(make_contents(*several(("", "", ""))))
    assert [pair for pair in report.pairs if not pair.subtask] == list(alone.pairs)
    assert {pair.family for pair in alone.pairs} == {"vs_full", "policies"}
    assert {one.family for one in build_report(make_contents(*several(("vt",) * 3))).pairs} == {"vs_full", "policies"}


def test_the_plan_is_followed_within_sub_tasks() -> None:
    """On the testing half alone, where that is asked for; not without policies, nor where a run may stop early."""

    def pairs(**changes: Any) -> list[Any]:
        report = build_report(make_contents(*in_halves(several())), changes=changes)
        return [pair for pair in report.pairs if pair.family == "subtasks"]

    halves = pairs(split="select")
    odd = [index for index in range(36) if index % 2]
    for pair in halves:
        place = ("vt", "cwe", "qa_1").index(pair.subtask)
        sides = [MARKS[one.split("/")[0]] for one in (pair.lhs, pair.rhs)]
        assert pair.n == sum(index % 3 == place and all(side[index] in "10h" for side in sides) for index in odd)
    assert pairs(families=("vs_full",)) == []
    assert pairs(stop="sequential") == []
    two = [replace(seen, subtask=("vt", "cwe")[seen.fixture_index % 2]) for seen in several()]
    report = build_report(make_contents(*in_halves(two)), changes={"split": "select"})
    untested = [pair for pair in report.pairs if pair.subtask == "vt"]  # all of its fixtures choose
    assert [(pair.n, pair.p_holm) for pair in untested] == [(0, None)] * 3
    assert {pair.family_size for pair in report.pairs if pair.subtask} == {3}
    assert "tova/token/64 and h2o/token/64 on vt" in render(report)


def drawn() -> list[Observation]:
    """Three policies on two sub-tasks of 40 fixtures, with outcomes that are multiples of no common fraction."""
    found = []
    for place, policy in enumerate(("full", "tova", "h2o", "random")):
        for seen in run_cell("1" * 80, policy=policy):
            outcome = round(0.9 - 0.2 * place + math.sin(seen.fixture_index * (place + 1)) / 12, 7)
            found.append(
                replace(seen, outcome=outcome, answer_nll=2 - outcome, subtask=("vt", "cwe")[seen.fixture_index % 2])
            )
    return found


def test_a_clear_difference_of_drawn_patterns_is_real_however_large_the_family() -> None:
    """Oracle: every fixture of these has the same sign or nearly, so that p is far below alpha / family.

    With alpha 0.0005 a family of 6 is as much too large for 10,000 patterns as one of 600 is with 0.05.
    """
    seen = [replace(one, outcome=0.95 if one.fixture_index == 79 else one.outcome) for one in drawn()]
    seen = [
        replace(one, outcome=0.05, answer_nll=1.95)
        if (one.fixture_index in (0, 1) and one.policy == "tova") else one
        for one in seen
    ]  # fmt: skip
    report = build_report(make_contents(*seen), changes={"alpha": 0.0005})
    pairs = [pair for pair in report.pairs if pair.subtask and pair.p_method == "monte_carlo"]
    assert {pair.family_size for pair in pairs} == {6}
    assert len(pairs) >= 2
    assert all(pair.p_value is not None and pair.p_value < 1e-4 and pair.is_real for pair in pairs)
    assert all(pair.nll_p_holm is not None and pair.nll_p_holm < 5e-4 for pair in pairs)
    whole = [pair for pair in report.pairs if pair.family == "policies" and pair.p_method == "monte_carlo"]
    assert whole
    assert {pair.p_value for pair in whole} == {1e-4}  # 3 comparisons: 10,000 patterns suffice
    assert "out of reach among" not in render(report)
    report = build_report(make_contents(*seen), changes={"alpha": 1e-7})
    text = "; a p from 10000 drawn sign patterns is out of reach among 6 comparisons"
    assert text in render(report)


def test_fixtures_share_a_context_within_their_own_sub_task_only() -> None:
    seen = [replace(one, outcome=float(one.outcome == 1.0)) for one in several() if one.outcome is not None]
    seen = [replace(one, cluster=f"c{one.fixture_index // 6}" if one.subtask == "vt" else "") for one in seen]
    tests = {pair.subtask: pair.test for pair in build_report(make_contents(*seen)).pairs}
    assert tests == {"": "cluster_sign_flip", "vt": "cluster_sign_flip", "cwe": "mcnemar", "qa_1": "mcnemar"}


def test_a_sub_task_is_named_wherever_its_comparison_stands() -> None:
    report = build_report(make_contents(*several()))
    text = render(report)
    title = "Policies by sub-task, same unit, guards, budget and contract"
    assert f"**{title}**: 9 comparisons, " in text
    assert "- tova/token/64 beats random/token/64 on vt: 12 of 12 against 1 of 12, +92 points" in text
    assert "tova/token/64 against h2o/token/64 on cwe +17 [" in text
    rows = text[text.index(f"### {title}") :].splitlines()
    assert rows[2].startswith("| sub-task | lhs | rhs |")
    assert rows[4].startswith("| vt | tova/token/64 | h2o/token/64 | 12 |")
    page = build_page(report, [])
    (forest,) = [one for one in page.drawings if one.name == "forest-subtasks"]
    assert b"tova/token/64 vs random/token/64 on vt<" in forest.files["svg"]
    assert f'<h2 id="e1-subtasks">{title}</h2>' in page.html
    assert _summary(report)["pairs"] == 6


class OfTwo:
    """A task of two members."""

    fixtures = 2

    def __init__(self, **settings: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Fixture]:
        for name in ("vt", "cwe"):
            prompt = f"{name} " + "a word of many " * 20
            yield Fixture(
                fixture_id=f"{name}-0", prompt=prompt, answer_prefix="", question_start=9, answers=("c",),
                evidence=((0, 2),), task=name, axes=Axes(down="letters", down_at=len(name), across="cwe", across_at=1),
            )  # fmt: skip


@pytest.mark.integration
def test_a_run_records_of_which_sub_task_a_fixture_is(random_checkpoint: Path, tmp_path: Path) -> None:
    from vorn import run

    cfg = composed(
        "logger=none", "task._target_=tests.test_report_subtasks.OfTwo", "budget=[32]", "policy=[random]",
        "unit=[token]", f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}",
    )  # fmt: skip
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = read_ledger(folder).observations
    assert {(one.fixture_id, one.subtask, one.task) for one in seen} == {
        ("vt-0", "vt", "niah_multikey"),
        ("cwe-0", "cwe", "niah_multikey"),
    }
    assert {(one.fixture_id, one.axes.down_at) for one in seen if one.axes} == {("vt-0", 2), ("cwe-0", 3)}
    assert len((tmp_path / "out" / "tasks.csv").read_text().splitlines()) == 1 + 2 * 2
