"""What stopping early saved: decoded rows of settled cells, prefills of a settled panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vorn.records import Manifest, Observation
from vorn.report.rows import CellRow, PairRow, Saved
from vorn.stats import Evidence, TestPlan, settled


def saved_compute(
    cells: Sequence[CellRow],
    by_cell: Mapping[str, Sequence[Observation]],
    pairs: Sequence[PairRow],
    manifests: Sequence[Manifest],
    plan: TestPlan,
) -> Saved:
    """What a sequential run did not need to do.

    A cell with fewer fixtures than planned was stopped if each of its comparisons is settled: rejected, or beyond reach
    of the fixtures that were left. Otherwise it is unfinished, as after an interruption.
    """
    planned = max((count for one in manifests if (count := planned_fixtures(one)) is not None), default=None)
    done = {name: len({seen.fixture_index for seen in group}) for name, group in by_cell.items()}
    fixtures = len({seen.fixture_index for group in by_cell.values() for seen in group})
    open_cells = {name for pair in _open(pairs, planned, plan) for name in (pair.lhs_id, pair.rhs_id)}
    short = [cell for cell in cells if not cell.replica_of and planned is not None and done[cell.cell_id] < planned]
    return Saved(
        planned=planned,
        fixtures=fixtures,
        stopped=tuple((cell.cell, done[cell.cell_id]) for cell in short if cell.cell_id not in open_cells),
        unfinished=tuple(cell.cell for cell in short if cell.cell_id in open_cells),
    )


def _open(pairs: Sequence[PairRow], planned: int | None, plan: TestPlan) -> list[PairRow]:
    """The comparisons on which further fixtures could change something."""
    still_open = []
    for family in plan.families:
        own = [pair for pair in pairs if pair.family == family and pair.max_log_e is not None]
        evidence = {
            index: Evidence(pair.lhs_only, pair.rhs_only, pair.max_log_e or 0.0) for index, pair in enumerate(own)
        }
        left = {index: max(0, (planned or 0) - (pair.looks or 0)) for index, pair in enumerate(own)}
        done = settled(evidence, left, plan.alpha)
        still_open += [
            pair for index, pair in enumerate(own) if index not in done.rejected and index not in done.futile
        ]
    return still_open


def planned_fixtures(manifest: Manifest) -> int | None:
    """Fixtures that a run was asked for; None where neither it nor its configuration says."""
    if manifest.fixtures is not None:
        return manifest.fixtures
    limit, task = manifest.config.get("limit"), manifest.config.get("task")
    fixtures = task.get("fixtures") if isinstance(task, Mapping) else None
    counts = [count for count in (limit, fixtures) if isinstance(count, int)]
    return counts[0] if counts else None
