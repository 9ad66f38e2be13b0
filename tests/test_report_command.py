"""`python -m vorn.report`: which folders it takes, what it refuses, its exit codes, and that it needs no torch."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from factories import make_manifest, make_observation, make_panel, run_cell

from vorn.ledger import LedgerWriter
from vorn.report.__main__ import main


def make_ledger(folder: Path) -> Path:
    writer = LedgerWriter(folder / "e0", make_manifest)
    writer.append(make_panel())
    writer.close()
    other = LedgerWriter(folder / "e1", lambda: make_manifest(evaluation_id="e1"))
    other.append(run_cell("10", evaluation_id="e1", model="large"))
    other.close()
    return folder


@pytest.mark.integration
def test_the_command_takes_evaluations_and_folders_of_them_and_counts_none_twice(tmp_path, capsys):
    ledgers = make_ledger(tmp_path / "ledgers")
    assert main([str(ledgers), str(ledgers / "e1" / ".." / "e0"), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "pocket, niah: 40 fixtures" in text
    assert "large, niah: 2 fixtures" in text
    assert "duplicate" not in text
    assert main([str(ledgers / "e1"), "--out", str(tmp_path / "one"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "one" / "cells.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_the_command_refuses_what_is_no_ledger(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"vorn.report: LEDGER='{tmp_path / name}' ")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_reports_a_ledger_without_observations(tmp_path, capsys):
    writer = LedgerWriter(tmp_path / "e0", make_manifest)
    writer.look(1)
    writer.close()
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "0 observations" in capsys.readouterr().err


@pytest.mark.integration
def test_flags_replace_what_the_runs_recorded(tmp_path, capsys):
    ledgers, out = make_ledger(tmp_path / "ledgers"), tmp_path / "out"
    flags = ["--alpha", "0.001", "--margin", "0.1", "--split", "select"]
    assert main([str(ledgers / "e0"), "--out", str(out), *flags]) == 0
    text = capsys.readouterr().out
    assert "real after Holm at 0.1 %" in text
    assert "no worse than full by 10 points or more" in text
    assert {row["n"] for row in csv.DictReader((out / "pairs.csv").read_text().splitlines())} == {"20"}
    assert main([str(ledgers / "e0"), "--out", str(tmp_path / "none"), "--alpha", "5"]) == 1
    assert "stats.alpha=5.0 is not legal" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.integration
def test_the_command_exits_with_4_if_it_cannot_write(tmp_path, capsys):
    ledgers = make_ledger(tmp_path / "ledgers")
    (tmp_path / "out").write_text("a file stands in the way")
    assert main([str(ledgers), "--out", str(tmp_path / "out")]) == 4
    assert "could not be written to --out=" in capsys.readouterr().err


@pytest.mark.integration
def test_the_command_needs_no_torch(tmp_path):
    ledgers = make_ledger(tmp_path / "ledgers")
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('vorn.report', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'transformers', 'lightning', 'hydra', 'wandb', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ledgers), "--out", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "beats" in done.stdout
    assert (tmp_path / "out" / "outcomes.svg").exists()


@pytest.mark.integration
def test_completions_are_graded_again_and_the_ledger_stays_as_it_is(tmp_path, capsys):
    folder = tmp_path / "e0"
    writer = LedgerWriter(folder, make_manifest)
    said = {"f0": "123", "f1": "It is 123.", "f2": "124", "f3": "4123"}
    for index, (name, completion) in enumerate(said.items()):
        outcome = float("123" in completion)
        writer.append([make_observation(fixture_id=name, fixture_index=index, completion=completion, outcome=outcome)])
    writer.close()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main([str(folder), "--out", str(tmp_path / "out"), "--regrade", "vorn_mat_v1@1"]) == 0
    assert "graded again by vorn_mat_v1@1: 2 of 4 outcomes change" in capsys.readouterr().out
    with (tmp_path / "out" / "regraded.csv").open() as file:
        changes = [(row["fixture_id"], row["rule_before"], row["before"], row["now"]) for row in csv.DictReader(file)]
    assert changes == [("f1", "ruler_all@1", "1.0", "0.0"), ("f3", "ruler_all@1", "1.0", "0.0")]
    with (tmp_path / "out" / "cells.csv").open() as file:
        assert [row["hits"] for row in csv.DictReader(file)] == ["1"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert main([str(folder), "--out", str(tmp_path / "out"), "--regrade", "vorn_mat"]) == 1
    assert "grade='vorn_mat' is unknown; did you mean vorn_mat_v" in capsys.readouterr().err
