"""Notes of jobs, and the report at the end of a sweep; sweeps of real processes are in test_cli.py."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from factories import make_manifest, make_observation
from omegaconf import OmegaConf

from vorn.cli import SweepEnd
from vorn.ledger import LedgerWriter, Scope
from vorn.processes import FAILED
from vorn.sweeps import JobNote, note_job, note_scope, read_notes, report_sweep


def config(sweep: Path) -> object:
    return OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})


def ledger(folder: Path, name: str, policies: str, fixtures: int) -> Path:
    writer = LedgerWriter(folder / name, lambda: make_manifest(evaluation_id=name))
    for policy in policies.split():
        seen = [
            make_observation(evaluation_id=name, model=name, policy=policy, fixture_id=f"f{number}")
            for number in range(fixtures)
        ]
        writer.append(seen)
    writer.close()
    return folder / name


def scope(name: str, policies: str, fixtures: int) -> Scope:
    cells = [make_observation(evaluation_id=name, policy=policy) for policy in policies.split()]
    return Scope(
        frozenset(cell.cell_id for cell in cells),
        frozenset(cell.cell for cell in cells),
        frozenset(f"f{number}" for number in range(fixtures)),
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_report_covers_each_job_s_cells_and_fixtures_and_nothing_else(tmp_path, capsys):
    one = ledger(tmp_path, "e0", "full tova h2o random", 6)
    two = ledger(tmp_path, "e1", "full tova", 9)
    jobs = [(one, scope("e0", "full tova", 4)), (one, scope("e0", "full h2o", 4)), (two, scope("e1", "full tova", 2))]
    for number, (folder, part) in enumerate(jobs):
        note_scope(tmp_path / str(number), {folder: part})
        note_job(tmp_path, JobNote(number, "", str(tmp_path / str(number)), 0))
    assert report_sweep(tmp_path) == 0
    seen = {(row["model"], row["cell"]): row["n"] for row in table(tmp_path / "cells.csv")}
    assert seen == {
        ("e0", "full"): "4", ("e0", "tova/token/64"): "4", ("e0", "h2o/token/64"): "4", ("e1", "full"): "2",
        ("e1", "tova/token/64"): "2",
    }  # fmt: skip
    sizes = {(row["model"], row["family"]): row["family_size"] for row in table(tmp_path / "pairs.csv")}
    assert sizes == {("e0", "vs_full"): "2", ("e0", "policies"): "1", ("e1", "vs_full"): "1"}
    assert "3 jobs, 0 failed" in capsys.readouterr().out


def test_a_failed_job_is_named_and_the_others_are_reported(tmp_path, capsys):
    note_scope(tmp_path / "0", {ledger(tmp_path, "e0", "full tova", 3): scope("e0", "full tova", 3)})
    note_job(tmp_path, JobNote(0, "seed=0", str(tmp_path / "0"), 3))
    note_job(tmp_path, JobNote(1, "seed=1", str(tmp_path / "1"), FAILED, "ended by SIGKILL"))
    note_job(tmp_path, JobNote(2, "seed=2", str(tmp_path / "2")))
    assert report_sweep(tmp_path) == FAILED
    said = ["job 1 (seed=1): ended by SIGKILL", "job 2 (seed=2): ended without a word"]
    assert all(text in capsys.readouterr().err for text in said[:1])
    text = (tmp_path / "report.md").read_text()
    assert all(f"- {line}" in text for line in said)
    page = (tmp_path / "report.html").read_text()
    assert all(f"<li>{line}" in page for line in said)
    rows = table(tmp_path / "jobs.csv")
    assert [(row["number"], row["code"]) for row in rows] == [("0", "3"), ("1", "1"), ("2", "1")]


def test_notes_of_an_earlier_sweep_are_forgotten(tmp_path):
    note_job(tmp_path, JobNote(7, "", "", 4))
    SweepEnd().on_multirun_start(config(tmp_path))
    assert read_notes(tmp_path) == []
    note_job(tmp_path, JobNote(0, "", "", 0))
    SweepEnd().on_multirun_end(config(tmp_path))
    note_job(tmp_path, JobNote(10, "", "", 3))
    note_job(tmp_path, JobNote(9, "", "", 0))
    assert [note.number for note in read_notes(tmp_path)] == [0, 9, 10]
    with pytest.raises(SystemExit) as ended:
        SweepEnd().on_multirun_end(config(tmp_path))
    assert ended.value.code == 3


def test_a_sweep_of_which_no_job_noted_a_status_has_failed(tmp_path):
    with pytest.raises(SystemExit) as ended:
        SweepEnd().on_multirun_end(config(tmp_path))
    assert ended.value.code == FAILED


def test_a_sweep_whose_launcher_failed_is_reported_once(tmp_path, capsys):
    SweepEnd().on_multirun_start(config(tmp_path))
    note_job(tmp_path, JobNote(0, "seed=0", str(tmp_path)))
    assert SweepEnd.rescue() == FAILED
    assert "job 0 (seed=0)" in capsys.readouterr().err
    assert SweepEnd.rescue() == FAILED
    assert capsys.readouterr().err == ""
