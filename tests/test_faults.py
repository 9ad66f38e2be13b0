"""Kill -9 at random points, several writers at once: nothing lost, nothing twice, the report of an undisturbed run."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from composing import ROOT, composed
from fault_worker import evaluation
from fault_worker import main as work

from vorn.panel import plan_panel
from vorn.records import Fixture
from vorn.report import write_report

WRITERS = 2
FIXTURES_PER_KILL = 30

pytestmark = pytest.mark.integration


def prepare(path: Path, fixtures: int) -> Path:
    plan = plan_panel(composed("policy=[vorn,tova,random]", "unit=[token]", "budget=[64]"))
    made = [
        Fixture(fixture_id=f"f{i}", prompt=f"p{i}", answer_prefix="", question_start=0, answers=("a",), evidence=())
        for i in range(fixtures)
    ]
    path.write_bytes(pickle.dumps((plan, made)))
    return path


def start(given: Path, ledgers: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "fault_worker.py"), str(given), str(ledgers)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        stdout=subprocess.PIPE,
        text=True,
    )


def disturb(given: Path, ledgers: Path, kills: int, rng: random.Random) -> int:
    """Keep writers at work and kill one after another; how many were killed while they worked."""
    workers, killed = [start(given, ledgers) for _ in range(WRITERS)], 0
    while killed < kills:
        victim = workers.pop(rng.randrange(WRITERS))
        if victim.stdout.readline() != "ready\n":
            raise AssertionError("a writer has failed")
        time.sleep(rng.uniform(0, 0.05))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        killed += victim.returncode == -signal.SIGKILL
        workers.append(start(given, ledgers))
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    return killed


def lines(ledgers: Path) -> list[dict[str, object]]:
    """Every whole line of every segment, read without the code under test; a torn one must be the last of its file."""
    found = []
    for path in ledgers.glob("*/*.jsonl"):
        *whole, tail = path.read_bytes().split(b"\n")
        found += [json.loads(line) for line in whole]
        if tail.endswith(b"}"):
            found.append(json.loads(tail))
    return found


def test_killed_writers_lose_nothing_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("kills")
    fixtures = FIXTURES_PER_KILL * kills
    given = prepare(tmp_path / "given", fixtures)
    assert disturb(given, tmp_path / "disturbed", kills, random.Random(kills)) == kills
    work(given, tmp_path / "quiet")
    seen = Counter(
        (one["fixture_id"], one["cell_id"]) for one in lines(tmp_path / "disturbed") if one["kind"] == "observation"
    )
    run = evaluation(given, tmp_path / "disturbed")
    assert set(seen) == {(f"f{number}", cell) for number in range(fixtures) for cell in run.cells}
    assert set(seen.values()) == {1}
    reports = {}
    for name in ("disturbed", "quiet"):
        write_report(evaluation(given, tmp_path / name).report(), tmp_path / name)
        reports[name] = [(tmp_path / name / table).read_text() for table in ("cells.csv", "pairs.csv")]
    assert reports["disturbed"] == reports["quiet"]
    segments = list((tmp_path / "disturbed").glob("*/*.jsonl"))
    assert len(segments) >= WRITERS
