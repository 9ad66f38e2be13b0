"""Rates by sub-task, where a task is made of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vorn.records import Observation
from vorn.report.columns import fixture_key, subtasks_by_fixture

if TYPE_CHECKING:
    from vorn.report.rows import CellRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A row of tasks.csv: a cell on the fixtures of one sub-task; what the columns mean is said in `CellRow`."""

    cell_id: str
    cell: str
    model: str
    task: str
    subtask: str
    n: int
    n_errors: int
    hits: int
    hit_rate: float | None
    mean_outcome: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    mean_evidence_kept: float | None


def subtask_names(by_cell: Mapping[str, Sequence[Observation]]) -> list[str]:
    """The sub-tasks of an evaluation in the order of their first fixtures; empty unless there are two or more."""
    first: dict[str, int] = {}
    for seen in (seen for group in by_cell.values() for seen in group):
        if seen.subtask:
            first[seen.subtask] = min(first.get(seen.subtask, seen.fixture_index), seen.fixture_index)
    return sorted(first, key=lambda name: (first[name], name)) if len(first) > 1 else []


def subtask_rows(
    cells: Sequence[CellRow],
    by_cell: Mapping[str, Sequence[Observation]],
    summed_up: Callable[[Sequence[Observation]], CellRow],
) -> Iterator[TaskRow]:
    """Every cell on every sub-task, in the order of the fixtures; nothing unless there are two sub-tasks or more.

    Args:
        cells: of one evaluation.
        by_cell: observations by cell_id.
        summed_up: the row of some of a cell's observations.
    """
    names, subtask_of = subtask_names(by_cell), subtasks_by_fixture(by_cell)
    for cell in cells:
        groups: dict[str, list[Observation]] = {}
        for seen in by_cell[cell.cell_id]:
            groups.setdefault(subtask_of.get(fixture_key(seen), ""), []).append(seen)
        for subtask in names:
            if subtask in groups:
                row = summed_up(groups[subtask])
                yield TaskRow(
                    cell_id=cell.cell_id,
                    cell=cell.cell,
                    model=cell.model,
                    task=cell.task,
                    subtask=subtask,
                    n=row.n,
                    n_errors=row.n_errors,
                    hits=row.hits,
                    hit_rate=row.hit_rate,
                    mean_outcome=row.mean_outcome,
                    ci_low=row.ci_low,
                    ci_high=row.ci_high,
                    ci_method=row.ci_method,
                    mean_evidence_kept=row.mean_evidence_kept,
                )
