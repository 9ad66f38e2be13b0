"""The layer sweep: outcome against the layer that a policy scores from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.report.figure import reach
from vorn.report.reports import EvaluationReport
from vorn.report.rows import CellRow
from vorn.report.style import GRID, look
from vorn.report.words import outcome_name, percent

_LAYER = re.compile(r"\blayer=(\d+)\b,?\s*")


def layer_lines(cells: Sequence[CellRow]) -> dict[str, list[tuple[int, CellRow]]]:
    """Cells with outcomes that differ in their `layer` only, by what they share, in order of the layer; two or more."""
    groups: dict[str, list[tuple[int, CellRow]]] = {}
    for cell in cells:
        found = _LAYER.search(cell.params)
        if found and cell.n and not cell.replica_of:
            rest = _LAYER.sub("", cell.params).strip(", ")
            policy = cell.policy + (f"({rest})" if rest else "")
            key = f"{policy}/{cell.unit}/{cell.budget}, {cell.guards}, {cell.contract}"
            groups.setdefault(key, []).append((int(found[1]), cell))
    return {key: sorted(line, key=lambda one: one[0]) for key, line in groups.items() if len(line) > 1}


def layers_figure(evaluation: EvaluationReport) -> Any:
    """The matplotlib Figure, a line per policy, unit and budget; None without a sweep over layers."""
    lines = layer_lines(evaluation.cells)
    if not lines:
        return None
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    for index, (key, line) in enumerate(lines.items()):
        layers, cells = [layer for layer, _ in line], [cell for _, cell in line]
        means = [cell.mean_outcome for cell in cells]
        axes.errorbar(layers, means, reach(cells), ms=4, lw=1.3, capsize=2, label=key.split(",")[0], **look(index))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("layer")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(f"{outcome_name(evaluation.cells)}, {percent(evaluation.plan.level)} interval")
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=min(3, len(lines)), frameon=False)
    return figure
