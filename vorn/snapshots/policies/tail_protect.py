"""Atlas pull request 278: the live session's deepest snapshot is exempt."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from vorn.snapshots.entry import UNTRACKED, Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting, least
from vorn.snapshots.policies.forecast import forecast


@dataclass(frozen=True)
class TailProtect:
    """Forecast, except that the deepest snapshot of the session that was looked up last is kept while others remain.

    That deepest snapshot is the finish leaf, which lies beyond what the next turn can match: in Atlas's own test rig
    the switch changed nothing. Of equal depths the one inserted first is exempt. O(log n).
    Source: Atlas pull request 278, with bump=improving.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Protected()


class _Protected(Ranked):
    protects = True

    def __init__(self) -> None:
        super().__init__(forecast)
        self._live = UNTRACKED
        self._members: dict[int, Snapshot] = {}
        self._deepest: dict[int, list[tuple[int, int]]] = {}

    def looked_up(self, session: int) -> None:
        self._live = session

    def added(self, entry: Snapshot) -> None:
        super().added(entry)
        self._members[entry.born] = entry
        insort(self._deepest.setdefault(entry.session, []), _rank(entry))

    def touched(self, entry: Snapshot) -> None:
        super().added(entry)

    moved = touched

    def removed(self, entry: Snapshot) -> None:
        super().removed(entry)
        del self._members[entry.born]
        ranks = self._deepest[entry.session]
        del ranks[bisect_left(ranks, _rank(entry))]
        if not ranks:
            del self._deepest[entry.session]

    def victim(self) -> Snapshot:
        overall = super().victim()
        ranks = self._deepest.get(self._live)
        if self._live == UNTRACKED or ranks is None or self._members[ranks[0][1]] is not overall:
            return overall
        if len(self.queue) == 1:
            self.saturated += 1
            return overall
        self.fired += 1
        return least(self.queue, (overall,))


def _rank(entry: Snapshot) -> tuple[int, int]:
    return -entry.depth, entry.born
