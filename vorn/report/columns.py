"""Outcomes of an evaluation's cells as arrays over one axis of fixtures, so that a comparison costs no loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vorn.records import Observation

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Key = tuple[str, str, str]


def fixture_key(seen: Observation) -> Key:
    """What makes a fixture the same in two cells: its id, its fingerprint and the grading rule."""
    return seen.fixture_id, seen.fingerprint, seen.grade


def outcomes_by_fixture(group: Iterable[Observation]) -> dict[Key, float]:
    """The outcomes of some observations of one cell, without those that have none."""
    return {fixture_key(seen): seen.outcome for seen in group if seen.outcome is not None}


def subtasks_by_fixture(by_cell: Mapping[str, Sequence[Observation]]) -> dict[Key, str]:
    """The sub-task of every fixture that has one.

    A ledger that was begun by a version without sub-tasks has it where the fixture was measured again, in any cell.
    """
    every = [seen for group in by_cell.values() for seen in group]
    names = {(seen.fixture_id, seen.fingerprint): seen.subtask for seen in every if seen.subtask}
    found = {fixture_key(seen): names.get((seen.fixture_id, seen.fingerprint), "") for seen in every}
    return {key: name for key, name in found.items() if name}


@dataclass(frozen=True, eq=False)
class Column:
    """One cell on every fixture of the evaluation, all arrays [fixtures] in the task's order.

    Attributes:
        index: 0-based position of the fixture in its task; -1 where the cell did not attempt it.
        outcome: NaN where there is none.
        answer_nll: nats; NaN where it was not measured.
        budget_tokens: 0 where the cell did not attempt the fixture.
        clusters: of the fixtures, shared by all columns of the evaluation; "" stands alone.
        subtasks: of the fixtures, shared likewise; "" where the task is not made of several.
    """

    index: NDArray[np.int64]
    outcome: Floats
    answer_nll: Floats
    budget_tokens: NDArray[np.int64]
    clusters: Sequence[str]
    subtasks: Sequence[str]

    @property
    def is_attempted(self) -> Mask:
        """Where the cell has an outcome or an error."""
        return self.index >= 0

    @property
    def is_done(self) -> Mask:
        """Where the cell has an outcome."""
        return ~np.isnan(self.outcome)


def on_subtask(columns: Mapping[str, Column], name: str) -> dict[str, Column]:
    """The columns of one evaluation on the fixtures of one sub-task."""
    axis = next(iter(columns.values()))
    rows = [row for row, subtask in enumerate(axis.subtasks) if subtask == name]
    shared = {"clusters": [axis.clusters[row] for row in rows], "subtasks": [name] * len(rows)}
    return {
        cell_id: replace(
            column,
            index=column.index[rows],
            outcome=column.outcome[rows],
            answer_nll=column.answer_nll[rows],
            budget_tokens=column.budget_tokens[rows],
            **shared,
        )
        for cell_id, column in columns.items()
    }


def make_columns(by_cell: Mapping[str, Sequence[Observation]]) -> dict[str, Column]:
    """A column per cell id of one evaluation's observations."""
    axis: dict[Key, tuple[int, str]] = {}
    for group in by_cell.values():
        for seen in group:
            axis.setdefault(fixture_key(seen), (seen.fixture_index, seen.cluster))
    subtask_of = subtasks_by_fixture(by_cell)
    order = sorted(axis, key=lambda key: (axis[key][0], key[0]))
    clusters, subtasks = [axis[key][1] for key in order], [subtask_of.get(key, "") for key in order]
    place = {key: row for row, key in enumerate(order)}
    return {name: _column(group, place, clusters, subtasks) for name, group in by_cell.items()}


def _column(
    group: Sequence[Observation], place: Mapping[Key, int], clusters: Sequence[str], subtasks: Sequence[str]
) -> Column:
    rows = [place[fixture_key(seen)] for seen in group]
    column = Column(
        index=np.full(len(place), -1, dtype=np.int64),
        outcome=np.full(len(place), np.nan),
        answer_nll=np.full(len(place), np.nan),
        budget_tokens=np.zeros(len(place), dtype=np.int64),
        clusters=clusters,
        subtasks=subtasks,
    )
    column.index[rows] = [seen.fixture_index for seen in group]
    column.outcome[rows] = [np.nan if seen.outcome is None else seen.outcome for seen in group]
    column.answer_nll[rows] = [np.nan if seen.answer_nll is None else seen.answer_nll for seen in group]
    column.budget_tokens[rows] = [seen.budget_tokens for seen in group]
    return column
