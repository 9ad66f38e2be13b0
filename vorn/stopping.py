"""Which cells a sequential run still has to measure: those with a comparison that is neither shown nor hopeless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from vorn.records import BadInput, Observation
from vorn.stats import Evidence, settled, smallest_discordant_anytime


@dataclass(slots=True)
class _Pair:
    """Two cells on their common prefix: the fixtures from the first on that both have been tried on."""

    lhs: str
    rhs: str
    fixtures: int = 0
    evidence: Evidence = field(default_factory=Evidence)

    def look(self, left: float | None, right: float | None) -> None:
        """The next fixture's outcomes; one without an outcome makes no pair."""
        self.fixtures += 1
        if left is not None and right is not None:
            self.evidence.observe(left == 1.0, right == 1.0)


@dataclass(slots=True)
class Stopping:
    """Looks after every fixture, on anytime-valid p-values, so that looking costs nothing.

    A comparison is settled when Holm's procedure rejects it within its family, which holds from then on, because the
    p-values never rise, or when the fixtures that are left cannot show it any more (`vorn.stats.settled`). A cell is
    active as long as one of its comparisons is not settled.

    Attributes:
        families: the comparisons, as pairs of cell ids, by family; at least one.
        planned: fixtures of the whole run.
        alpha: error rate of each family.
        replicas: id of the cell that is repeated, by the id of the replica; the two stop together.
    """

    families: Sequence[Sequence[tuple[str, str]]]
    planned: int
    alpha: float
    replicas: dict[str, str]
    active: set[str] = field(init=False)
    _pairs: list[list[_Pair]] = field(init=False)
    _seen: dict[int, dict[str, float | None]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._pairs = [[_Pair(*pair) for pair in family] for family in self.families if family]
        if not self._pairs:
            raise BadInput(
                "stats.stop=sequential has no comparison to decide: legal with a pruned cell in a tested family; name "
                "a policy, widen stats.families, or give stats.stop=null"
            )
        self._settle()
        if not self.active:
            least = smallest_discordant_anytime(self.alpha, 1)
            raise BadInput(
                f"stats.stop=sequential with {self.planned} fixtures can show nothing at stats.alpha={self.alpha:g}: "
                f"legal is at least {least}; raise limit, or give stats.stop=null"
            )

    def replay(self, observations: Iterable[Observation]) -> None:
        """Start from what was measured before. Errors are left out: they are tried again before anything later."""
        done = [seen for seen in observations if seen.outcome is not None]
        for _, group in groupby(sorted(done, key=_index), key=_index):
            self.observe(list(group))

    def observe(self, observations: Sequence[Observation]) -> None:
        """Look at a fixture's observations, or at some of them; those of an earlier fixture may still be missing."""
        for seen in observations:
            self._seen.setdefault(seen.fixture_index, {})[seen.cell_id] = seen.outcome
        for family in self._pairs:
            for pair in family:
                self._advance(pair)
        self._settle()

    @property
    def fixtures(self) -> int:
        """How many it has looked at."""
        return len(self._seen)

    def _advance(self, pair: _Pair) -> None:
        while True:
            outcomes = self._seen.get(pair.fixtures, {})
            if pair.lhs not in outcomes or pair.rhs not in outcomes:
                return
            pair.look(outcomes[pair.lhs], outcomes[pair.rhs])

    def _settle(self) -> None:
        self.active = set()
        for family in self._pairs:
            done = settled(
                {number: pair.evidence for number, pair in enumerate(family)},
                {number: self.planned - pair.fixtures for number, pair in enumerate(family)},
                self.alpha,
            )
            for number, pair in enumerate(family):
                if number not in done.rejected and number not in done.futile:
                    self.active |= {pair.lhs, pair.rhs}
        self.active |= {replica for replica, original in self.replicas.items() if original in self.active}


def _index(seen: Observation) -> int:
    return seen.fixture_index
