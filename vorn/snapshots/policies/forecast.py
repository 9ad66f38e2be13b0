"""The baseline of Atlas pull request 207: recency times hits."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting


def forecast(entry: Snapshot) -> tuple[int, int]:
    """Last * (1 + hits), then storage order: the least is evicted first, and of equals the earliest stored."""
    return entry.last * (1 + entry.hits), entry.place


@dataclass(frozen=True)
class Forecast:
    """Evicts the least last * (1 + hits).

    Source: Atlas pull request 207, `evict_lru`, with bump=improving. (Its comment names Marconi as the source; that
    paper has no hit count.) bump=winner is the ablation `forecast_winner`: what half of the repair in Atlas pull
    request 287 does alone. Departure: no saturation at 2**64, which no clock reaches.
    """

    bump: Bump

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return Ranked(forecast)
