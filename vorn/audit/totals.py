"""What was run, added up under the paper's counting contract, and runs that stand in several places.

Source of the contract: vorn-mat, scripts/appendix_a_recompute.py: entries of certain arrays count as rows, and their
observations, `estimated_cost_usd` and `elapsed_seconds` are added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vorn.audit.published import Artifact, Counted, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over counted rows."""

    rows: int
    rows_with_observations: int
    observations: int
    cost_usd: float
    duration_h: float


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a file."""

    path: str
    row: Row
    is_counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """Rows with the same completions on the same fixtures, or without any and with the same numbers."""

    places: tuple[Place, ...]
    is_same_run: bool  # of one duration too; else separate runs that gave the same completions
    is_graded_alike: bool  # whether the outcomes are the same as well


def add_up(counted: Iterable[Counted]) -> Totals:
    """The sums of these rows."""
    entries = list(counted)
    return Totals(
        rows=len(entries),
        rows_with_observations=sum(one.n_observations > 0 for one in entries),
        observations=sum(one.n_observations for one in entries),
        cost_usd=sum(one.cost_usd for one in entries),
        duration_h=sum(one.duration_s for one in entries) / 3600,
    )


def repeated_rows(artifacts: Sequence[Artifact]) -> list[Repeated]:
    """Rows whose completions stand in several places: first groups that are one run, then separate runs.

    A run is known by its completions and its duration, in seconds with their decimals: two runs of a deterministic
    decoder may give the same text, but not in the same time. A row without observations is known by its model, budget,
    outcome, cost and duration; where one of the last two is missing, it is taken for a run of its own.
    """
    by_content: dict[object, list[Place]] = {}
    for artifact in artifacts:
        counted = {one.where for one in artifact.counted}
        for row in artifact.rows:
            content = _completions(row) if row.observations else _numbers(row)
            if content is not None:
                by_content.setdefault(content, []).append(Place(artifact.path, row, row.where in counted))
    groups = []
    for places in by_content.values():
        runs = _runs(places)
        groups += [_repeated(run, is_same_run=True) for run in runs if len(run) > 1]
        if len(runs) > 1:
            groups.append(_repeated([run[0] for run in runs], is_same_run=False))
    return sorted(groups, key=lambda group: not group.is_same_run)


def counted_once(artifacts: Sequence[Artifact], repeated: Sequence[Repeated]) -> list[Counted]:
    """The counted rows without those that repeat a run that is counted already."""
    again = set()
    for group in repeated:
        if group.is_same_run:
            again.update([(place.path, place.row.where) for place in group.places if place.is_counted][1:])
    return [one for artifact in artifacts for one in artifact.counted if (artifact.path, one.where) not in again]


def _completions(row: Row) -> bytes:
    texts = sorted((seen.fixture_id, seen.completion) for seen in row.observations)
    return hashlib.sha256(json.dumps(texts).encode()).digest()


def _numbers(row: Row) -> tuple[object, ...] | None:
    if row.cost_usd is None or row.duration_s is None:
        return None
    return row.model, row.budget, row.n, row.hits, row.rate, row.cost_usd, row.duration_s


def _runs(places: Sequence[Place]) -> list[list[Place]]:
    """The places by run; a row without a duration is a run of its own."""
    runs: dict[object, list[Place]] = {}
    for index, place in enumerate(places):
        runs.setdefault(index if place.row.duration_s is None else (place.row.duration_s,), []).append(place)
    return list(runs.values())


def _repeated(places: Sequence[Place], *, is_same_run: bool) -> Repeated:
    first = places[0].row.outcomes
    return Repeated(
        places=tuple(places),
        is_same_run=is_same_run,
        is_graded_alike=all(place.row.outcomes == first for place in places),
    )
