"""Forest plot: the paired differences of a family with intervals, corrected p, and the noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vorn.report.rows import NoiseRow, PairRow
from vorn.report.style import BAND, COLOURS, GRID, INK, text_inches
from vorn.report.words import on, percent, points, probability

MOST = 60  # comparisons in one plot, the largest effects; the table has all
_ROW, _MARGIN = 0.21, 0.75  # inches


def forest_figure(pairs: Sequence[PairRow], noise: Sequence[NoiseRow]) -> Any:
    """The matplotlib Figure of tested comparisons, the largest effect on top; None if no pair was tested.

    Pairs stand as they are against the reference, and with the better cell first elsewhere. Filled: real after Holm.
    """
    tested = [pair for pair in pairs if pair.difference is not None and pair.p_holm is not None]
    if not tested:
        return None
    shown = sorted(tested, key=lambda pair: -abs(pair.difference or 0.0))[:MOST]
    words = sum(text_inches(map(text, shown)) for text in (_label, _numbers))
    figure = Figure(figsize=(max(9.2, 4.0 + words), _MARGIN + _ROW * len(shown)), layout="constrained")
    axes: Any = figure.add_subplot()
    if limit := max((row.limit for row in noise), default=None):
        axes.axvspan(-100 * limit, 100 * limit, color=BAND, lw=0, label="noise floor")
    axes.axvline(0, color=INK, lw=0.8)
    for place, pair in enumerate(shown):
        _draw(axes, place, pair)
    axes.set_yticks(range(len(shown)), [_label(pair) for pair in shown])
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(shown)), [_numbers(pair) for pair in shown])
    for side in (axes.yaxis, right.yaxis):
        side.set_tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"difference in points, {percent(1 - pairs[0].alpha)} interval; filled: real after Holm")
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    return figure


def _draw(axes: Any, place: int, pair: PairRow) -> None:
    sign = _sign(pair)
    ends = (pair.difference_low, pair.difference, pair.difference_high)
    low, middle, high = sorted(100 * sign * (end or 0.0) for end in ends)
    colour = COLOURS[0] if pair.is_real else COLOURS[6]
    face = colour if pair.is_real else "none"
    axes.plot([low, high], [place, place], color=colour, lw=1.4)
    axes.plot([middle], [place], "o", ms=5, color=colour, markerfacecolor=face)


def _sign(pair: PairRow) -> int:
    return -1 if pair.family != "vs_full" and (pair.difference or 0.0) < 0.0 else 1


def _label(pair: PairRow) -> str:
    if pair.family == "vs_full":
        return pair.lhs
    first, second = (pair.lhs, pair.rhs)[:: _sign(pair)]
    return f"{first} vs {second}{on(pair)}"


def _numbers(pair: PairRow) -> str:
    sign = _sign(pair)
    low, high = sorted(sign * (end or 0.0) for end in (pair.difference_low, pair.difference_high))
    p = "" if pair.p_holm is None else f", p(Holm) {probability(pair.p_holm)}"
    noise = ", within noise" if pair.is_real and pair.above_noise is False else ""
    effect = points(sign * (pair.difference or 0.0), pair.n, signed=True)
    return f"{effect} [{points(low, pair.n)} to {points(high, pair.n)}]{p}{noise}"
