"""What a report says on a family of comparisons: which are real, which were not shown, and claims on margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vorn.records import REFERENCE
from vorn.report.pairs import BY_SUBTASK, POWER
from vorn.report.reports import EvaluationReport
from vorn.report.rows import BudgetRow, PairRow
from vorn.report.words import counted, margin_points, on, percent, points, ratio, ratio_sentence, sentence, short
from vorn.stats import TestPlan, least_fixtures, patterns_for, tango_interval

TITLES = {
    "vs_full": f"Against {REFERENCE}",
    "policies": "Policies against each other, same unit, guards, budget and contract",
    "units": "Units against each other, same policy, guards, budget and contract",
    "guards": "Guards against each other, same policy, unit, budget and contract",
    "contracts": "Contracts against each other, same policy, unit, guards and budget",
    BY_SUBTASK: "Policies by sub-task, same unit, guards, budget and contract",
}
NOT_TESTED = "not tested, no fixture with an outcome in both or no test that fits"
CLAIMED = 3  # names in a claim; pairs.csv has all
BUDGETS = "Budget to success, policies against each other at the same unit, guards and contract"


@dataclass(frozen=True, slots=True)
class FamilySummary:
    """One family in words; everything with the largest effect first."""

    title: str
    headline: str  # how many comparisons, how many real
    real_label: str  # what to write above `real`; "" if there are none
    real: tuple[str, ...]
    not_shown_label: str
    not_shown: tuple[str, ...]
    not_tested: tuple[str, ...]  # cells without common fixtures
    is_compact: bool  # whether `real` holds the fewest words instead of sentences
    claims: tuple[str, ...] = ()  # on margins and on graded outcomes
    table: str = "pairs.csv"  # where everything is


def summaries(evaluation: EvaluationReport) -> list[FamilySummary]:
    """The families that have comparisons, in the order of `TITLES`."""
    return [_summary(name, pairs, evaluation.plan) for name in TITLES if (pairs := evaluation.family(name))]


def budget_summary(evaluation: EvaluationReport) -> FamilySummary | None:
    """Budgets to success in words; None if no policy ran at several budgets."""
    rows = evaluation.budgets
    if not rows:
        return None
    tested = [row for row in rows if row.p_holm is not None]
    real = sorted((row for row in tested if row.is_real), key=lambda row: -_distance(row))
    not_shown = [row for row in tested if not row.is_real]
    return FamilySummary(
        title=BUDGETS,
        headline=_headline(len(tested), len(real), evaluation.plan),
        real_label="real, largest effect first" if real else "",
        real=tuple(map(ratio_sentence, real)),
        not_shown_label=f"not shown to differ ({len(not_shown)}), as ratios of budgets" if not_shown else "",
        not_shown=tuple(f"{row.lhs} against {row.rhs} {ratio(row)}" for row in not_shown),
        not_tested=tuple(f"{row.lhs} and {row.rhs}" for row in rows if row.p_holm is None),
        is_compact=False,
        table="budget_to_success.csv",
    )


def _summary(family: str, pairs: Sequence[PairRow], plan: TestPlan) -> FamilySummary:
    tested = [pair for pair in pairs if pair.p_holm is not None]
    real = _strongest(pair for pair in tested if pair.is_real)
    not_shown = _strongest(pair for pair in tested if not pair.is_real)
    compact = family == "vs_full"
    real_label = f"real differences from {REFERENCE}, in points" if compact else "real, largest effect first"
    return FamilySummary(
        title=TITLES[family],
        headline=_headline(len(tested), len(real), plan),
        real_label=real_label if real else "",
        real=tuple(short(pair) if compact else sentence(pair) for pair in real),
        not_shown_label=_not_shown_label(not_shown, plan) if not_shown else "",
        not_shown=tuple(map(short, not_shown)),
        not_tested=tuple(f"{pair.lhs} and {pair.rhs}{on(pair)}" for pair in pairs if pair.p_holm is None),
        is_compact=compact,
        claims=(*_noninferiority(tested, plan), *_equivalence(tested, plan), *_graded(pairs, plan)),
    )


def _headline(tested: int, real: int, plan: TestPlan) -> str:
    return f"{counted(tested, 'comparison')}, {real} real after Holm at {percent(plan.alpha)}"


def _not_shown_label(not_shown: Sequence[PairRow], plan: TestPlan) -> str:
    """With what the family could have found on the most fixtures that one of these pairs has."""
    label = f"not shown to differ ({len(not_shown)}), in points"
    if any(pair.p_method == "monte_carlo" for pair in not_shown):
        size = not_shown[0].family_size
        patterns = patterns_for(size, plan.alpha)
        if size > plan.alpha * patterns:
            label += f"; a p from {patterns} drawn sign patterns is out of reach among {counted(size, 'comparison')}"
    best = max(not_shown, key=lambda pair: (pair.least_discordant is not None, pair.n))
    if best.least_discordant is None:
        return label
    label += (
        f"; among {counted(best.family_size, 'comparison')} it takes at least {best.least_discordant} discordant "
        "fixtures, all on one side, to pass Holm's first step"
    )
    if best.test != "mcnemar":
        return label
    assumed = f"if {percent(plan.discordance)} of {best.n} fixtures are discordant"
    if best.detectable_difference is None:
        return f"{label}; no difference has a power of {percent(POWER)}, {assumed}"
    found = f"a true difference of {points(best.detectable_difference, best.n)} points"
    return f"{label}; its power is {percent(POWER)} for {found}, {assumed}"


def _noninferiority(tested: Sequence[PairRow], plan: TestPlan) -> list[str]:
    """The claim at the plan's margin against the reference, the closest cell, and whether the margin is in reach."""
    close = sorted((pair.least_margin, index) for index, pair in enumerate(tested) if pair.least_margin is not None)
    if not close:
        return []
    shown = [pair.lhs for pair in tested if _holds(pair.p_noninferior_holm, plan)]
    claim = f"no worse than {REFERENCE} by {margin_points(plan.margin)} points or more"
    line = f"closest to {REFERENCE}"
    if not plan.is_sequential:
        line = f"{claim}: shown for {len(shown)} of {len(tested)} after Holm{_names(shown)}; closest"
    least, index = close[0]
    line += f": {tested[index].lhs}, no worse by more than {margin_points(least)} points (not corrected)"
    n, need = max(pair.n for pair in tested), least_fixtures(plan.margin, plan.alpha)
    if plan.is_sequential or n >= need or tested[index].test != "mcnemar":  # what follows is about hits and misses
        return [line]
    reach = tango_interval(0, 0, n, 1 - 2 * plan.alpha).high
    return [
        f"{line}; {margin_points(plan.margin)} points are out of reach of a cell that does not beat {REFERENCE}: the "
        f"same outcome on all {n} fixtures shows {margin_points(reach)}, and {need} fixtures are needed"
    ]


