"""Residents grouped by session, with the order of sessions by a number of each: what several policies rank by."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.minqueue import MinQueue


class Sessions:
    """Sessions by (a number of theirs), then residents within one by another key. O(log n) per change.

    Untracked residents form one session, as in Atlas.
    """

    def __init__(self, rank: Callable[[Snapshot], Any]) -> None:
        """`rank`: key of a resident within its session."""
        self._rank = rank
        self._members: dict[int, MinQueue[Snapshot]] = {}
        self._freshest: dict[int, MinQueue[Snapshot]] = {}
        self._stalest: MinQueue[int] = MinQueue()

    def put(self, entry: Snapshot) -> None:
        """A resident is new, or its key has changed."""
        self._members.setdefault(entry.session, MinQueue()).put(entry, self._rank(entry))
        self._freshest.setdefault(entry.session, MinQueue()).put(entry, -entry.last)
        self._order(entry.session)

    def drop(self, entry: Snapshot) -> None:
        """A resident has gone."""
        self._members[entry.session].drop(entry)
        self._freshest[entry.session].drop(entry)
        self._order(entry.session)

    def _order(self, session: int) -> None:
        queue = self._freshest[session]
        freshest = queue.least()
        if freshest is None:
            del self._members[session], self._freshest[session]
            self._stalest.drop(session)
        else:
            self._stalest.put(session, freshest.last)

    def stalest(self, exempt: Collection[Snapshot] = ()) -> Snapshot | None:
        """The least resident of the stalest session: the one whose freshest `last` is least. None if all are exempt."""
        passed: list[int] = []
        while (session := self._stalest.least(passed)) is not None:
            found = self._members[session].least(exempt)
            if found is not None:
                return found
            passed.append(session)
        return None

    def members(self, session: int) -> MinQueue[Snapshot] | None:
        """The residents of a session; None if it has none."""
        return self._members.get(session)
