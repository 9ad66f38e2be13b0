"""A uniformly random victim: the floor that a policy should beat."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random as Generator

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Setting


@dataclass(frozen=True)
class Random:
    """Every resident is as likely a victim as any other; the same `seed` draws the same victims. O(1)."""

    bump: Bump
    seed: int

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Draw(self.seed)


class _Draw(Evictor):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = Generator(seed)
        self._residents: list[Snapshot] = []
        self._places: dict[Snapshot, int] = {}

    def added(self, entry: Snapshot) -> None:
        self._places[entry] = len(self._residents)
        self._residents.append(entry)

    def removed(self, entry: Snapshot) -> None:
        place, last = self._places.pop(entry), self._residents.pop()
        if last is not entry:
            self._residents[place] = last
            self._places[last] = place

    def victim(self) -> Snapshot:
        return self._residents[self._generator.randrange(len(self._residents))]
