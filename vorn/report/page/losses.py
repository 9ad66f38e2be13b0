"""What became of the fixtures that the reference hits: still hit, and lost for which reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.records import REFERENCE
from vorn.report.losses import LossRow
from vorn.report.style import COLOURS, INK, text_inches

# From the best to the worst: hit and lost lie side by side, and what needs an explanation of its own has a hatch.
PARTS = (
    ("hit, evidence kept", COLOURS[2], ""),
    ("hit, evidence evicted (leaked)", COLOURS[5], "///"),
    ("lost, evidence kept", COLOURS[4], "..."),
    ("lost, evidence evicted", COLOURS[1], ""),
)


def losses_figure(rows: Sequence[LossRow]) -> Any:
    """The matplotlib Figure, a bar per cell whose parts add up to the fixtures that the reference hits; or None."""
    if not rows:
        return None
    figure = Figure(
        figsize=(max(9.2, 5.0 + text_inches(row.cell for row in rows)), 1.1 + 0.24 * len(rows)), layout="constrained"
    )
    axes: Any = figure.add_subplot()
    starts = [0.0] * len(rows)
    counts = [(row.hits - row.leaked, row.leaked, row.kept_missed, row.evicted) for row in rows]
    for index, (label, colour, hatch) in enumerate(PARTS):
        widths = [100 * one[index] / row.n for one, row in zip(counts, rows, strict=True)]
        style = {"color": colour, "hatch": hatch, "edgecolor": INK, "lw": 0.4, "label": label}
        axes.barh(range(len(rows)), widths, left=starts, height=0.72, **style)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [row.cell for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"per cent of the fixtures with evidence that {REFERENCE} hits")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
