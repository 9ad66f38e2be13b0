"""Published rows as evaluations: which cells they become, and the page of `python -m vorn.audit --html`."""

from __future__ import annotations

import json

import pytest
from artifact_samples import flat, observations, row

from vorn.audit.__main__ import main
from vorn.audit.artifact import read_artifact
from vorn.audit.evaluations import published_contents
from vorn.report import build_report
from vorn.report.figure import build_figure


def contents_of(folder, rows, **more):
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"rows": rows, "run_conditions": {"model": "a/model"}} | more))
    return published_contents([read_artifact(path)])


def test_rows_become_cells_by_what_their_method_says(tmp_path):
    """Oracle: worked out by hand, from the names that the released harness gives its methods."""
    rows = [
        row("ceiling", "1111", method="vanilla", budget=None),
        row("a", "1110"),
        row("b", "1100", method="sentence_vorn"),
        row("c", "1000", method="tova"),
    ]
    (evaluation,) = build_report(contents_of(tmp_path, rows)).evaluations
    assert (evaluation.model, evaluation.task) == ("model", "niah_multikey_1_4k")
    assert [(cell.cell, cell.policy, cell.unit, cell.budget, cell.hits, cell.n) for cell in evaluation.cells] == [
        ("full", "full", "", "", 4, 4),
        ("vorn/token/512", "vorn", "token", "512", 3, 4),
        ("vorn/sentence/512", "vorn", "sentence", "512", 2, 4),
        ("tova/token/512", "tova", "token", "512", 1, 4),
    ]
    differences = {(pair.family, pair.lhs, pair.rhs): pair.difference for pair in evaluation.pairs}
    assert differences == {
        ("vs_full", "vorn/token/512", "full"): -0.25,
        ("vs_full", "vorn/sentence/512", "full"): -0.5,
        ("vs_full", "tova/token/512", "full"): -0.75,
        ("policies", "vorn/token/512", "tova/token/512"): 0.5,
        ("units", "vorn/token/512", "vorn/sentence/512"): 0.25,
    }


def test_without_lengths_of_prompts_there_is_no_budget_to_success_and_without_a_budget_no_point(tmp_path):
    names = {"token_vorn": "1110", "tova": "0011"}
    rows = [row("ceiling", "1111", method="vanilla", budget=None), row("free", "1010", method="h2o", budget=None)]
    rows += [row(f"{name} {n}", marks, method=name, budget=n) for name, marks in names.items() for n in (256, 512)]
    report = build_report(contents_of(tmp_path, rows))
    assert len(report.cells) == 6
    assert report.budgets == []
    (axes,) = build_figure(report).axes
    assert [len(bar.lines[0].get_xdata()) for bar in axes.containers] == [0, 2, 2]


def test_runs_of_one_setting_are_told_apart_by_their_labels_unless_they_are_the_same(tmp_path):
    rows = [row("first", "1110"), row("again", "1110"), row("other", "0000")]
    (evaluation,) = build_report(contents_of(tmp_path, rows)).evaluations
    assert [cell.cell for cell in evaluation.cells] == ["vorn(first)/token/512", "vorn(other)/token/512"]
    assert [cell.cell for cell in build_report(contents_of(tmp_path, rows[:2])).cells] == ["vorn/token/512"]


def test_tasks_and_files_are_evaluations_of_their_own(tmp_path):
    longer = row("b", "1100", observations=observations("1100", "niah_multikey_1_8k"))
    contents = contents_of(tmp_path, [row("a", "1110"), longer])
    assert [one.task for one in build_report(contents).evaluations] == ["niah_multikey_1_4k", "niah_multikey_1_8k"]
    paths = []
    for name, marks in (("x", "1110"), ("y", "0001")):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"rows": [row("a", marks)], "run_conditions": {"model": "m"}}))
    both = build_report(published_contents(map(read_artifact, paths)))
    assert [[cell.hits for cell in one.cells] for one in both.evaluations] == [[3], [1]]


@pytest.mark.integration
def test_the_command_writes_the_page_and_says_where_there_is_nothing_to_show(tmp_path, capsys):
    (tmp_path / "flat.json").write_text(json.dumps(flat()))
    assert main([str(tmp_path / "flat.json"), "--html", str(tmp_path / "out")]) == 0
    assert f"written: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
    assert "vorn(a)/token/512" in (tmp_path / "out" / "report.html").read_text()
    bare = {"rows": [{key: value for key, value in row("a", "1110").items() if key != "observations"}]}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    assert main([str(tmp_path / "bare.json"), "--html", str(tmp_path / "none")]) == 1
    assert "holds a row with observations" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
