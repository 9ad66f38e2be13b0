"""Who measures what: processes that work on one evaluation, on any machine, take fixtures from one list of claims.

The list is a file in the evaluation's folder, read and written under its lock, one line per claim. A writer has one
fixture in flight, its last claim; it lapses when its writer dies. Everything claimed before it was tried, and is not
tried again while any writer of the list lives. The first writer of a folder begins the list anew.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import node
from secrets import token_hex
from time import sleep
from typing import Any

from vorn.ledger import make_folder, writable
from vorn.pulse import Pulse, is_alive, machine
from vorn.records import BadInput, Observation

LIST = "claims"


@dataclass(frozen=True, slots=True)
class Claim:
    """A fixture, and the cells in which this process is to measure it."""

    fixture_id: str
    cell_ids: tuple[str, ...]


@dataclass(slots=True)
class _Writer:
    """Another writer: its machine and what it has in flight."""

    machine: str
    current: Claim | None


class Claims:
    """Takes part in the work on an evaluation, for this process."""

    def __init__(self, folder: Path, *, stale_after_s: float, poll_s: float) -> None:
        """Nothing is created before the first claim.

        Args:
            folder: of the evaluation.
            stale_after_s: a writer on another machine that was not heard of for so long is dead.
            poll_s: how often to look whether what other writers have in flight is done, or theirs no more.
        """
        self._folder, self._stale_after_s, self._poll_s = folder, stale_after_s, poll_s
        self._name = f"{node()}-{os.getpid()}-{token_hex(4)}".replace("/", "_")
        self._machine = machine()
        self._pulse: Pulse | None = None
        self._has_claim = False
        self._offset = 0
        self._others: dict[str, _Writer] = {}
        self._tried: dict[str, set[str]] = {}

    def share(
        self,
        todo: Mapping[str, Sequence[str]],
        is_active: Callable[[str], bool],
        refresh: Callable[[], Sequence[Observation]],
    ) -> Iterator[Claim]:
        """Claim one fixture after another, in order, until each is measured, by whomever.

        What another living writer has in flight is waited for, so that everything is measured when this ends.

        Args:
            todo: cell ids without an outcome, by fixture id, in order.
            is_active: whether a cell is still wanted; asked for every claim.
            refresh: observations that have landed in the ledger since the last call.
        Raises: BadInput if the folder does not take the list of claims, or the list holds what is no claim.
        """
        pending = {fixture: list(cells) for fixture, cells in todo.items()}
        while True:
            claim, waits = self._take(pending, is_active, refresh)
            if claim is not None:
                yield claim
            elif waits:
                sleep(self._poll_s)
            else:
                return

    def close(self) -> None:
        """End this process's part; what it still has in flight lapses. Without a claim before it, nothing happens."""
        if self._pulse is None:
            return
        with self._locked() as descriptor:
            self._read(descriptor)
            self._pulse.stop()
            self._pulse = None
            if not self._living(descriptor):
                os.ftruncate(descriptor, 0)

    def _take(
        self,
        pending: dict[str, list[str]],
        is_active: Callable[[str], bool],
        refresh: Callable[[], Sequence[Observation]],
    ) -> tuple[Claim | None, bool]:
        """The next claim; or whether what is left is in flight elsewhere."""
        with self._locked() as descriptor:
            self._enter(descriptor)
            self._read(descriptor)
            for seen in refresh():  # a failure too was tried
                self._tried.setdefault(seen.fixture_id, set()).add(seen.cell_id)
            held = self._held(descriptor)
            waits = False
            for fixture, cells in list(pending.items()):
                left = [cell for cell in cells if cell not in self._tried.get(fixture, ())]
                if not left:
                    del pending[fixture]
                    continue
                wanted = list(filter(is_active, left))
                free = tuple(cell for cell in wanted if cell not in held.get(fixture, ()))
                if free:
                    claim = Claim(fixture, free)
                    self._append(descriptor, claim)
                    return claim, True
                waits = waits or bool(wanted)
            if self._has_claim:
                self._append(descriptor, None)
            return None, waits

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The list, open and locked. It is opened anew each time: network file systems then show its latest state."""
        with writable(self._folder):
            make_folder(self._folder)
            descriptor = os.open(self._folder / LIST, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)

    def _enter(self, descriptor: int) -> None:
        """At the first claim: become one of the list's writers, and begin it anew if no other lives."""
        if self._pulse is not None:
            return
        self._read(descriptor)
        if not self._living(descriptor):
            os.ftruncate(descriptor, 0)
            self._offset, self._others, self._tried = 0, {}, {}
            for path in self._folder.glob("*.alive"):
                path.unlink()
        self._pulse = Pulse(self._path(self._name), self._stale_after_s)
        self._append(descriptor, None)

    def _read(self, descriptor: int) -> None:
        """What others have claimed since the last call; a line that its writer died in counts for nothing."""
        size = os.fstat(descriptor).st_size
        if size < self._offset:  # others took this process for dead, as after a long pause, and began the list anew
            self._offset = 0
        text = os.pread(descriptor, size - self._offset, self._offset)
        self._offset = size
        for line in text.splitlines():
            try:
                one = json.loads(line)
            except ValueError:
                continue
            try:
                name, where, claim = _claimed(one)
            except (KeyError, TypeError) as error:
                raise BadInput(
                    f"claims {self._folder / LIST} has the line {line[:80].decode(errors='replace')!r}: legal is what "
                    "this program wrote there; remove the file when no process works on the evaluation, nothing "
                    "measured is in it"
                ) from error
            if name == self._name:
                continue
            writer = self._others.setdefault(name, _Writer(where, None))
            if writer.current is not None:
                self._tried.setdefault(writer.current.fixture_id, set()).update(writer.current.cell_ids)
            writer.current = claim

    def _held(self, descriptor: int) -> dict[str, set[str]]:
        """Cells that other living writers have in flight, by fixture; what dead ones had lapses."""
        held: dict[str, set[str]] = {}
        for name, writer in self._others.items():
            if writer.current is None:
                continue
            if self._is_alive(name, writer, descriptor):
                held.setdefault(writer.current.fixture_id, set()).update(writer.current.cell_ids)
            else:
                writer.current = None
        return held

    def _living(self, descriptor: int) -> bool:
        return any(self._is_alive(name, writer, descriptor) for name, writer in self._others.items())

    def _is_alive(self, name: str, writer: _Writer, descriptor: int) -> bool:
        os.utime(descriptor)
        return is_alive(
            self._path(name),
            is_here=writer.machine == self._machine,
            now=os.fstat(descriptor).st_mtime,
            stale_after_s=self._stale_after_s,
        )

    def _append(self, descriptor: int, claim: Claim | None) -> None:
        """Say what this process has in flight now; what it had before is tried."""
        one: dict[str, Any] = {"kind": "claim", "writer": self._name, "machine": self._machine}
        one |= {"fixture_id": claim.fixture_id if claim else None, "cell_ids": claim.cell_ids if claim else ()}
        if claim is not None:
            self._tried.setdefault(claim.fixture_id, set()).update(claim.cell_ids)
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # a writer died in its line
        os.write(descriptor, b"\n" * is_torn + json.dumps(one).encode() + b"\n")
        self._has_claim = claim is not None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.alive"


def _claimed(one: Mapping[str, Any]) -> tuple[str, str, Claim | None]:
    """Writer, machine, and what it has in flight. Raises: KeyError, TypeError if the line is not a claim's."""
    name, where, fixture = one["writer"], one["machine"], one["fixture_id"]
    if not isinstance(name, str) or not isinstance(where, str) or not isinstance(fixture, str | None):
        raise TypeError("not texts")
    return name, where, None if fixture is None else Claim(fixture, tuple(one["cell_ids"]))
