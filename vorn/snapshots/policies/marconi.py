"""Marconi's score: recency plus the compute that a snapshot saves per byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vorn.records import BadInput
from vorn.snapshots.agetree import AgeTree
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
    O(log n) unless many scores are nearly equal: the scale of both terms changes with the candidates, so that no fixed
    order of the snapshots exists, but the least sum is found from bounds (`vorn.snapshots.agetree`).
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
        self._tree: AgeTree[Snapshot] = AgeTree()

    def added(self, entry: Snapshot) -> None:
        adopted = self._lineage.add(entry)
        self._tree.put(entry, self._saved_per_byte(entry))
        self._rate(adopted)

    def touched(self, entry: Snapshot) -> None:
        self._tree.put(entry, self._tree.worth(entry))

    def removed(self, entry: Snapshot) -> None:
        self._tree.drop(entry)
        self._rate(self._lineage.remove(entry))

    def victim(self) -> Snapshot:
        return self._tree.least(self._alpha)

    def _rate(self, entries: Sequence[Snapshot]) -> None:
        for one in entries:
            self._tree.change(one, self._saved_per_byte(one))

    def _saved_per_byte(self, entry: Snapshot) -> float:
        return self._work(self._lineage.base(entry), entry.depth) / entry.size_bytes
