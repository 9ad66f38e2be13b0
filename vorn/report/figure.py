"""The figure: mean outcome against budget, one panel per evaluation and unit, one line per policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

from vorn.records import REFERENCE
from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import CellRow
from vorn.report.style import BAND, GRID, INK, drawing, images, look, text_inches
from vorn.report.words import heading, outcome_name, percent


@dataclass(frozen=True, slots=True)
class _Line:
    """The cells of a policy (with parameters, contract and guards) in one panel, by budget."""

    label: str
    cells: tuple[CellRow, ...]


def draw(report: Report) -> dict[str, bytes]:
    """The figure as the bytes of a file, by format: "png" and "svg"."""
    with drawing():
        return images(build_figure(report))


def build_figure(report: Report) -> Any:
    """The matplotlib Figure: a panel per evaluation of KV-cache policies and unit, in the order of the report."""
    panels = [
        (evaluation, unit)
        for evaluation in report.panels
        for unit in (dict.fromkeys(cell.unit for cell in _pruned(evaluation)) or [""])
    ]
    labels = dict.fromkeys(line.label for evaluation, unit in panels for line in _lines(evaluation, unit))
    styles = {label: look(index) for index, label in enumerate(labels)}
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = 1.0 + 4.0 * columns
    legend_columns = max(1, min(4, int(width / (0.7 + text_inches(labels)))))
    height = 0.5 + 3.2 * rows + 0.22 * math.ceil((len(labels) + 1) / legend_columns)
    figure = Figure(figsize=(max(width, 0.7 + text_inches(labels)), height), layout="constrained")
    for index, (evaluation, unit) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _panel(axes, evaluation, unit, styles)
        axes.set_title(heading(evaluation, report) + (f"\nunit: {unit}" if unit else ""))
        if index % columns == 0:
            axes.set_ylabel(f"{outcome_name(evaluation.cells)}, {percent(evaluation.plan.level)} interval")
    _legend(figure, legend_columns)
    return figure


def _pruned(evaluation: EvaluationReport) -> list[CellRow]:
    """The cells that are drawn as points: neither the reference nor a replica, which stands where its original does."""
    return [cell for cell in evaluation.cells if not cell.is_reference and not cell.replica_of]


def _lines(evaluation: EvaluationReport, unit: str) -> list[_Line]:
    """Lines of a panel; contract and guards are named only where the evaluation has more than one."""
    several = [
        name for name in ("contract", "guards") if len({getattr(cell, name) for cell in _pruned(evaluation)}) > 1
    ]
    groups: dict[str, list[CellRow]] = {}
    for cell in _pruned(evaluation):
        if cell.unit == unit:
            label = cell.policy + (f"({cell.params})" if cell.params else "")
            groups.setdefault(", ".join([label, *(getattr(cell, name) for name in several)]), []).append(cell)
    return [
        _Line(label, tuple(sorted(filter(_has_place, cells), key=lambda cell: cell.mean_budget_tokens)))
        for label, cells in groups.items()
    ]


def _has_place(cell: CellRow) -> bool:
    """Whether there is something to draw; others' results may come without the budget."""
    return cell.n > 0 and cell.mean_budget_tokens > 0.0


def _panel(axes: Any, evaluation: EvaluationReport, unit: str, styles: Mapping[str, Mapping[str, str]]) -> None:
    for cell in evaluation.cells:
        if cell.is_reference and not cell.replica_of and cell.mean_outcome is not None:
            axes.axhspan(cell.mean_low, cell.mean_high, color=BAND, lw=0)
            axes.axhline(cell.mean_outcome, color=INK, lw=1, ls="--", label=REFERENCE)
    lines = _lines(evaluation, unit)
    places = _places([cell for line in lines for cell in line.cells])
    step = _dodge(sorted(places.values()), len(lines))
    for index, line in enumerate(lines):
        shift = math.exp(step * (index - (len(lines) - 1) / 2))
        x = [places[cell.budget] * shift for cell in line.cells]
        y = [cell.mean_outcome for cell in line.cells]
        axes.errorbar(x, y, reach(line.cells), ms=5, lw=1.3, capsize=2.5, label=line.label, **styles[line.label])
    if places:
        axes.set_xscale("log")
        axes.set_xlim(min(places.values()) / 1.4, max(places.values()) * 1.4)
        axes.set_xticks(list(places.values()), [_tick(budget, place) for budget, place in places.items()])
        axes.set_xticks([], minor=True)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("budget, tokens (mean over fixtures)")
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)


def _places(cells: Sequence[CellRow]) -> dict[str, float]:
    """Where each budget as asked stands: its mean over the cells, which may have been measured on other fixtures."""
    tokens: dict[str, list[float]] = {}
    for cell in cells:
        tokens.setdefault(cell.budget, []).append(cell.mean_budget_tokens)
    return {budget: sum(values) / len(values) for budget, values in tokens.items()}


def _dodge(places: Sequence[float], lines: int) -> float:
    """Distance between neighbouring lines in log tokens; a third of the narrowest gap is shared among them."""
    gaps = [math.log(right / left) for left, right in pairwise(places) if right > 1.05 * left]
    return min([0.25, *(gap / 3 for gap in gaps)]) / max(lines, 2)


def reach(cells: Sequence[CellRow]) -> list[list[float]]:
    """How far the intervals of cells with outcomes reach below and above the means, as errorbar wants them."""
    # rounding may put an interval's end a hair beyond its mean, which errorbar refuses
    below = [max(0.0, (cell.mean_outcome or 0.0) - (cell.mean_low or 0.0)) for cell in cells]
    return [below, [max(0.0, (cell.mean_high or 0.0) - (cell.mean_outcome or 0.0)) for cell in cells]]


def _tick(budget: str, place: float) -> str:
    return budget if budget == f"{place:.0f}" else f"{budget}\n({place:.0f})"


def _legend(figure: Figure, columns: int) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = min(columns, len(handles))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False)
