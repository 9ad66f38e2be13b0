"""First in, first out."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting


@dataclass(frozen=True)
class Fifo:
    """Evicts the snapshot whose prefix was first inserted the longest ago; uses and re-insertions do not count."""

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return Ranked(lambda entry: entry.born)
