"""Marconi's score: recency plus the compute that a snapshot saves per byte."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.entry import Snapshot
from vorn.snapshots.evictor import Bump, Evictor, Ranked, Setting
from vorn.snapshots.policies.lineage import Lineage


@dataclass(frozen=True)
class Marconi:
    """Evicts the least S(n) = recency(n) + alpha * efficiency(n).

    Both terms are min-max normalised over the candidates (0 where all are equal); recency is the clock of the last use;
    efficiency is the work that the snapshot saves relative to its nearest resident ancestor, by the engine's cost law,
    per byte. Of equal scores the earliest stored goes.
    Source: Marconi, arXiv:2411.19379, with bump=winner; alpha=0 is LRU. Departures: every resident is a candidate, not
    only radix nodes with at most one child, because a snapshot without its ancestors is still usable; alpha is a
    parameter, not tuned on the first part of the log; of the paper's public code nothing is taken (its MLP term
    subtracts attention FLOPs and its byte count belongs to another node).
    O(n) per eviction, since the scale of both terms changes with the candidates; O(log n) with alpha=0.
    """

    bump: Bump
    alpha: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < float("inf"):
            raise BadInput(f"alpha={self.alpha} of marconi: legal is a finite number >= 0; the paper searches 0 to 2")

    def start(self, setting: Setting) -> Evictor:
        """An evictor for one empty pool."""
        return _Scored(self.alpha, setting) if self.alpha else Ranked(lambda entry: entry.last)


class _Scored(Evictor):
    def __init__(self, alpha: float, setting: Setting) -> None:
        super().__init__()
        self._alpha = alpha
        self._work = setting.work
        self._lineage = Lineage()
        self._efficiency: dict[Snapshot, float] = {}

    def added(self, entry: Snapshot) -> None:
        for one in [*self._lineage.add(entry), entry]:
            self._efficiency[one] = self._saved_per_byte(one)

    def removed(self, entry: Snapshot) -> None:
        del self._efficiency[entry]
        for one in self._lineage.remove(entry):
            self._efficiency[one] = self._saved_per_byte(one)

    def victim(self) -> Snapshot:
        values = self._efficiency.values()
        least, spread = min(values), max(values) - min(values)
        oldest = min(entry.last for entry in self._efficiency)
        age = max(entry.last for entry in self._efficiency) - oldest
        recency_scale = 1 / age if age else 0.0
        efficiency_scale = self._alpha / spread if spread else 0.0
        scores = (
            ((entry.last - oldest) * recency_scale + (value - least) * efficiency_scale, entry.place, entry)
            for entry, value in self._efficiency.items()
        )
        return min(scores, key=lambda scored: scored[:2])[2]

    def _saved_per_byte(self, entry: Snapshot) -> float:
        return self._work(self._lineage.base(entry), entry.depth) / entry.size_bytes
