"""Rates by sub-task: which fixtures count where, the table and the text, and what a run records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import make_contents, run_cell
from rich.console import Console
from scipy.stats import binomtest

from tests.composing import composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import Axes, Fixture, Observation
from vorn.report import build_report, print_report, write_report
from vorn.report.markdown import render

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
    assert table[0] == "| cell | vt | cwe | qa_1 | total |"
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