def _equivalence(tested: Sequence[PairRow], plan: TestPlan) -> list[str]:
    shown = [short(pair) for pair in tested if _holds(pair.p_equivalent_holm, plan)]
    more = f" and {len(shown) - CLAIMED} more in pairs.csv" if len(shown) > CLAIMED else ""
    listed = "; ".join(shown[:CLAIMED]) + more
    return [f"shown to differ by less than {margin_points(plan.margin)} points: {listed}"] if shown else []


def _graded(pairs: Sequence[PairRow], plan: TestPlan) -> list[str]:
    tested = [pair for pair in pairs if pair.nll_p_holm is not None]
    if not tested:
        return []
    real = [pair for pair in tested if _holds(pair.nll_p_holm, plan)]
    new = [f"{pair.lhs} against {pair.rhs}{on(pair)} {pair.nll_difference:+.2g}" for pair in real if not pair.is_real]
    beyond = f"; {len(new)} of them not shown by hits, in nats{_names(new)}" if new else ""
    return [f"log-likelihood of the answer: {_headline(len(tested), len(real), plan)}{beyond}"]


def _holds(p_holm: float | None, plan: TestPlan) -> bool:
    return p_holm is not None and p_holm <= plan.alpha


def _names(names: Sequence[str]) -> str:
    """`: a, b, c and 2 more`."""
    more = f" and {len(names) - CLAIMED} more" if len(names) > CLAIMED else ""
    return f": {', '.join(names[:CLAIMED])}{more}" if names else ""


def _distance(row: BudgetRow) -> float:
    return abs(math.log(row.ratio or 1.0))


def _strongest(pairs: Iterable[PairRow]) -> list[PairRow]:
    return sorted(pairs, key=lambda pair: -abs(pair.difference or 0.0))
