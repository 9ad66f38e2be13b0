"""Kill -9 at random points, several writers at once: nothing lost, nothing twice, the report of an undisturbed run."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
from composing import composed
from fault_worker import evaluation
from fault_worker import main as work

from vorn.panel import plan_panel
from vorn.records import Fixture
from vorn.report import write_report

WRITERS = 2
FIXTURES_PER_KILL = 40

pytestmark = pytest.mark.integration


def prepare(path: Path, fixtures: int) -> Path:
    plan = plan_panel(composed("policy=[random]", "unit=[token]", "budget=[64]"))
    made = [
        Fixture(fixture_id=f"f{i}", prompt=f"p{i}", answer_prefix="", question_start=0, answers=("a",), evidence=())
        for i in range(fixtures)
    ]
    path.write_bytes(pickle.dumps((plan, made)))
    return path


class Worker:
    """A writer in a process of its own, forked, so that it is at work within milliseconds."""

    def __init__(self, given: Path, ledgers: Path) -> None:
        self._reader, writer = os.pipe()
        self.process = get_context("fork").Process(
            target=work, args=(given, ledgers, lambda: os.write(writer, b"1")), daemon=True
        )
        self.process.start()
        os.close(writer)

    def has_claimed(self) -> bool:
        """Waits for the first claim; False if it ends without one."""
        claimed = os.read(self._reader, 1) == b"1"
        os.close(self._reader)
        return claimed


def disturb(given: Path, ledgers: Path, kills: int, rng: random.Random) -> None:
    """Keep writers at work and kill one after another, each while it measures."""
    workers = [Worker(given, ledgers) for _ in range(WRITERS)]
    for _ in range(kills):
        victim = workers.pop(rng.randrange(WRITERS))
        assert victim.has_claimed(), "no work was left for a writer to be killed at"
        time.sleep(rng.uniform(0, 0.02))
        victim.process.kill()
        victim.process.join()
        assert victim.process.exitcode == -signal.SIGKILL
        workers.append(Worker(given, ledgers))
    for worker in workers:
        worker.process.join()
        assert worker.process.exitcode == 0


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
    disturb(given, tmp_path / "disturbed", kills, random.Random(kills))
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
