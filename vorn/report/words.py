"""The words of a report: single comparisons as sentences, numbers as a reader wants them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from vorn.records import REFERENCE, Manifest
from vorn.report.losses import CEILING, EVIDENCE_KEPT, WITHOUT, LossRow
from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import BudgetRow, CellRow, PairRow
from vorn.stats import TestPlan

CONTRADICTION = (
    "* The interval and p, both uncorrected, disagree on whether 0 is possible; the verdict follows p(Holm)."
)

LOSSES = "Losses, by what became of the evidence"
NATS = ("answer nats", "over full")  # columns, where the likelihood of answers was recorded


def printable(value: Any) -> Any:
    """The value with every text in it as a terminal may show it: what would command the terminal is spelled out."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
    if isinstance(value, tuple):
        return tuple(map(printable, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Manifest)):
        return dataclasses.replace(
            value, **{f.name: printable(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    return value


def how_to_read(plan: TestPlan) -> str:
    """What the words of a report mean under this plan."""
    p, rates, differences = (
        ("1 / max E over the looks after each fixture, valid wherever the run stopped", *["confidence sequences"] * 2)
        if plan.is_sequential
        else (
            "the exact two-sided McNemar test, or a sign-flip test where outcomes are fractional or fixtures share a "
            "cluster",
            "Wilson's",
            "Tango's, or the sign-flip test's",
        )
    )
    return (
        "A hit is an outcome of exactly 1. Two cells are compared on the fixtures with an outcome in both. p is "
        f"{p}; p(Holm) corrects it within its family and decides what is called real, at {percent(plan.alpha)}. "
        f"Intervals of hit rates are {rates}, intervals of paired differences are {differences}, both "
        f"{percent(plan.level)} and not corrected. A difference that is not shown may still exist: its interval says "
        "how large it could be."
    )


def nats(evaluation: EvaluationReport) -> dict[str, list[str]]:
    """Mean nats of each cell's answers, and the difference from the reference with its interval, by the cell's id.

    Empty if no cell has any. The interval is not corrected.
    """
    if all(cell.mean_answer_nll is None for cell in evaluation.cells):
        return {}
    over = {pair.lhs_id: pair for pair in evaluation.family("vs_full")}
    return {cell.cell_id: [_nats(cell.mean_answer_nll), _over(over.get(cell.cell_id))] for cell in evaluation.cells}


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _over(pair: PairRow | None) -> str:
    if pair is None or pair.nll_difference is None:
        return ""
    interval = "" if pair.nll_low is None else f" [{_nats(pair.nll_low)} to {_nats(pair.nll_high)}]"
    return f"{pair.nll_difference:+.2f}{interval}"


def ratio_sentence(row: BudgetRow) -> str:
    """A real ratio of budgets as a sentence, the more frugal policy first."""
    sign = 1 if (row.ratio or 1.0) <= 1.0 else -1
    frugal, other = (row.lhs, row.rhs)[::sign]
    p_holm = "" if row.p_holm is None else f", p(Holm) {probability(row.p_holm)}"
    return f"{frugal} needs {ratio(row, sign)} times the budget of {other}: {counted(row.n, 'fixture')}{p_holm}"


def heading(evaluation: EvaluationReport, report: Report) -> str:
    """`model, task`, with the evaluation's id where another evaluation has the same two."""
    same = [one for one in report.evaluations if (one.model, one.task) == (evaluation.model, evaluation.task)]
    suffix = f" (evaluation {evaluation.evaluation_id})" if len(same) > 1 else ""
    return f"{evaluation.model}, {evaluation.task}{suffix}"


def outcome_name(cells: Sequence[CellRow]) -> str:
    """`hit rate` where every outcome is a hit or a miss, else `mean outcome`."""
    return "mean outcome" if any(cell.is_fractional for cell in cells) else "hit rate"


def sentence(pair: PairRow) -> str:
    """A tested comparison that is real, as a sentence, the better cell first."""
    sign = -1 if (pair.difference or 0.0) < 0.0 else 1
    winner, loser = (pair.lhs, pair.rhs)[::sign]
    p_holm = "" if pair.p_holm is None else f", p(Holm) {probability(pair.p_holm)}"
    effect = f"{_effect(pair, sign, ' points')}{p_holm}{_marks(pair)}"
    return f"{winner} beats {loser}{on(pair)}: {_counts(pair, sign)}, {effect}"


def on(pair: PairRow) -> str:
    """` on vt`, the sub-task; "" where a comparison is on all fixtures."""
    return f" on {pair.subtask}" if pair.subtask else ""


def short(pair: PairRow) -> str:
    """A tested comparison in the fewest words: the cells (the reference goes without saying) and the effect."""
    against = "" if pair.family == "vs_full" else f" against {pair.rhs}"
    return f"{pair.lhs}{against}{on(pair)} {_effect(pair, 1, '')}{_marks(pair)}"


def loss_sentences(rows: Sequence[LossRow]) -> list[str]:
    """What became of the evidence where cells lost a fixture or hit it, over all cells; empty without rows."""
    if not rows:
        return []
    lost, evicted, hits, leaked = (
        sum(column) for column in zip(*((row.lost, row.evicted, row.hits, row.leaked) for row in rows), strict=True)
    )
    cells = counted(len(rows), "cell")
    lines = [
        f"{lost} fixtures that {REFERENCE} hits are lost by {cells} together: {evicted} evicted (less than "
        f"{percent(EVIDENCE_KEPT)} of the evidence's entries kept), {lost - evicted} kept but missed",
        f"{leaked} of their {hits} hits leaked: the evidence was evicted, and the answer is right",
    ]
    reach = [(row.lost_in_reach, row.lost_out_of_reach) for row in rows if row.ceiling]
    if within := sum(one or 0 for one, _ in reach):
        lines[0] += f"; {CEILING} hits {within} of {within + sum(two or 0 for _, two in reach)} at the same setting"
    known = [(row.leaked_without, row.leaked_by_choice) for row in rows if row.without]
    if judged := sum((one or 0) + (two or 0) for one, two in known):
        lines[1] += f"; {WITHOUT} hits {sum(one or 0 for one, _ in known)} of {judged}"
    return lines


def counted(n: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def points(difference: float, n: int, *, signed: bool = False) -> str:
    """A difference of rates in percentage points, with a decimal where that many fixtures resolve it."""
    text = f"{100 * difference:{'+' if signed else ''}.{0 if n <= 200 else 1}f}"
    return "0" if float(text) == 0 else text


def margin_points(margin: float) -> str:
    """Points, rounded up to a tenth: a smaller margin would not be supported."""
    return f"{math.ceil(1000 * margin - 1e-9) / 10:g}"


def probability(p: float) -> str:
    """`= 0.0312`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3g}"


def percent(share: float) -> str:
    """`5 %`."""
    return f"{100 * share:g} %"


def _counts(pair: PairRow, sign: int) -> str:
    """`62 of 100 against 5 of 100`, or mean outcomes where they are no plain hits."""
    hits = (pair.both + pair.lhs_only, pair.both + pair.rhs_only)
    means = (pair.lhs_mean or 0.0, pair.rhs_mean or 0.0)
    if all(abs(mean * pair.n - hit) < 1e-6 for mean, hit in zip(means, hits, strict=True)) or pair.test == "e_value":
        more, fewer = hits[::sign]
        return f"{more} of {pair.n} against {fewer} of {pair.n}"
    more_mean, fewer_mean = (100 * mean for mean in means[::sign])
    return f"mean outcome {more_mean:.1f} % against {fewer_mean:.1f} % on {counted(pair.n, 'fixture')}"


def ratio(row: BudgetRow, sign: int = 1) -> str:
    """`0.6 [0.5 to 0.8]`, of rhs to lhs if `sign` is -1."""
    if row.ratio is None or row.ratio_low is None or row.ratio_high is None:
        return "no common fixture"
    low, high = sorted(_inverted(end, sign) for end in (row.ratio_low, row.ratio_high))
    return f"{_inverted(row.ratio, sign):.2g} [{low:.2g} to {high:.2g}]"


def _inverted(value: float, sign: int) -> float:
    return value if sign == 1 else math.inf if value == 0.0 else 1.0 / value


def _effect(pair: PairRow, sign: int, unit: str) -> str:
    """`+57 points [45 to 67]`, seen from lhs if `sign` is 1 and from rhs if it is -1."""
    if pair.difference is None or pair.difference_low is None or pair.difference_high is None:
        return "no common fixture"
    low, high = sorted((sign * pair.difference_low, sign * pair.difference_high))
    effect = points(sign * pair.difference, pair.n, signed=True)
    return f"{effect}{unit} [{points(low, pair.n)} to {points(high, pair.n)}]"


def _marks(pair: PairRow) -> str:
    excluded = ""
    if pair.n_excluded and pair.worst_low is not None and pair.worst_high is not None:
        undone = pair.is_real and pair.worst_low <= 0.0 <= pair.worst_high
        excluded = f" ({pair.n_excluded} excluded{', which could undo it' if undone else ''})"
    noise = " (not above the noise floor)" if pair.is_real and pair.above_noise is False else ""
    return ("*" if pair.is_contradictory else "") + excluded + noise
