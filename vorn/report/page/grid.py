"""Heat maps of two axes that a task's fixtures have, such as depth against length: a small map per cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.records import REFERENCE
from vorn.report.grid import GridRow, axis_values, fits_on_a_map, main_axes, value_text
from vorn.report.reports import EvaluationReport
from vorn.report.rows import CellRow
from vorn.report.style import DARK, DIVERGING, LIGHT, SCALE, text_inches
from vorn.report.words import outcome_name

MOST = 24  # maps in one figure
_WIDTH = 8.0  # inches that a row of maps may take
_SMALL, _SMALLER = 8, 7  # points


def mean_maps(evaluation: EvaluationReport) -> Any:
    """The matplotlib Figure of mean outcomes, a map per cell; None if there are no axes, or too many values on one."""
    rows, cells = main_axes(evaluation.grid), shown_cells(evaluation)
    if not cells or not fits_on_a_map(rows):
        return None
    label = f"{outcome_name(evaluation.cells)}, %"
    return _figure(cells, rows, {"cmap": SCALE, "vmin": 0, "vmax": 100}, label)


def difference_maps(evaluation: EvaluationReport) -> Any:
    """The matplotlib Figure of paired differences from the reference; None where there are none, or no `mean_maps`."""
    rows = [row for row in main_axes(evaluation.grid) if row.difference is not None]
    cells = [cell for cell in shown_cells(evaluation) if any(row.cell_id == cell.cell_id for row in rows)]
    if not cells or not fits_on_a_map(main_axes(evaluation.grid)):
        return None
    label = f"minus {REFERENCE}, points"
    return _figure(cells, rows, {"cmap": DIVERGING, "vmin": -100, "vmax": 100}, label)


def shown_cells(evaluation: EvaluationReport) -> list[CellRow]:
    """The cells that get a map, in the report's order: references, then those of the smallest budgets first."""
    there = {row.cell_id for row in main_axes(evaluation.grid)}
    cells = [cell for cell in evaluation.cells if cell.cell_id in there and not cell.replica_of]
    kept = sorted(cells, key=lambda cell: (not cell.is_reference, cell.mean_budget_tokens))[:MOST]
    return [cell for cell in cells if cell in kept]


def _figure(cells: Sequence[CellRow], rows: Sequence[GridRow], scale: Mapping[str, Any], label: str) -> Any:
    downs, acrosses = axis_values(rows)
    names = [value_text(value) for value in acrosses]
    fields = len(acrosses) * max(0.3, 0.08 + text_inches(names) * _SMALLER / 9)
    width = max(fields, text_inches(cell.cell for cell in cells) * _SMALL / 9) + 0.15
    columns = min(len(cells), max(1, int(_WIDTH / width)))
    lines = -(-len(cells) // columns)
    size = (max(4.5, 1.9 + columns * width), 0.7 + lines * (0.5 + max(0.5, 0.2 * len(downs))))
    figure = Figure(figsize=size, layout="constrained")
    panels: Any = figure.subplots(lines, columns, squeeze=False)
    for index, axes in enumerate(panels.flat):
        if index >= len(cells):
            axes.set_axis_off()
            continue
        drawn = _draw(axes, [row for row in rows if row.cell_id == cells[index].cell_id], downs, acrosses, scale)
        axes.set_title(cells[index].cell, fontsize=_SMALL)
        axes.set_xticks(range(len(names)), names, fontsize=_SMALLER)
        axes.set_yticks(range(len(downs)), map(value_text, downs) if index % columns == 0 else [""] * len(downs))
        axes.tick_params(length=0, labelsize=_SMALLER)
        axes.spines[:].set_visible(False)
    figure.supxlabel(rows[0].across, fontsize=9)
    figure.supylabel(rows[0].down, fontsize=9)
    figure.colorbar(drawn, ax=panels, label=label, fraction=0.03, aspect=12 * lines)
    return figure


def _draw(
    axes: Any, rows: Sequence[GridRow], downs: Sequence[float], acrosses: Sequence[float], scale: Mapping[str, Any]
) -> Any:
    """One map, a number on every field that has one; the colours are the returned image's."""
    is_signed = scale["vmin"] < 0
    fields = [[float("nan")] * len(acrosses) for _ in downs]
    for row in rows:
        value = row.difference if is_signed else row.mean_outcome
        if value is None:
            continue
        y, x = downs.index(row.down_at), acrosses.index(row.across_at)
        fields[y][x] = 100 * value
        text = f"{100 * value:{'+' if is_signed else ''}.0f}"
        is_bright = abs(value) < 0.6 if is_signed else value > 0.55
        colour = DARK if is_bright else LIGHT
        axes.text(x, y, "0" if float(text) == 0 else text, ha="center", va="center", color=colour, fontsize=_SMALLER)
    return axes.imshow(fields, **scale, aspect="auto", interpolation="nearest")
