"""Choosing parameters on one half of the fixtures and testing on the other, so that the best is no lucky one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vorn.records import Observation, digest
from vorn.report.columns import Key, outcomes_by_fixture
from vorn.report.rows import CellRow, SelectionRow

Observations = Mapping[str, Sequence[Observation]]


class Selected(NamedTuple):
    """What was chosen, and what is left to test it on."""

    rows: tuple[SelectionRow, ...]
    cells: list[CellRow]  # the chosen ones, and those that had no rival
    by_cell: Observations  # on the half that tests


def in_test_half(seen: Observation) -> bool:
    """Whether a fixture belongs to the half that tests, by the hash of its id.

    Not every other one: tasks whose sub-tasks or settings come in turns would get halves of different kinds. Fixtures
    that share a cluster stay together, by the hash of its name, so that the halves are independent. No later fixture
    moves one from half to half.
    """
    return int(digest(seen.cluster or seen.fixture_id), 16) % 2 == 1


def select(cells: Sequence[CellRow], by_cell: Observations) -> Selected:
    """In each group of cells that differ in the policy's parameters only, the one with the best mean outcome.

    Means are taken on the choosing half's fixtures with an outcome in all candidates; the first of equal ones is
    chosen, and none where there is no such fixture. Groups of one, the reference and replicas have nothing to choose.
    """
    groups: dict[tuple[str, ...], list[CellRow]] = {}
    for cell in cells:
        if not cell.is_reference and not cell.replica_of:
            key = cell.policy, cell.unit, cell.guards, cell.budget, cell.contract
            groups.setdefault(key, []).append(cell)
    rivals = [group for group in groups.values() if len(group) > 1]
    rows = tuple(row for group in rivals for row in _rows(group, by_cell))
    beaten = {row.cell for row in rows if not row.chosen}
    kept = [cell for cell in cells if cell.cell not in beaten]
    return Selected(
        rows, kept, {name: [seen for seen in group if in_test_half(seen)] for name, group in by_cell.items()}
    )


def _rows(group: Sequence[CellRow], by_cell: Observations) -> list[SelectionRow]:
    chooses = {cell.cell_id: _outcomes(by_cell[cell.cell_id], testing=False) for cell in group}
    tested = {cell.cell_id: _outcomes(by_cell[cell.cell_id], testing=True) for cell in group}
    common = set.intersection(*(set(outcomes) for outcomes in chooses.values()))
    means = [_mean([chooses[cell.cell_id][key] for key in common]) for cell in group]
    best = means.index(max(mean for mean in means if mean is not None)) if common else None
    return [
        SelectionRow(
            group="/".join((cell.policy, cell.unit, cell.budget)),
            cell=cell.cell,
            model=cell.model,
            task=cell.task,
            chosen=index == best,
            n_select=len(common),
            select_mean=means[index],
            n_test=len(tested[cell.cell_id]),
            test_mean=_mean(list(tested[cell.cell_id].values())),
        )
        for index, cell in enumerate(group)
    ]


def _outcomes(group: Sequence[Observation], *, testing: bool) -> dict[Key, float]:
    return outcomes_by_fixture(seen for seen in group if in_test_half(seen) == testing)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
