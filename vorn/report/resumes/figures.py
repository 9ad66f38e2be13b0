"""The matrix as a heat map, and the differences of its policies with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.report.resumes.words import full_entry
from vorn.report.style import COLOURS, DARK, GRID, INK, LIGHT, drawing, images, text_inches
from vorn.report.words import percent
from vorn.snapshots.matrix import Matrix, MatrixRow
from vorn.snapshots.parts import Part, parts

MOST_DRAWN = 12  # parts with figures: each takes most of a second, and nobody looks at a hundred
_MOST = math.log(8)  # of the logarithm of a ratio that colours tell apart
_PER_ROW = 2  # panels of differences side by side


def draw(matrix: Matrix) -> dict[str, bytes]:
    """The first MOST_DRAWN parts, one below the other, as the bytes of a file by format; it says how many are left."""
    found = parts(matrix)
    with drawing():
        figure = matrix_figure(found[:MOST_DRAWN])
        if left := undrawn(found):
            figure.supxlabel(left, fontsize=9)
        return images(figure)


def undrawn(found: Sequence[Part]) -> str:
    """How many parts have no figure, as a sentence; "" if all have one."""
    left = len(found) - MOST_DRAWN
    return f"The last {left} of {len(found)} settings have no figures." if left > 0 else ""


def matrix_figure(found: Sequence[Part]) -> Any:
    """The matplotlib Figure: a heat map per part; ratios and verdicts stand in its cells."""
    heights = [1.0 + 0.27 * len(part.policies) for part in found]
    policies = text_inches(policy for part in found for policy in part.policies)
    columns = max(len(part.workloads) for part in found)
    figure = Figure(figsize=(1.6 + policies + 1.4 * columns, sum(heights)), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)
    for part, line in zip(found, panels, strict=True):
        drawn = _heat(line[0], part)
        bar = figure.colorbar(drawn, ax=line[0], fraction=0.03, pad=0.01)
        ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
        bar.set_ticks([math.log(one) for one in ticks], labels=[f"{one:g}" for one in ticks])
    return figure


def _heat(axes: Any, part: Part) -> Any:
    """Colours are the logarithm of the ratio: blue better, red worse; grey where there is no ratio."""
    cells = [[part.row(policy, workload) for workload in part.workloads] for policy in part.policies]
    values = [[_shade(row) for row in line] for line in cells]
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-_MOST, vmax=_MOST, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(part.workloads)), [f"{one}\n{part.pool(one)}".rstrip() for one in part.workloads])
    axes.set_yticks(range(len(part.policies)), part.policies)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title = f"mean time to the first token over {part.matrix.judgement.baseline}"
    axes.set_title("\n".join(filter(None, (title, part.title))), fontsize=9)
    for y, line in enumerate(cells):
        for x, row in enumerate(line):
            value = values[y][x]
            colour = INK if math.isnan(value) else LIGHT if abs(value) > math.log(3) else DARK
            axes.text(x, y, full_entry(row), ha="center", va="center", color=colour, fontsize=8)
    return drawn


def _shade(row: MatrixRow | None) -> float:
    if row is None or not row.ratio:
        return math.nan
    return max(-_MOST, min(_MOST, math.log(row.ratio)))


def families_figure(part: Part) -> Any:
    """The matplotlib Figure of differences to the baseline, a panel per workload; None if nothing was tested."""
    families = {one: [row for row in part.family(one) if row.ratio is not None] for one in part.workloads}
    families = {name: rows for name, rows in families.items() if rows}
    if not families:
        return None
    columns = min(_PER_ROW, len(families))
    lines = math.ceil(len(families) / columns)
    height = 0.75 + 0.21 * max(map(len, families.values()))
    width = 3.4 + text_inches(row.cell for rows in families.values() for row in rows)
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    how = part.matrix.judgement
    for axes, (workload, rows) in zip(panels, families.items(), strict=False):
        _forest(axes, rows)
        axes.set_title(", ".join(filter(None, (workload, part.pool(workload)))), fontsize=9)
        axes.set_xlabel(f"seconds more than {how.baseline}, {percent(1 - rows[0].alpha)}", fontsize=8)
    return figure


def _forest(axes: Any, rows: Sequence[MatrixRow]) -> None:
    """Filled circle: better; filled square: harm; hollow: nothing shown, or no harm."""
    axes.axvline(0, color=INK, lw=0.8)
    for place, row in enumerate(rows):
        shown = row.verdict in ("better", "harm")
        colour = {"better": COLOURS[0], "harm": COLOURS[1]}.get(row.verdict, COLOURS[6])
        axes.plot([row.difference_low_s, row.difference_high_s], [place, place], color=colour, lw=1.4)
        marker = "s" if row.verdict == "harm" else "o"
        axes.plot([row.difference_s], [place], marker, ms=5, color=colour, markerfacecolor=colour if shown else "none")
    axes.set_yticks(range(len(rows)), [row.cell for row in rows])
    axes.yaxis.set_tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
