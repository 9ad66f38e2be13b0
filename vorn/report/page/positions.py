"""Where each cell keeps tokens, from the beginning of the prompt to its end, and where the evidence stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vorn.report.rows import CellRow
from vorn.report.style import SCALE, text_inches
from vorn.views import View

BINS = 64  # of equal share of the prompt
_ALL = 255  # what a view holds for a token that every layer and head kept


def positions_figure(cells: Sequence[CellRow], views: Sequence[View]) -> Any:
    """The matplotlib Figure of an evaluation's views, a row per cell with one; None if there is none.

    The colour is the share of layers, KV heads and fixtures that kept the tokens at this place; the first row has the
    share of fixtures with evidence there.
    """
    shown = [cell for cell in cells if not cell.is_reference and any(cell.cell_id in view.kept for view in views)]
    if not shown:
        return None
    rows = [_evidence(views), *(kept_by_place(cell.cell_id, views) for cell in shown)]
    width = max(9.2, 5.5 + text_inches(cell.cell for cell in shown))
    figure = Figure(figsize=(width, 1.2 + 0.22 * len(rows)), layout="constrained")
    axes: Any = figure.add_subplot()
    # square root: at small budgets most of it lies below a quarter
    norm = PowerNorm(0.5, vmin=0.0, vmax=1.0)
    drawn = axes.imshow(rows, cmap=SCALE, norm=norm, aspect="auto", interpolation="nearest", extent=_extent(len(rows)))
    axes.axhline(0.5, color="#fafafa", lw=2.5)
    axes.set_yticks(range(len(rows)), ["evidence", *(cell.cell for cell in shown)])
    axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("position in the prompt")
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="share kept", ticks=[0, 0.05, 0.2, 0.5, 1], fraction=0.03)
    return figure


def kept_by_place(cell_id: str, views: Sequence[View]) -> Any:
    """[BINS] share kept by a cell in each part of the prompt, the mean over the views that have it."""
    held = [view.kept[cell_id] for view in views if cell_id in view.kept]
    shares = [_binned(np.frombuffer(one, dtype=np.uint8) / _ALL) for one in held]
    return np.mean(shares, axis=0)


def _evidence(views: Sequence[View]) -> Any:
    """[BINS] share of views with a token of evidence in each part of the prompt."""
    found = np.zeros((len(views), BINS))
    for row, view in zip(found, views, strict=True):
        row[[place * BINS // len(view.token_ends) for place in view.evidence]] = 1.0
    return found.mean(axis=0)


def _binned(shares: Any) -> Any:
    """[BINS] means of [T]; a token that spans several bins counts in each by its part."""
    edges = np.linspace(0, len(shares), BINS + 1)
    total = np.concatenate([[0.0], np.cumsum(shares)])
    return np.diff(np.interp(edges, np.arange(len(shares) + 1), total)) / np.diff(edges)


def _extent(rows: int) -> tuple[float, float, float, float]:
    return 0.0, 100.0, rows - 0.5, -0.5
