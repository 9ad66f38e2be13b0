"""Outcomes place by place, where fixtures stand on two axes: the numbers of a heat map such as depth against length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vorn.records import Axes, Observation
from vorn.report.columns import Key, outcomes_by_fixture
from vorn.stats import compared

if TYPE_CHECKING:
    from vorn.report.rows import CellRow

MOST_VALUES = 24  # of one axis on a heat map; with more, no number could be read


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """A row of grid.csv: a cell on the fixtures of one place; None where no fixture has an outcome."""

    cell_id: str
    cell: str
    model: str
    task: str
    down: str  # names of the axes and the place on them, see `vorn.records.Axes`
    down_at: float
    across: str
    across_at: float
    n: int  # fixtures with an outcome
    n_errors: int
    hits: int
    mean_outcome: float | None
    mean_low: float | None
    mean_high: float | None
    ci_method: str
    n_paired: int  # fixtures with an outcome here and in the reference; 0 for references and A/A cells
    difference: float | None  # mean outcome minus the reference's, on these; not tested


def grid_rows(
    cells: Sequence[CellRow],
    by_cell: Mapping[str, Sequence[Observation]],
    summed_up: Callable[[Sequence[Observation]], CellRow],
) -> Iterator[GridRow]:
    """Every cell at every place, down and then across; nothing unless there are two places or more.

    A ledger that was begun by a version without axes has them where the fixture was measured again, in any cell.

    Args:
        cells: of one evaluation.
        by_cell: observations by cell_id.
        summed_up: the row of some of a cell's observations.
    """
    every = [seen for group in by_cell.values() for seen in group]
    places = {(seen.fixture_id, seen.fingerprint): seen.axes for seen in every if seen.axes}
    if len(set(places.values())) < 2:
        return
    references = {
        lhs.cell_id: rhs.cell_id for lhs, rhs in compared([one for one in cells if not one.replica_of], "vs_full")
    }
    for cell in cells:
        groups: dict[Axes, list[Observation]] = {}
        for seen in by_cell[cell.cell_id]:
            if axes := places.get((seen.fixture_id, seen.fingerprint)):
                groups.setdefault(axes, []).append(seen)
        whole = outcomes_by_fixture(by_cell[references[cell.cell_id]]) if cell.cell_id in references else {}
        for axes in sorted(groups, key=lambda one: (one.down, one.across, one.down_at, one.across_at)):
            yield _row(cell, axes, summed_up(groups[axes]), _differences(groups[axes], whole))


def main_axes(rows: Sequence[GridRow]) -> list[GridRow]:
    """The rows of the two axes on which most outcomes stand, of equal ones the first."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.down, row.across] += row.n
    axes = max(counts, key=lambda names: counts[names], default=("", ""))
    return [row for row in rows if (row.down, row.across) == axes]


def axis_values(rows: Sequence[GridRow]) -> tuple[list[float], list[float]]:
    """The values that occur, down and across, each from the lowest."""
    return sorted({row.down_at for row in rows}), sorted({row.across_at for row in rows})


def fits_on_a_map(rows: Sequence[GridRow]) -> bool:
    """Whether a heat map of these rows, of the same axes, can be read."""
    return bool(rows) and max(map(len, axis_values(rows))) <= MOST_VALUES


def value_text(value: float) -> str:
    """`0.25`, `131072`."""
    return f"{value:.12g}"


def _row(cell: CellRow, axes: Axes, here: CellRow, differences: Sequence[float]) -> GridRow:
    return GridRow(
        cell_id=cell.cell_id,
        cell=cell.cell,
        model=cell.model,
        task=cell.task,
        down=axes.down,
        down_at=float(axes.down_at),
        across=axes.across,
        across_at=float(axes.across_at),
        n=here.n,
        n_errors=here.n_errors,
        hits=here.hits,
        mean_outcome=here.mean_outcome,
        mean_low=here.mean_low,
        mean_high=here.mean_high,
        ci_method=here.ci_method,
        n_paired=len(differences),
        difference=sum(differences) / len(differences) if differences else None,
    )


def _differences(group: Sequence[Observation], whole: Mapping[Key, float]) -> list[float]:
    own = outcomes_by_fixture(group)
    return [outcome - whole[key] for key, outcome in own.items() if key in whole]
