"""The proposal of Atlas pull request 207: pin the deepest snapshots of conversations that were resumed."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.entry import UNTRACKED, Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting
from vorn.snapshots.minqueue import MinQueue
from vorn.snapshots.policies.forecast import forecast


@dataclass(frozen=True)
class TailPin:
    """Forecast among the snapshots that are not pinned; among all, if every one is.

    Pinned are the `k` deepest residents of each resumable session: a tracked one of which a resident has a hit. Of
    equal depths (two branches), the one inserted first counts as deeper; the source sorts unstably there. O(k + log n).
    Source: Atlas pull request 207, with bump=improving and k=8; off by default there.
    """

    bump: Bump
    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"k={self.k} of tail_pin: legal is at least 1; policy forecast pins nothing")

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Pins(self.k)


class _Session:
    """Residents of one tracked session."""

    __slots__ = ("deepest", "hit", "members", "pinned")

    def __init__(self) -> None:
        self.deepest: list[tuple[int, int]] = []  # (-depth, born), sorted
        self.members: dict[int, Snapshot] = {}  # by born
        self.hit: set[Snapshot] = set()
        self.pinned: list[Snapshot] = []


class _Pins(Ranked):
    protects = True

    def __init__(self, k: int) -> None:
        super().__init__(forecast)
        self._k = k
        self._unpinned: MinQueue[Snapshot] = MinQueue()
        self._sessions: dict[int, _Session] = {}

    def added(self, entry: Snapshot) -> None:
        super().added(entry)
        self._unpinned.put(entry, forecast(entry))
        if entry.session != UNTRACKED:
            session = self._sessions.setdefault(entry.session, _Session())
            insort(session.deepest, _rank(entry))
            session.members[entry.born] = entry
            if entry.hits:
                session.hit.add(entry)
            self._repin(session)

    def touched(self, entry: Snapshot) -> None:
        self.moved(entry)
        if entry.session != UNTRACKED:
            session = self._sessions[entry.session]
            was_resumable = bool(session.hit)
            session.hit.add(entry)
            if not was_resumable:
                self._repin(session)

    def moved(self, entry: Snapshot) -> None:
        super().added(entry)
        if entry in self._unpinned:
            self._unpinned.put(entry, forecast(entry))

    def removed(self, entry: Snapshot) -> None:
        super().removed(entry)
        if entry in self._unpinned:
            self._unpinned.drop(entry)
        if entry.session == UNTRACKED:
            return
        session = self._sessions[entry.session]
        del session.deepest[bisect_left(session.deepest, _rank(entry))]
        del session.members[entry.born]
        session.hit.discard(entry)
        if not session.members:
            del self._sessions[entry.session]
            return
        session.pinned = [one for one in session.pinned if one is not entry]
        self._repin(session)

    def victim(self) -> Snapshot:
        overall = super().victim()
        free = self._unpinned.least()
        if free is None:
            self.saturated += 1
            return overall
        self.fired += free is not overall
        return free

    def _repin(self, session: _Session) -> None:
        """Bring the pins of a session in line with its residents."""
        deepest = session.deepest[: self._k] if session.hit else []
        pinned = [session.members[born] for _, born in deepest]
        for entry in session.pinned:
            if entry not in pinned:
                self._unpinned.put(entry, forecast(entry))
        for entry in pinned:
            if entry in self._unpinned:
                self._unpinned.drop(entry)
        session.pinned = pinned


def _rank(entry: Snapshot) -> tuple[int, int]:
    return -entry.depth, entry.born
