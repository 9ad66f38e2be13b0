"""Sentences below the figures, each made of the numbers that its figure shows."""

from __future__ import annotations

from collections.abc import Sequence

from vorn.records import REFERENCE
from vorn.report.grid import main_axes, value_text
from vorn.report.page import grid
from vorn.report.page.forest import MOST
from vorn.report.page.layers import layer_lines
from vorn.report.page.positions import BINS, kept_by_place
from vorn.report.reports import EvaluationReport
from vorn.report.rows import CellRow, NoiseRow, PairRow
from vorn.report.words import counted, sentence
from vorn.views import View


def outcomes_caption(evaluation: EvaluationReport) -> str:
    """Which cell with eviction is highest, and where the reference is."""
    best = _best(evaluation)
    if not best:
        return ""
    whole = [
        f"; {cell.cell} {_mean(cell)}"
        for cell in evaluation.cells
        if cell.is_reference and not cell.replica_of and cell.n
    ]
    return f"Highest with eviction: {best}{''.join(whole)}."


def matrix_caption(evaluations: Sequence[EvaluationReport]) -> str:
    """The highest cell of each model."""
    found = [f"{one.model}: {best}" for one in evaluations if (best := _best(one))]
    return f"Highest with eviction: {'; '.join(found)}." if found else ""


def forest_caption(pairs: Sequence[PairRow], noise: Sequence[NoiseRow]) -> str:
    """How many comparisons are drawn, and what the band is where there is one."""
    tested = sum(pair.p_holm is not None for pair in pairs)
    real = sum(pair.is_real for pair in pairs)
    drawn = f"The {MOST} largest of {tested} comparisons" if tested > MOST else counted(tested, "comparison")
    limit = max((row.limit for row in noise), default=None)
    band = "" if limit is None else f" Grey: the noise floor, {100 * limit:.1f} points either way."
    return f"{drawn}; {real} of {tested} real after Holm.{band}"


def granularity_caption(evaluation: EvaluationReport) -> str:
    """The largest difference that a unit makes."""
    real = [pair for pair in evaluation.family("units") if pair.is_real]
    tested = sum(pair.p_holm is not None for pair in evaluation.family("units"))
    if not real:
        return f"Of {counted(tested, 'comparison')} between units none is real after Holm." if tested else ""
    largest = max(real, key=lambda pair: abs(pair.difference or 0.0))
    return f"{len(real)} of {counted(tested, 'comparison')} between units real; the largest: {sentence(largest)}."


def layers_caption(evaluation: EvaluationReport) -> str:
    """The best and the worst layer of each line; with a warning, because the best of many is a lucky one."""
    parts = []
    for key, line in layer_lines(evaluation.cells).items():
        best, worst = (choose(line, key=lambda one: one[1].mean_outcome or 0.0) for choose in (max, min))
        parts.append(
            f"{key.split(',')[0]}: layer {best[0]} {_mean(best[1])}, layer {worst[0]} {_mean(worst[1])}, of {len(line)}"
        )
    chosen = (
        "" if evaluation.plan.split else " Chosen and tested on the same fixtures; stats.split=select keeps them apart."
    )
    return f"Best and worst: {'; '.join(parts)}.{chosen}"


def positions_caption(cells: Sequence[CellRow], views: Sequence[View]) -> str:
    """Which cell keeps most of the first quarter, and which most of the last."""
    kept = {cell.cell: cell.cell_id for cell in cells if any(cell.cell_id in view.kept for view in views)}
    shown = {label: kept_by_place(cell_id, views) for label, cell_id in kept.items()}
    quarter = BINS // 4
    parts = []
    for name, part in (("first", slice(0, quarter)), ("last", slice(-quarter, None))):
        most = max(shown, key=lambda cell, part=part: float(shown[cell][part].sum() / shown[cell].sum()))  # type: ignore[misc]
        share = float(shown[most][part].sum() / shown[most].sum())
        parts.append(f"{share:.0%} of what {most} keeps stands in the {name} quarter")
    return f"Mean of {counted(len(views), 'fixture')}; {'; '.join(parts)}, the most of all cells."


def grid_caption(evaluation: EvaluationReport) -> str:
    """How many fixtures a field is of, which cells are drawn, and which fixtures or axes are not."""
    rows = main_axes(evaluation.grid)
    counts = [row.n for row in rows]
    fewest, most = min(counts), max(counts)
    each = f"{most}" if fewest == most else f"{fewest} to {most}"
    return " ".join([f"Every field is the mean of {each} fixture{'s' if most != 1 else ''}.", *_not_drawn(evaluation)])


def difference_caption(evaluation: EvaluationReport) -> str:
    """The place with the largest loss, on how many fixtures, if any; and that nothing here is tested."""
    rows = [row for row in main_axes(evaluation.grid) if row.difference is not None]
    drawn = {cell.cell_id for cell in grid.shown_cells(evaluation)}
    worst = min((row for row in rows if row.cell_id in drawn), key=lambda row: row.difference or 0.0)
    untested = "Fields are not tested: their numbers are small."
    if (worst.difference or 0.0) >= 0:
        return f"No field is below {REFERENCE}. {untested}"
    place = f"{worst.down} {value_text(worst.down_at)}, {worst.across} {value_text(worst.across_at)}"
    lost = f"The lowest: {worst.cell} at {place}, {100 * (worst.difference or 0.0):+.0f} points"
    return f"{lost} on {counted(worst.n_paired, 'fixture')}. {untested}"


def _not_drawn(evaluation: EvaluationReport) -> list[str]:
    rows = main_axes(evaluation.grid)
    cells = {row.cell_id for row in rows} - {cell.cell_id for cell in evaluation.cells if cell.replica_of}
    lines = []
    if len(cells) > grid.MOST:
        lines.append(f"{grid.MOST} of {len(cells)} cells: references, and those of the smallest budgets.")
    if others := len({(row.down, row.across) for row in evaluation.grid}) - 1:
        lines.append(f"{counted(others, 'other pair')} of axes in grid.csv.")
    placed = sum(row.n + row.n_errors for row in evaluation.grid)
    if without := sum(cell.n + cell.n_errors for cell in evaluation.cells) - placed:
        lines.append(f"{counted(without, 'observation')} left out: the ledger has no axes of their fixtures.")
    return lines


def _best(evaluation: EvaluationReport) -> str:
    """`h2o/token/25% and 1 more cell, 93 % [86 to 97]`; "" if no cell with eviction has an outcome."""
    pruned = [cell for cell in evaluation.cells if cell.n and not cell.is_reference and not cell.replica_of]
    if not pruned:
        return ""
    best = max(pruned, key=lambda cell: cell.mean_outcome or 0.0)
    more = sum(cell.mean_outcome == best.mean_outcome for cell in pruned) - 1
    others = f" and {counted(more, 'more cell')}" if more else ""
    return f"{best.cell}{others}, {_mean(best)}"


def _mean(cell: CellRow) -> str:
    mean, low, high = (100 * (end or 0.0) for end in (cell.mean_outcome, cell.mean_low, cell.mean_high))
    return f"{mean:.0f} % [{low:.0f} to {high:.0f}]"
