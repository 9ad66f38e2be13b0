"""Two cells on their common fixtures: which test the outcomes call for, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vorn.report.outcomes import Outcomes, clusters_of
from vorn.stats import (
    Interval,
    PairedTable,
    Sample,
    SignFlips,
    TestPlan,
    anytime_p,
    difference_sequence,
    margins,
    mcnemar_exact,
    patterns_for,
    replay,
    sign_flips_of_all,
    tango_interval,
    tango_margins,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a test says on the difference of two cells; the fields are those of `PairRow`."""

    test: str = ""
    p_method: str = ""
    ci_method: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    p_noninferior: float | None = None
    least_margin: float | None = None
    p_equivalent: float | None = None
    least_equivalence_margin: float | None = None
    max_log_e: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What the answer's log-likelihoods say; the fields are those of `PairRow`. Negative is better for lhs."""

    nll_n: int = 0
    nll_difference: float | None = None
    nll_low: float | None = None
    nll_high: float | None = None
    nll_p: float | None = None


def verdicts(pairs: Sequence[Outcomes], plan: TestPlan, family_size: int) -> list[Verdict]:
    """Of each pair the one test that fits: by looks if the run could stop early, else by cluster, outcome or hit.

    Args:
        pairs: of one family, or of a part of it.
        plan: what is tested, and how.
        family_size: comparisons of the whole family, which decide how small a drawn p-value must be able to be.
    """
    patterns = patterns_for(family_size, plan.alpha)
    flips = sign_flips_of_all([_differences(one, plan) for one in pairs], plan.seed, patterns)
    return [_verdict(one, flipped, plan) for one, flipped in zip(pairs, flips, strict=True)]


def _verdict(outcomes: Outcomes, flips: SignFlips | None, plan: TestPlan) -> Verdict:
    if not outcomes.n:
        return Verdict()
    if plan.is_sequential:
        return _by_looks(outcomes, plan)
    return _by_hits(outcomes.table, plan) if flips is None else _by_sign_flips(outcomes, flips, plan)


def _differences(outcomes: Outcomes, plan: TestPlan) -> Sample | None:
    """What a sign-flip test is made on; None where there is nothing to test, or another test fits."""
    if not outcomes.n or plan.is_sequential or not (outcomes.is_clustered or outcomes.is_fractional):
        return None
    lhs, rhs = outcomes.paired
    return Sample((lhs - rhs).tolist(), outcomes.clusters)


def graded(pairs: Sequence[Outcomes], plan: TestPlan, family_size: int) -> list[Graded]:
    """The sign-flip tests on answer_nll where both cells have it; nothing where a run may stop: it would not hold."""
    samples = [None if plan.is_sequential else _nll_differences(one) for one in pairs]
    flips = sign_flips_of_all(samples, plan.seed, patterns_for(family_size, plan.alpha))
    return [Graded() if one is None else _graded(one, plan) for one in flips]


def _graded(flips: SignFlips, plan: TestPlan) -> Graded:
    interval = flips.interval(plan.level)
    return Graded(
        nll_n=flips.n,
        nll_difference=flips.mean,
        nll_low=interval.low,
        nll_high=interval.high,
        nll_p=flips.p_value,
    )


def _nll_differences(outcomes: Outcomes) -> Sample | None:
    differences = outcomes.lhs.answer_nll - outcomes.rhs.answer_nll
    rows = outcomes.is_paired & ~np.isnan(differences)
    return Sample(differences[rows].tolist(), clusters_of(outcomes.lhs, rows)) if rows.any() else None


def p_method(flips: SignFlips) -> str:
    """How the p-value of a sign-flip test was computed."""
    return "exact" if flips.is_exact else "monte_carlo"


def _by_hits(table: PairedTable, plan: TestPlan) -> Verdict:
    interval = tango_interval(table.lhs_only, table.rhs_only, table.n, plan.level)
    claims = tango_margins(table.lhs_only, table.rhs_only, table.n, plan.margin, plan.alpha)
    return Verdict(
        test="mcnemar",
        p_method="exact",
        ci_method="tango",
        difference=table.difference,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=mcnemar_exact(table.lhs_only, table.rhs_only),
        p_noninferior=claims.p_noninferior,
        least_margin=claims.least_noninferior,
        p_equivalent=claims.p_equivalent,
        least_equivalence_margin=claims.least_equivalent,
    )


def _by_sign_flips(outcomes: Outcomes, flips: SignFlips, plan: TestPlan) -> Verdict:
    interval = _within(flips.interval(plan.level))
    bounds = _within(flips.interval(1 - 2 * plan.alpha))
    claims = margins(flips.p_above, flips.p_below, bounds, plan.margin)
    return Verdict(
        test="cluster_sign_flip" if outcomes.is_clustered else "sign_flip",
        p_method=p_method(flips),
        ci_method="sign_flip",
        difference=flips.mean,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=flips.p_value,
        p_noninferior=claims.p_noninferior,
        least_margin=claims.least_noninferior,
        p_equivalent=claims.p_equivalent,
        least_equivalence_margin=claims.least_equivalent,
    )


def _by_looks(outcomes: Outcomes, plan: TestPlan) -> Verdict:
    """Anytime-valid; fixtures of a cluster are not independent, so that there is no e-value for them."""
    table = outcomes.table
    if outcomes.is_clustered:
        return Verdict(difference=table.difference)
    lhs, rhs = (side == 1.0 for side in outcomes.paired)
    evidence = replay((bool(one), not one) for one in lhs[lhs != rhs])  # only what is discordant moves it
    interval = difference_sequence(table.lhs_only, table.rhs_only, table.n, plan.alpha)
    return Verdict(
        test="e_value",
        p_method="anytime",
        ci_method="confidence_sequence",
        difference=table.difference,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=anytime_p(evidence.max_log_e),
        least_margin=max(0.0, -interval.low),
        least_equivalence_margin=max(-interval.low, interval.high),
        max_log_e=evidence.max_log_e,
    )


def _within(interval: Interval) -> Interval:
    """Differences of outcomes lie in [-1, 1]; with too few fixtures the test rejects none of them."""
    return Interval(max(-1.0, interval.low), min(1.0, interval.high))
