"""Least recently used within the stalest session."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Setting
from vorn.snapshots.policies.sessions import Sessions


@dataclass(frozen=True)
class SessionLru:
    """Evicts the oldest `last` of the session whose freshest `last` is the oldest. O(log n).

    Source: Atlas pull requests 287 and 345, `session_aware_victim` without the lease, with bump=winner. Untracked
    snapshots count as one session there and here.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _StalestSession()


class _StalestSession(Evictor):
    def __init__(self) -> None:
        super().__init__()
        self._sessions = Sessions(lambda entry: entry.last)

    def added(self, entry: Snapshot) -> None:
        self._sessions.put(entry)

    touched = added

    def removed(self, entry: Snapshot) -> None:
        self._sessions.drop(entry)

    def victim(self) -> Snapshot:
        found = self._sessions.stalest()
        if found is None:
            raise LookupError("an evictor was asked for a victim of an empty pool")
        return found
