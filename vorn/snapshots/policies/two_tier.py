"""The first proposal of Atlas pull request 207, rejected there: sessions never resumed go first."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.entry import UNTRACKED, Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting, least
from vorn.snapshots.minqueue import MinQueue
from vorn.snapshots.policies.forecast import forecast


@dataclass(frozen=True)
class TwoTier:
    """Forecast among the snapshots of sessions that are untracked or not resumable; among all, if there are none.

    A session is resumable if one of its residents has a hit. O(log n): each session is ranked by its least member.
    Source: Atlas pull request 207, first commit (843e62c), with bump=improving.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Tiers()


class _Tiers(Ranked):
    protects = True

    def __init__(self) -> None:
        super().__init__(forecast)
        self._members: dict[int, MinQueue[Snapshot]] = {}
        self._hit: dict[int, set[Snapshot]] = {}
        self._first: MinQueue[int] = MinQueue()  # sessions of the first tier, by their least member

    def added(self, entry: Snapshot) -> None:
        super().added(entry)
        self._members.setdefault(entry.session, MinQueue()).put(entry, forecast(entry))
        if entry.hits and entry.session != UNTRACKED:
            self._hit.setdefault(entry.session, set()).add(entry)
        self._order(entry.session)

    touched = moved = added

    def removed(self, entry: Snapshot) -> None:
        super().removed(entry)
        self._members[entry.session].drop(entry)
        self._hit.get(entry.session, set()).discard(entry)
        self._order(entry.session)

    def victim(self) -> Snapshot:
        overall = super().victim()
        session = self._first.least()
        if session is None:
            self.saturated += 1
            return overall
        found = least(self._members[session])
        self.fired += found is not overall
        return found

    def _order(self, session: int) -> None:
        queue = self._members[session]
        entry = queue.least()
        if entry is not None and not self._hit.get(session):
            self._first.put(session, queue.key(entry))
        elif session in self._first:
            self._first.drop(session)
        if entry is None:
            del self._members[session]
            self._hit.pop(session, None)
