"""Atlas pull request 345: the live session's prompt tail is leased, for a while."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.entry import UNTRACKED, Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Setting
from vorn.snapshots.policies.sessions import Sessions

_LEASED = ("tail", "sibling")


@dataclass(frozen=True)
class TailLease:
    """`session_lru`, except that the tail of the session that was looked up last is kept while others remain.

    The lease ends after `ttl` evictions without a lookup of that session. `sibling`: the snapshot one block below the
    tail is leased too. A session has one tail: an older one, and its sibling, is given up when a new one is stored.
    Source: Atlas pull request 345 (ttl=64 and its last commit's sibling), with bump=winner. Departure: what is given up
    stays until room is needed and is then the first victim, while Atlas frees it at once; a pool that is full ends with
    the same residents. O(log n).
    """

    bump: Bump
    ttl: int
    sibling: bool

    def __post_init__(self) -> None:
        if self.ttl < 1:
            raise BadInput(f"ttl={self.ttl} of tail_lease: legal is at least 1 eviction; session_lru leases nothing")

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Lease(self.ttl, self.sibling)


class _Lease(Evictor):
    protects = True

    def __init__(self, ttl: int, sibling: bool) -> None:
        super().__init__()
        self._ttl, self._sibling = ttl, sibling
        self._sessions = Sessions(lambda entry: entry.last)
        self._current: dict[int, list[Snapshot]] = {}  # tail and sibling of each session
        self._given_up: dict[Snapshot, None] = {}  # oldest first
        self._live = UNTRACKED
        self._evictions = 0  # since the live session's last lookup

    def looked_up(self, session: int) -> None:
        self._live, self._evictions = session, 0

    def added(self, entry: Snapshot) -> None:
        self._sessions.put(entry)
        if entry.role not in _LEASED or entry.session == UNTRACKED:
            return
        if entry.role == "tail":
            for old in self._current.pop(entry.session, []):
                self._given_up[old] = None
        self._current.setdefault(entry.session, []).append(entry)

    def touched(self, entry: Snapshot) -> None:
        self._sessions.put(entry)

    def removed(self, entry: Snapshot) -> None:
        self._sessions.drop(entry)
        self._given_up.pop(entry, None)
        current = self._current.get(entry.session)
        if current and entry in current:
            current.remove(entry)

    def victim(self) -> Snapshot:
        leased = self._leased()
        self._evictions += 1
        overall = next(iter(self._given_up), None) or self._sessions.stalest()
        if overall is None:
            raise LookupError("an evictor was asked for a victim of an empty pool")
        if overall not in leased:
            return overall
        other = self._sessions.stalest(leased)
        if other is None:
            self.saturated += 1
            return overall
        self.fired += 1
        return other

    def _leased(self) -> list[Snapshot]:
        if self._live == UNTRACKED or self._evictions >= self._ttl:
            return []
        current = self._current.get(self._live, [])
        return [entry for entry in current if self._sibling or entry.role == "tail"]
