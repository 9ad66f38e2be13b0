"""Two cells on their common fixtures: which test the outcomes call for, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vorn.records import Observation
from vorn.stats import (
    Interval,
    PairedTable,
    SignFlips,
    TestPlan,
    anytime_p,
    common_prefix,
    difference_sequence,
    margins,
    mcnemar_exact,
    replay,
    sign_flips,
    tango_interval,
    tango_margins,
)


@dataclass(frozen=True)
class Outcomes:
    """The observations of two cells by what makes a fixture the same: its id, its fingerprint and the grading rule.

    Attributes:
        lhs: of one cell, on the fixtures that count.
        rhs: of the other.
        looks: length of the common prefix where only that counts; None where all fixtures do.
    """

    lhs: Mapping[tuple[str, str, str], Observation]
    rhs: Mapping[tuple[str, str, str], Observation]
    looks: int | None

    @classmethod
    def of(cls, lhs: Sequence[Observation], rhs: Sequence[Observation], plan: TestPlan) -> Outcomes:
        """What is compared under this plan."""
        looks = None
        if plan.is_sequential:
            looks = common_prefix({seen.fixture_index for seen in lhs}, {seen.fixture_index for seen in rhs})
        left, right = (
            {
                (seen.fixture_id, seen.fingerprint, seen.grade): seen
                for seen in group
                if looks is None or seen.fixture_index < looks
            }
            for group in (lhs, rhs)
        )
        return cls(left, right, looks)

    @cached_property
    def paired(self) -> list[tuple[Observation, Observation]]:
        """Observations of the fixtures with an outcome in both cells, in fixture order."""
        pairs = [
            (seen, self.rhs[key])
            for key, seen in self.lhs.items()
            if seen.outcome is not None and key in self.rhs and self.rhs[key].outcome is not None
        ]
        return sorted(pairs, key=lambda pair: (pair[0].fixture_index, pair[0].fixture_id))

    @cached_property
    def table(self) -> PairedTable:
        """Hits and misses, and what is excluded."""
        lhs, rhs = ({key: seen.outcome for key, seen in side.items()} for side in (self.lhs, self.rhs))
        return PairedTable.from_outcomes(lhs, rhs)

    @property
    def is_clustered(self) -> bool:
        """Whether several paired fixtures share a cluster."""
        named = [lhs.cluster for lhs, _ in self.paired if lhs.cluster]
        return len(set(named)) < len(named)

    @property
    def is_fractional(self) -> bool:
        """Whether some paired outcome is neither a hit nor a plain miss."""
        return any(seen.outcome not in (0.0, 1.0) for pair in self.paired for seen in pair)

    @property
    def means(self) -> tuple[float, float] | tuple[None, None]:
        """Mean outcome of either cell on the paired fixtures."""
        if not self.paired:
            return None, None
        lhs, rhs = (sum(seen.outcome or 0.0 for seen in side) for side in zip(*self.paired, strict=True))
        return lhs / len(self.paired), rhs / len(self.paired)

    @property
    def worst_case(self) -> Interval | None:
        """Differences that are possible for any outcome of the excluded fixtures; None without a fixture."""
        keys = self.lhs.keys() | self.rhs.keys()
        if not keys:
            return None
        if not self.is_fractional:
            return self.table.worst_case
        low = high = 0.0
        for key in keys:
            lhs, rhs = (_known(side.get(key)) for side in (self.lhs, self.rhs))
            low, high = low + lhs.low - rhs.high, high + lhs.high - rhs.low
        return Interval(low / len(keys), high / len(keys))


def _known(seen: Observation | None) -> Interval:
    return Interval(0.0, 1.0) if seen is None or seen.outcome is None else Interval(seen.outcome, seen.outcome)


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


def verdict(outcomes: Outcomes, plan: TestPlan) -> Verdict:
    """The one test that fits: by looks if the run could stop early, else by cluster, by outcome, or by hit."""
    if not outcomes.paired:
        return Verdict()
    if plan.is_sequential:
        return _by_looks(outcomes, plan)
    if outcomes.is_clustered or outcomes.is_fractional:
        return _by_sign_flips(outcomes, plan)
    return _by_hits(outcomes.table, plan)


def graded(outcomes: Outcomes, plan: TestPlan) -> Graded:
    """The sign-flip test on answer_nll where both cells have it; nothing where a run may stop: it would not hold."""
    pairs = [
        (lhs.answer_nll - rhs.answer_nll, lhs.cluster)
        for lhs, rhs in outcomes.paired
        if lhs.answer_nll is not None and rhs.answer_nll is not None
    ]
    if not pairs or plan.is_sequential:
        return Graded()
    flips = sign_flips([difference for difference, _ in pairs], [cluster for _, cluster in pairs], plan.seed)
    interval = flips.interval(plan.level)
    return Graded(
        nll_n=flips.n,
        nll_difference=flips.mean,
        nll_low=interval.low,
        nll_high=interval.high,
        nll_p=flips.p_value,
    )


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


def _by_sign_flips(outcomes: Outcomes, plan: TestPlan) -> Verdict:
    differences = [(lhs.outcome or 0.0) - (rhs.outcome or 0.0) for lhs, rhs in outcomes.paired]
    flips = sign_flips(differences, [lhs.cluster for lhs, _ in outcomes.paired], plan.seed)
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
    evidence = replay((lhs.outcome == 1.0, rhs.outcome == 1.0) for lhs, rhs in outcomes.paired)
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
