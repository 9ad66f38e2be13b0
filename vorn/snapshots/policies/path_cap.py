"""SGLang pull request 31230: few snapshots per path, the shallow interior ones go first."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting
from vorn.snapshots.policies.lineage import Lineage


@dataclass(frozen=True)
class PathCap:
    """LRU, except that paths with more than `cap` residents give up their shallowest interior ones first.

    When a snapshot is stored and its path, from the beginning to it, holds more than `cap`, the shallowest residents of
    the path are given up until `cap` are left; the stored one and forks (residents that several continue) are kept.
    Source: SGLang pull request 31230, `--mamba-max-states-per-path` (bump=winner since 31648). Departure: what is given
    up stays until room is needed and is then the first victim, in the order in which it was given up, while SGLang
    frees it at once. O(residents of the path + log n): what is given up stands on the path until it is evicted.
    """

    bump: Bump
    cap: int

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise BadInput(f"cap={self.cap} of path_cap: legal is at least 1 snapshot per path; lru has no cap")

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Capped(self.cap)


class _Capped(Ranked):
    protects = True

    def __init__(self, cap: int) -> None:
        super().__init__(lambda entry: entry.last)
        self._cap = cap
        self._lineage = Lineage()
        self._given_up: dict[Snapshot, None] = {}

    def added(self, entry: Snapshot) -> None:
        super().added(entry)
        self._lineage.add(entry)
        path = []
        ancestor = self._lineage.parent(entry)
        while ancestor is not None:
            if ancestor not in self._given_up:
                path.append(ancestor)
            ancestor = self._lineage.parent(ancestor)
        excess = len(path) + 1 - self._cap
        for one in reversed(path):  # shallow to deep
            if excess > 0 and len(self._lineage.children(one)) < 2:
                self._given_up[one] = None
                excess -= 1

    def touched(self, entry: Snapshot) -> None:
        super().added(entry)

    def moved(self, entry: Snapshot) -> None:
        pass

    def removed(self, entry: Snapshot) -> None:
        super().removed(entry)
        self._lineage.remove(entry)
        self._given_up.pop(entry, None)

    def victim(self) -> Snapshot:
        overall = super().victim()
        given_up = next(iter(self._given_up), None)
        self.fired += given_up is not None and given_up is not overall
        return given_up or overall
