"""Sharing of work by claims: several writers in one process, killed processes, other machines."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from factories import make_observation

from vorn import pulse
from vorn.claims import LIST, Claim, Claims
from vorn.records import BadInput, Observation

TODO = {f"f{number}": ["a", "b"] for number in range(4)}
HOLDER = """
import sys, time
from pathlib import Path
from vorn.claims import Claims
claims = Claims(Path(sys.argv[1]), stale_after_s=60, poll_s=0.01)
work = claims.share({"f0": ["a"], "f1": ["a"], "f2": ["a"]}, lambda cell: True, list)
print(next(work).fixture_id, next(work).fixture_id, flush=True)
time.sleep(60)
"""


class Bench:
    """A ledger in memory, and writers that share work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.landed: list[Observation] = []

    def join(self, todo: dict[str, list[str]] = TODO, inactive: set[str] = frozenset(), **settings: float):
        """A writer that has read the ledger as it is now."""
        claims = Claims(self.folder, **{"stale_after_s": 60.0, "poll_s": 0.01} | settings)
        read = [len(self.landed)]

        def refresh() -> list[Observation]:
            new = self.landed[read[0] :]
            read[0] = len(self.landed)
            return new

        return claims, claims.share(todo, lambda cell: cell not in inactive, refresh)

    def land(self, claim: Claim, error: str | None = None) -> None:
        outcome = None if error else 1.0
        self.landed += [
            make_observation(cell_id=cell, fixture_id=claim.fixture_id, outcome=outcome, error=error)
            for cell in claim.cell_ids
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ledgers" / "e0")


def finish(bench: Bench, work: Iterator[Claim]) -> list[Claim]:
    done = []
    for claim in work:
        bench.land(claim)
        done.append(claim)
    return done


def test_one_writer_takes_everything_once_and_in_order(bench):
    claims, work = bench.join()
    assert finish(bench, work) == [Claim(name, ("a", "b")) for name in TODO]
    claims.close()
    assert [path.name for path in bench.folder.iterdir()] == [LIST]
    assert (bench.folder / LIST).read_text() == ""


def test_writers_take_turns_and_nothing_is_taken_twice(bench):
    (one, first), (other, second) = bench.join(), bench.join()
    taken = [(next(work)).fixture_id for work in (first, second, first, second)]
    assert taken == list(TODO)
    for claims in (one, other):
        claims.close()


def test_who_has_nothing_left_waits_for_what_others_have_in_flight(bench, monkeypatch):
    (one, first), (other, second) = bench.join(), bench.join()
    slow = next(first)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            bench.land(slow)

    monkeypatch.setattr("vorn.claims.sleep", nap)
    assert [claim.fixture_id for claim in finish(bench, second)] == ["f1", "f2", "f3"]
    assert naps == [0.01] * 3
    assert finish(bench, first) == []
    one.close()
    other.close()


@pytest.mark.parametrize("lands", ["outcome", "error", ""])
def test_what_a_writer_leaves_in_flight_is_free_when_it_ends(bench, lands):
    (one, first), (other, second) = bench.join(), bench.join()
    left = next(first)
    if lands:
        bench.land(left, error="out of luck" if lands == "error" else None)
    one.close()
    assert [claim.fixture_id for claim in finish(bench, second)] == list(TODO)[bool(lands) :]
    other.close()


def test_a_failure_is_tried_once_by_writers_together_and_again_by_the_next(bench):
    (one, first), (other, second) = bench.join(), bench.join()
    bench.land(next(first), error="out of luck")
    bench.land(next(first))
    assert [claim.fixture_id for claim in finish(bench, second)] == ["f2", "f3"]
    late, third = bench.join({"f0": ["a", "b"]})  # it sees the failure as one of an earlier run
    assert list(third) == []
    for claims in (one, other, late):
        claims.close()
    again, fourth = bench.join({"f0": ["a", "b"]})
    assert finish(bench, fourth) == [Claim("f0", ("a", "b"))]
    again.close()


def test_cells_of_one_fixture_may_belong_to_two_writers(bench):
    one, first = bench.join({"f0": ["a", "b"]})
    other, second = bench.join({"f0": ["b", "c"]})
    assert next(first) == Claim("f0", ("a", "b"))
    claim = next(second)
    assert claim == Claim("f0", ("c",))
    bench.land(claim)
    bench.land(Claim("f0", ("a", "b")))
    assert list(second) == []
    one.close()
    other.close()


def test_cells_that_are_stopped_are_neither_taken_nor_waited_for(bench):
    inactive: set[str] = set()
    (one, first), (other, second) = bench.join(), bench.join(inactive=inactive)
    next(first)
    inactive.add("a")
    assert next(second) == Claim("f1", ("b",))
    inactive.add("b")
    assert list(second) == []
    one.close()
    other.close()


@pytest.mark.integration
def test_a_killed_writer_loses_what_it_had_in_flight_and_nothing_else(bench):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bench.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "f0 f1\n"
        claims, work = bench.join({name: ["a"] for name in ("f0", "f1", "f2")})
        assert next(work).fixture_id == "f2"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert next(work).fixture_id == "f1"
        bench.land(Claim("f0", ("a",)))
        assert list(work) == []
        claims.close()


def forge(bench: Bench, machine: str, age_s: float) -> Path:
    """What a writer on another machine leaves in the folder; its lock is not seen here."""
    bench.folder.mkdir(parents=True)
    line = {"kind": "claim", "writer": "there-1", "machine": machine, "fixture_id": "f0", "cell_ids": ["a", "b"]}
    (bench.folder / LIST).write_text(json.dumps(line) + "\n")
    path = bench.folder / "there-1.alive"
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.mark.parametrize(
    ("machine", "age_s", "lives"),
    [("there", 1, True), ("there", 59, True), ("there", 61, False), ("here", 1, False)],
)
def test_a_writer_elsewhere_lives_as_long_as_it_is_heard_of(bench, monkeypatch, machine, age_s, lives):
    monkeypatch.setattr("vorn.claims.machine", lambda: "here")
    forge(bench, machine, age_s)
    claims, work = bench.join()
    assert next(work).fixture_id == ("f1" if lives else "f0")
    claims.close()


def test_a_pulse_is_touched_while_its_process_lives(tmp_path):
    beat = pulse.Pulse(tmp_path / "p", stale_after_s=0.04)
    before = (tmp_path / "p").stat().st_mtime_ns
    deadline = time.monotonic() + 10
    while (tmp_path / "p").stat().st_mtime_ns == before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert pulse.is_alive(tmp_path / "p", is_here=True, now=0.0, stale_after_s=1)
    beat.stop()
    assert not pulse.is_alive(tmp_path / "p", is_here=False, now=0.0, stale_after_s=1)


def test_a_line_that_its_writer_died_in_counts_for_nothing(bench):
    claims, work = bench.join()
    next(work)
    with (bench.folder / LIST).open("a") as file:
        file.write('{"kind": "claim", "writer": "x')
    assert next(work).fixture_id == "f1"
    other, second = bench.join()
    assert next(second).fixture_id == "f2"
    claims.close()
    other.close()


def test_a_folder_that_cannot_be_written_is_one_message(bench, monkeypatch):
    bench.folder.parent.mkdir()
    bench.folder.write_text("a file stands in the way")
    with pytest.raises(BadInput, match=r"ledger_dir: .*e0 cannot be written \(.*another ledger_dir"):
        next(bench.join()[1])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.folder.unlink()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BadInput, match=r"cannot be written \(No space left on device\); .*the same command resumes"):
        next(bench.join()[1])


def test_claims_are_made_in_order_as_the_first_become_free(bench):
    """Oracle: whoever asks gets the first fixture that is neither done nor in flight."""
    writers = [bench.join() for _ in range(3)]
    flight: dict[int, Claim] = {}
    order = []
    for index in (0, 1, 0, 2):
        if index in flight:
            bench.land(flight[index])
        flight[index] = next(writers[index][1])
        order.append(int(flight[index].fixture_id[1:]))
    assert all(later == earlier + 1 for earlier, later in pairwise(order))
    for claims, _ in writers:
        claims.close()


@pytest.mark.parametrize(
    "line", ["7", "null", "{}", '{"writer": 1, "machine": "m", "fixture_id": null, "cell_ids": []}']
)
def test_a_list_that_holds_what_is_no_claim_is_refused_by_its_line(bench, line):
    claims, work = bench.join()
    next(work)
    with (bench.folder / LIST).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput) as caught:
        next(work)
    assert line[:20] in str(caught.value)
    assert "remove the file" in str(caught.value)
    claims.close()
