"""The figure: hit rate against budget, one panel per evaluation and unit, one line per policy."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from vorn.records import REFERENCE
from vorn.report.rows import CellRow, EvaluationReport, Report
from vorn.report.words import heading

# Okabe and Ito's colours, distinct for every common kind of colour blindness; black is left to the reference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = "osD^vPX*<>"
_STYLE = {"text.parse_math": False, "svg.hashsalt": "vorn", "font.size": 9, "axes.spines.top": False}


@dataclass(frozen=True, slots=True)
class _Line:
    """The cells of a policy (with parameters, contract and guards) in one panel, by budget."""

    label: str
    cells: tuple[CellRow, ...]


def draw(report: Report) -> dict[str, bytes]:
    """The figure as the bytes of a file, by format: "png" and "svg"."""
    panels = [
        (heading(evaluation, report), evaluation, unit)
        for evaluation in report.evaluations
        for unit in (dict.fromkeys(cell.unit for cell in evaluation.cells if not cell.is_reference) or [""])
    ]
    labels = dict.fromkeys(line.label for _, evaluation, unit in panels for line in _lines(evaluation, unit))
    styles = {label: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)}
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context({**_STYLE, "axes.spines.right": False}):
        figure = Figure(figsize=(1.0 + 4.0 * columns, 1.2 + 3.2 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
        for axes in list(grid)[len(panels) :]:
            axes.set_visible(False)
        for axes, (title, evaluation, unit) in zip(grid, panels, strict=False):
            _panel(axes, evaluation, unit, styles)
            axes.set_title(f"{title}\nunit: {unit}" if unit else title)
        _legend(figure)
        return {"png": _bytes(figure, "png"), "svg": _bytes(figure, "svg")}


def _lines(evaluation: EvaluationReport, unit: str) -> list[_Line]:
    """Lines of a panel; contract and guards are named only where the evaluation has more than one."""
    several = [
        name
        for name in ("contract", "guards")
        if len({getattr(cell, name) for cell in evaluation.cells if not cell.is_reference}) > 1
    ]
    groups: dict[str, list[CellRow]] = {}
    for cell in evaluation.cells:
        if not cell.is_reference and cell.unit == unit:
            label = cell.policy + (f"({cell.params})" if cell.params else "")
            groups.setdefault(", ".join([label, *(getattr(cell, name) for name in several)]), []).append(cell)
    return [
        _Line(label, tuple(sorted((cell for cell in cells if cell.n), key=lambda cell: cell.mean_budget_tokens)))
        for label, cells in groups.items()
    ]


def _panel(axes: Any, evaluation: EvaluationReport, unit: str, styles: dict[str, tuple[str, str]]) -> None:
    for cell in evaluation.cells:
        if cell.is_reference and cell.hit_rate is not None:
            axes.axhspan(cell.ci_low, cell.ci_high, color="0.85", lw=0)
            axes.axhline(cell.hit_rate, color="black", lw=1, ls="--", label=REFERENCE)
    lines = _lines(evaluation, unit)
    ticks: dict[float, str] = {}
    for line in lines:
        for cell in line.cells:
            ticks.setdefault(cell.mean_budget_tokens, _tick(cell))
    step = _dodge(sorted(ticks), len(lines))
    for index, line in enumerate(lines):
        colour, marker = styles[line.label]
        shift = math.exp(step * (index - (len(lines) - 1) / 2))
        x = [cell.mean_budget_tokens * shift for cell in line.cells]
        y = [cell.hit_rate or 0.0 for cell in line.cells]
        below = [rate - (cell.ci_low or 0.0) for rate, cell in zip(y, line.cells, strict=True)]
        above = [(cell.ci_high or 0.0) - rate for rate, cell in zip(y, line.cells, strict=True)]
        # rounding may put an interval's end a hair beyond its rate, which errorbar refuses
        spread = [[max(0.0, end) for end in below], [max(0.0, end) for end in above]]
        axes.errorbar(x, y, spread, color=colour, marker=marker, ms=5, lw=1.3, capsize=2.5, label=line.label)
    if ticks:
        axes.set_xscale("log")
        axes.set_xlim(min(ticks) / 1.4, max(ticks) * 1.4)
        axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
        axes.set_xticks([], minor=True)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("budget, tokens (mean over fixtures)")
    axes.set_ylabel("hit rate, 95 % Wilson interval")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)


def _dodge(budgets: Sequence[float], lines: int) -> float:
    """Distance between neighbouring lines in log tokens: a third of the narrowest gap is shared among them."""
    gaps = [math.log(right / left) for left, right in pairwise(budgets)]
    return min([0.25, *(gap / 3 for gap in gaps)]) / max(lines, 2)


def _tick(cell: CellRow) -> str:
    resolved = f"{cell.mean_budget_tokens:.0f}"
    return resolved if cell.budget == resolved else f"{cell.budget}\n({resolved})"


def _legend(figure: Figure) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=min(4, len(handles)), frameon=False
        )


def _bytes(figure: Figure, form: str) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return image.getvalue()
