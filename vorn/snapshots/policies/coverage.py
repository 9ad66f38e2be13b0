"""SGLang pull request 38000: thin the coldest path so that what is left still covers it."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting
from vorn.snapshots.policies.lineage import Lineage


@dataclass(frozen=True)
class Coverage:
    """On the path of the least recently used snapshot, evicts the one whose removal opens the smallest gap.

    The gap of an interior resident (one that exactly one resident continues) is the distance between its neighbours on
    the path; of equal gaps the shallowest goes, so that a path first loses every other snapshot. A path without
    interior residents loses the least recently used itself.
    Source: SGLang pull request 38000, with bump=winner, after its description; its code was not read, so that ties and
    locks may differ. O(residents of the path + log n).
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Thinned()


class _Thinned(Ranked):
    protects = True

    def __init__(self) -> None:
        super().__init__(lambda entry: entry.last)
        self._lineage = Lineage()

    def added(self, entry: Snapshot) -> None:
        super().added(entry)
        self._lineage.add(entry)

    def touched(self, entry: Snapshot) -> None:
        super().added(entry)

    def moved(self, entry: Snapshot) -> None:
        pass

    def removed(self, entry: Snapshot) -> None:
        super().removed(entry)
        self._lineage.remove(entry)

    def victim(self) -> Snapshot:
        overall = super().victim()
        interior = [one for one in self._path(overall) if len(self._lineage.children(one)) == 1]
        found = min(interior, key=lambda one: (self._gap(one), one.depth), default=overall)
        self.fired += found is not overall
        return found

    def _gap(self, entry: Snapshot) -> int:
        return self._lineage.children(entry)[0].depth - self._lineage.base(entry)

    def _path(self, entry: Snapshot) -> list[Snapshot]:
        """Ancestors, the entry, and its descendants as far as no fork comes."""
        path = [entry]
        while (parent := self._lineage.parent(path[-1])) is not None:
            path.append(parent)
        while len(children := self._lineage.children(entry)) == 1:
            entry = children[0]
            path.append(entry)
        return path
