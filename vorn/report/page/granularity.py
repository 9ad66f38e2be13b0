"""Granularity: what it does to each policy to keep and drop whole sentences, or other units, instead of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.records import REFERENCE
from vorn.report.figure import reach
from vorn.report.reports import EvaluationReport
from vorn.report.rows import CellRow
from vorn.report.style import BAND, COLOURS, GRID, INK, MARKERS, text_inches
from vorn.report.words import outcome_name, percent

Key = tuple[str, str]


def granularity_figure(evaluation: EvaluationReport) -> Any:
    """The matplotlib Figure: a panel per budget, a row per policy, a marker per unit; None if there is one unit."""
    groups = _groups(evaluation.cells)
    if not groups:
        return None
    units = list(dict.fromkeys(cell.unit for cells in groups.values() for cell in cells))
    budgets = list(dict.fromkeys(budget for _, budget in groups))
    policies = list(dict.fromkeys(policy for policy, _ in groups))
    size = (max(1.6, 0.5 + text_inches(policies)) + 3.4 * len(budgets), 1.2 + 0.38 * len(policies))
    figure = Figure(figsize=size, layout="constrained")
    panels: Any = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        _reference(axes, evaluation)
        for row, policy in enumerate(policies):
            _draw(axes, row, groups.get((policy, budget), []), units)
        axes.set_title(f"budget {budget}")
        axes.set_yticks(range(len(policies)), policies)
        axes.set_ylim(len(policies) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(f"{outcome_name(evaluation.cells)}, {percent(evaluation.plan.level)} interval")
        axes.grid(axis="x", color=GRID)
        axes.set_axisbelow(True)
    handles, labels = panels[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=len(named), frameon=False)
    return figure


def _groups(cells: Sequence[CellRow]) -> dict[Key, list[CellRow]]:
    """Cells with outcomes that differ in the unit only, by policy and budget, where there are at least two units."""
    measured = [cell for cell in cells if cell.n and not cell.is_reference and not cell.replica_of]
    several = [name for name in ("contract", "guards") if len({getattr(cell, name) for cell in measured}) > 1]
    groups: dict[Key, list[CellRow]] = {}
    for cell in measured:
        policy = cell.policy + (f"({cell.params})" if cell.params else "")
        label = ", ".join([policy, *(getattr(cell, name) for name in several)])
        groups.setdefault((label, cell.budget), []).append(cell)
    return {key: found for key, found in groups.items() if len({cell.unit for cell in found}) > 1}


def _reference(axes: Any, evaluation: EvaluationReport) -> None:
    for cell in evaluation.cells:
        if cell.is_reference and not cell.replica_of and cell.mean_outcome is not None:
            axes.axvspan(cell.mean_low, cell.mean_high, color=BAND, lw=0)
            axes.axvline(cell.mean_outcome, color=INK, lw=1, ls="--", label=REFERENCE)


def _draw(axes: Any, row: int, cells: Sequence[CellRow], units: Sequence[str]) -> None:
    """The units of a policy one below the other, joined by a line."""
    step = 0.36 / max(1, len(units) - 1)
    places = [row + step * (units.index(cell.unit) - (len(units) - 1) / 2) for cell in cells]
    axes.plot([cell.mean_outcome for cell in cells], places, color=BAND, lw=1.2, zorder=1)
    for cell, place in zip(cells, places, strict=True):
        index = units.index(cell.unit)
        axes.errorbar(
            [cell.mean_outcome],
            [place],
            xerr=reach([cell]),
            fmt=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            ms=5,
            lw=1.2,
            label=cell.unit,
        )
