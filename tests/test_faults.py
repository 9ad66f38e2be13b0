"""Kill -9 at random points, several writers at once: nothing lost, nothing twice, the report of an undisturbed run."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from composing import composed
from fault_worker import evaluation
from fault_worker import main as work

from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Fixture
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


def check_nothing_is_lost(given: Path, ledgers: Path, quiet: Path, fixtures: int) -> None:
    """Each fixture is there once in each cell, and the report is that of an undisturbed run into `quiet`."""
    work(given, quiet)
    seen = Counter((one["fixture_id"], one["cell_id"]) for one in lines(ledgers) if one["kind"] == "observation")
    run = evaluation(given, ledgers)
    assert set(seen) == {(f"f{number}", cell) for number in range(fixtures) for cell in run.cells}
    assert set(seen.values()) == {1}
    reports = {}
    for path in (ledgers, quiet):
        write_report(evaluation(given, path).report(), path)
        reports[path] = [(path / table).read_text() for table in ("cells.csv", "pairs.csv")]
    assert reports[ledgers] == reports[quiet]


def refused(given: Path, ledgers: Path, limit: Callable[[], None]) -> str:
    """Work in a process of its own that `limit` restricts; the message of the BadInput that ends it."""
    reader, writer = os.pipe()

    def restricted() -> None:
        limit()
        try:
            work(given, ledgers)
        except BadInput as error:
            os.write(writer, str(error).encode())

    process = get_context("fork").Process(target=restricted, daemon=True)
    process.start()
    os.close(writer)
    with os.fdopen(reader) as message:
        said = message.read()
    process.join()
    assert process.exitcode == 0
    return said


def test_killed_writers_lose_nothing_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("kills")
    fixtures = FIXTURES_PER_KILL * kills
    given = prepare(tmp_path / "given", fixtures)
    disturb(given, tmp_path / "disturbed", kills, random.Random(kills))
    check_nothing_is_lost(given, tmp_path / "disturbed", tmp_path / "quiet", fixtures)


def test_no_room_for_a_line_is_one_message_and_the_same_command_resumes(tmp_path: Path) -> None:
    """The system itself refuses to let the segment grow, in the middle of a line; as a full disk does."""
    given, ledgers = prepare(tmp_path / "given", 20), tmp_path / "ledgers"
    allowed = 9000
    said = refused(given, ledgers, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, resource.RLIM_INFINITY)))
    assert "cannot be written (File too large); legal is a folder with free space" in said
    assert said.endswith("nothing that was measured is lost, and the same command resumes")
    (segment,) = ledgers.glob("*/*.jsonl")
    torn = segment.read_bytes()
    assert len(torn) == allowed
    assert not torn.endswith(b"}")
    (damaged,) = read_ledger(segment.parent).damaged
    assert damaged.is_tail
    work(given, ledgers)
    whole = [line for path in ledgers.glob("*/*.jsonl") for line in path.read_bytes().splitlines() if line[-1:] == b"}"]
    assert sum(b'"kind": "observation"' in line for line in whole) == 20 * 2
    assert len(read_ledger(segment.parent).observations) == 20 * 2


def test_a_folder_that_may_not_be_written_is_one_message_and_stays_readable(tmp_path: Path) -> None:
    with TemporaryDirectory() as open_to_all:  # no folder above it keeps another user out
        given, ledgers = prepare(tmp_path / "given", 5), Path(open_to_all, "ledgers")
        work(given, ledgers)
        more = prepare(Path(open_to_all, "more"), 6)
        os.chmod(open_to_all, 0o755)
        (folder,) = ledgers.iterdir()
        for path in (ledgers, folder):
            path.chmod(0o555)
        try:
            said = refused(more, ledgers, lambda: os.setuid(65534) if os.geteuid() == 0 else None)
            assert f"ledger_dir: {folder} cannot be written (Permission denied)" in said
            assert len(read_ledger(folder).observations) == 5 * 2
        finally:
            for path in (ledgers, folder):
                path.chmod(0o755)
        work(more, ledgers)
        check_nothing_is_lost(more, ledgers, tmp_path / "quiet", 6)


def test_a_ledger_of_another_version_is_one_message_and_nothing_is_written(tmp_path: Path) -> None:
    given, ledgers = prepare(tmp_path / "given", 3), tmp_path / "ledgers"
    work(given, ledgers)
    (segment,) = ledgers.glob("*/*.jsonl")
    first, second, *rest = segment.read_text().splitlines()
    later = json.dumps(json.loads(second) | {"a_field_to_come": 1})
    segment.write_text("\n".join([first, later, *rest]) + "\n")
    before = {path: path.read_bytes() for path in ledgers.rglob("*") if path.is_file()}
    message = rf"{segment.name}, line 2: field 'a_field_to_come' of this observation is unknown; .* another ledger_dir"
    with pytest.raises(BadInput, match=message):
        work(prepare(tmp_path / "more", 4), ledgers)
    assert {path: path.read_bytes() for path in ledgers.rglob("*") if path.is_file()} == before
