"""Launchers of Hydra that bring jobs elsewhere, for real: submitit's local one, joblib; and what SLURM is told."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from test_cli import drive, fake, launch, no_torch  # noqa: F401

pytestmark = pytest.mark.integration


@pytest.fixture
def lenient(fake: dict[str, str]) -> dict[str, str]:  # noqa: F811
    """The fake evaluation, where warnings of the launchers' own code are no errors."""
    return {**fake, "PYTHONWARNINGS": "default"}


@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_a_sweep_elsewhere_goes_on_when_a_job_is_killed_and_is_reported_whole(
    tmp_path: Path, lenient: dict[str, str], launcher: str
) -> None:
    """Oracle: one job writes its outcomes, the other is killed; what the sweep's folder then says."""
    arguments = ("-m", f"hydra/launcher={launcher}", "seed=0,1", "hydra.sweep.dir=sweep")
    done = drive(tmp_path, lenient, "write-0,kill", *arguments)
    assert done.returncode == 1, done.stderr
    assert "sweep: 2 jobs, 1 failed" in done.stdout
    with (tmp_path / "sweep" / "jobs.csv").open() as table:
        rows = {row["overrides"]: row for row in csv.DictReader(table)}
    assert {name: row["code"] for name, row in rows.items()} == {"seed=0": "0", "seed=1": "1"}
    assert "SIGKILL" in rows["seed=1"]["why"]
    with (tmp_path / "sweep" / "cells.csv").open() as table:
        assert {row["n"] for row in csv.DictReader(table)} == {"5"}


def test_slurm_is_told_the_limits_of_the_configuration_and_of_the_command(
    tmp_path: Path, lenient: dict[str, str]
) -> None:
    """Oracle: the script that sbatch, replaced by one that keeps it, is given."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in (("srun", "exit 0"), ("sbatch", f'cp "$1" {tmp_path}/script; echo no queue here >&2; exit 1')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    environment = {**lenient, "PATH": f"{programs}:{lenient['PATH']}", "CODES": "0,0"}
    arguments = ("-m", "hydra/launcher=slurm", "hydra.launcher.partition=gpus", "hydra.launcher.mem_gb=80", "seed=0,1")
    done = launch(tmp_path, environment, *arguments)
    assert done.returncode == 1
    assert "no queue here" in done.stderr
    asked = {
        line.removeprefix("#SBATCH --") for line in (tmp_path / "script").read_text().splitlines() if "#SB" in line
    }
    assert asked >= {
        "partition=gpus", "mem=80GB", "time=720", "cpus-per-task=8", "gpus-per-node=1", "array=0-1%2", "nodes=1",
        "ntasks-per-node=1",
    }  # fmt: skip
    assert sys.executable in (tmp_path / "script").read_text()
