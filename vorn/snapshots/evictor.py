"""What a policy is: a rule, as configured, that starts an evictor, which follows one pool and names its victims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.minqueue import MinQueue
from vorn.snapshots.paths import Path

Bump = Literal["winner", "improving", "path", "none"]
BUMPS = ("winner", "improving", "path", "none")


@dataclass(frozen=True, slots=True)
class Planned:
    """One request as it will come: what it can match, and the snapshots that it is sure to leave behind."""

    path: Path
    matched: int
    session: int
    depths: tuple[int, ...]  # deeper than `matched`, whatever is resident by then


@dataclass(frozen=True)
class Setting:
    """What an evictor may know beside what happens in its pool.

    Attributes:
        work: cost of reading tokens start+1 .. end of a prompt, in the unit of the engine's cost law.
        future: gives all requests of the workload in order; only a clairvoyant policy asks.
    """

    work: Callable[[int, int], float]
    future: Callable[[], Sequence[Planned]]


class Evictor:
    """Follows one pool. The events do nothing unless a policy needs them; the index calls them after each change.

    Attributes:
        protects: whether the policy has a mechanism that overrules its base rule.
        fired: evictions so far in which that mechanism changed the victim.
        saturated: evictions so far in which everything was protected, so that the base rule decided after all.
    """

    protects = False

    def __init__(self) -> None:
        self.fired = 0
        self.saturated = 0

    def added(self, entry: Snapshot) -> None:
        """A snapshot is resident now, or its prefix was inserted again (then `removed` was called first)."""

    def touched(self, entry: Snapshot) -> None:
        """`last` and `hits` of a resident snapshot have changed."""

    def moved(self, entry: Snapshot) -> None:
        """`place` of a resident snapshot has changed."""

    def removed(self, entry: Snapshot) -> None:
        """A snapshot is no longer resident."""

    def looked_up(self, session: int) -> None:
        """A request of this session came whose prefix is known; before its uses are counted."""

    def served(self) -> None:
        """The next request of the workload has done its lookup."""

    def victim(self) -> Snapshot:
        """The snapshot to evict now; at least one is resident."""
        raise NotImplementedError


class Ranked(Evictor):
    """Evicts the least key first; O(log n). Keys end with `place` where they could tie."""

    def __init__(self, key: Callable[[Snapshot], Any]) -> None:
        super().__init__()
        self._rank = key
        self.queue: MinQueue[Snapshot] = MinQueue()

    def added(self, entry: Snapshot) -> None:
        """Enqueue."""
        self.queue.put(entry, self._rank(entry))

    touched = moved = added

    def removed(self, entry: Snapshot) -> None:
        """Forget."""
        self.queue.drop(entry)

    def victim(self) -> Snapshot:
        """The least."""
        return least(self.queue)


def least(queue: MinQueue[Snapshot], exempt: Sequence[Snapshot] = ()) -> Snapshot:
    """The least entry of a queue that holds one that is not exempt."""
    found = queue.least(exempt)
    if found is None:
        raise LookupError("an evictor was asked for a victim of an empty pool")
    return found


class Rule(Protocol):
    """A policy as configured: a frozen dataclass with its parameters."""

    @property
    def bump(self) -> Bump:
        """Whose `last` and `hits` a lookup advances: see `vorn.snapshots.index.SnapshotIndex.lookup`."""

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
