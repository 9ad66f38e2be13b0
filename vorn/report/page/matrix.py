"""Models against policies: the mean outcome of every cell that several models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import CellRow
from vorn.report.style import DARK, LIGHT, SCALE, text_inches
from vorn.report.words import outcome_name


def shared_tasks(report: Report) -> dict[str, list[EvaluationReport]]:
    """Evaluations by task, where it has several models."""
    groups: dict[str, list[EvaluationReport]] = {}
    for evaluation in report.panels:
        groups.setdefault(evaluation.task, []).append(evaluation)
    return {task: group for task, group in groups.items() if len({one.model for one in group}) > 1}


def matrix_figure(evaluations: Sequence[EvaluationReport]) -> Any:
    """The matplotlib Figure of one task: a column per evaluation, a row per cell; empty where it was not measured."""
    rows = list(dict.fromkeys(cell.cell for one in evaluations for cell in one.cells if not cell.replica_of))
    table = [{cell.cell: cell.mean_outcome for cell in one.cells} for one in evaluations]
    names = [_name(one, evaluations) for one in evaluations]
    values = [[column.get(row) for column in table] for row in rows]
    figure = Figure(
        figsize=(max(2.6, 1.4 + text_inches(rows)) + 1.0 * len(names), 1.3 + 0.24 * len(rows)), layout="constrained"
    )
    axes: Any = figure.add_subplot()
    filled = [[float("nan") if value is None else value for value in line] for line in values]
    drawn = axes.imshow(filled, cmap=SCALE, vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            if value is not None:
                colour = DARK if value > 0.55 else LIGHT
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    cells: list[CellRow] = [cell for one in evaluations for cell in one.cells]
    figure.colorbar(drawn, ax=axes, label=outcome_name(cells), fraction=0.05)
    return figure


def _name(evaluation: EvaluationReport, among: Sequence[EvaluationReport]) -> str:
    same = sum(one.model == evaluation.model for one in among) > 1
    return f"{evaluation.model} {evaluation.evaluation_id[:6]}" if same else evaluation.model
