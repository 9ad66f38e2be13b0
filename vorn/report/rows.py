"""What a report consists of: plain values, one per row of a table."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.records import REFERENCE
from vorn.stats import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """A row of cells.csv; the fields are its columns. None where no fixture has an outcome."""

    cell_id: str
    cell: str
    model: str
    task: str
    contract: str
    policy: str
    params: str
    unit: str
    budget: str
    mean_budget_tokens: float  # over fixtures with an outcome, or over all where none has one
    n: int  # fixtures with an outcome
    n_errors: int
    hits: int
    hit_rate: float | None
    mean_outcome: float | None
    ci_low: float | None  # of the hit rate
    ci_high: float | None
    ci_method: str  # "wilson", or "confidence_sequence" where a run may stop early
    mean_kept_tokens: float | None
    mean_evidence_kept: float | None
    guards: str
    replica_of: str  # cell_id of the cell that this one repeats (A/A), in no family; "" otherwise
    mean_low: float | None  # of the mean outcome; the same as of the hit rate where outcomes are hits and misses
    mean_high: float | None
    mean_answer_nll: float | None  # nats of the first answer; None where no likelihood was asked for
    mean_work_s: float | None  # what the contract spent on this cell alone; None where it has nothing of its own
    mean_work_forwards: float | None
    mean_work_read_tokens: float | None
    mean_work_written_tokens: float | None
    mean_work_evictions: float | None

    @property
    def is_reference(self) -> bool:
        """Whether nothing is evicted in this cell."""
        return self.policy == REFERENCE

    @property
    def is_fractional(self) -> bool:
        """Whether some outcome is neither a hit nor a plain miss."""
        return self.mean_outcome is not None and abs(self.mean_outcome * self.n - self.hits) > 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A row of pairs.csv; the fields are its columns. None where a number does not exist: docs/statistics.md says when.

    Intervals and margins are not corrected for the family; columns that end in `_holm` are.
    """

    lhs: str
    rhs: str
    model: str
    task: str
    n: int
    n_excluded: int
    both: int
    lhs_only: int
    rhs_only: int
    neither: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    p_holm: float | None
    family: str
    family_size: int  # comparisons that could be tested
    lhs_id: str
    rhs_id: str
    worst_low: float | None  # the difference, had every excluded fixture spoken for rhs
    worst_high: float | None  # or for lhs
    alpha: float  # family-wise; the intervals have level 1 - alpha, the margins' bounds are one-sided at alpha
    test: str  # where p_value comes from: "mcnemar", "sign_flip", "cluster_sign_flip", "e_value"; "" if not tested
    p_method: str  # "exact", "monte_carlo" or "anytime"
    ci_method: str  # "tango", "sign_flip" or "confidence_sequence"
    lhs_mean: float | None  # mean outcome on the paired fixtures; the hit rate where outcomes are hits and misses
    rhs_mean: float | None
    least_discordant: int | None  # one-sided discordant fixtures that pass Holm's first step in this family
    detectable_difference: float | None  # true difference found with POWER at the assumed discordance, at that step
    margin: float
    p_noninferior: float | None  # of "lhs is worse than rhs by the margin or more"
    p_noninferior_holm: float | None
    least_margin: float | None  # smallest margin by which lhs is shown to be no worse
    p_equivalent: float | None  # of "they differ by the margin or more"
    p_equivalent_holm: float | None
    least_equivalence_margin: float | None
    above_noise: bool | None  # whether the difference exceeds what an A/A cell allows for; None without one
    looks: int | None  # fixtures of the common prefix on which a sequential run looked
    max_log_e: float | None  # nats; over these looks
    nll_n: int  # fixtures with the answer's log-likelihood in both cells
    nll_difference: float | None  # nats, mean of lhs minus rhs; negative: lhs finds the answer more likely
    nll_low: float | None
    nll_high: float | None
    nll_p: float | None
    nll_p_holm: float | None
    subtask: str  # on whose fixtures alone it is; "" on all

    @property
    def is_real(self) -> bool:
        """Whether the difference survives Holm's correction within its family."""
        return self.p_holm is not None and self.p_holm <= self.alpha

    @property
    def is_contradictory(self) -> bool:
        """Whether the interval and the exact test, both uncorrected, tell different stories."""
        if self.p_value is None or self.difference_low is None or self.difference_high is None:
            return False
        return Interval(self.difference_low, self.difference_high).excludes(0.0) != (self.p_value <= self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """A row of budget_to_success.csv: which share of rhs' budget lhs needs; geometric means over fixtures."""

    lhs: str
    rhs: str
    model: str
    task: str
    contract: str
    guards: str
    budgets: str  # those that both were run at, "128,25%"
    n: int  # fixtures that the reference hits, with outcomes at all these budgets
    n_full_missed: int  # fixtures left out because the reference misses them
    n_excluded: int  # left out because an outcome lacks
    lhs_never: int  # fixtures that lhs hits at none of the budgets: the prompt's length counts
    rhs_never: int
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p_value: float | None  # sign-flip test on log ratios
    p_holm: float | None
    family_size: int
    test: str
    p_method: str
    alpha: float

    @property
    def is_real(self) -> bool:
        """Whether the ratio differs from 1 after Holm's correction over all these comparisons."""
        return self.p_holm is not None and self.p_holm <= self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRow:
    """A row of noise_floor.csv: how often decoding the same cell again, in another batch slot, changed the outcome."""

    cell: str
    replica: str
    model: str
    task: str
    n: int
    flips: int
    limit: float  # upper limit of the flip rate: Wilson's, or the confidence sequence's in a sequential run


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRow:
    """A row of selection.csv: a candidate, how it did on the half that chooses and on the half that tests."""

    group: str  # what the candidates share
    cell: str
    model: str
    task: str
    chosen: bool
    n_select: int  # fixtures with an outcome in all candidates of the group
    select_mean: float | None  # mean outcome on them
    n_test: int
    test_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What stopping early saved, as compute."""

    planned: int | None  # fixtures that the run was asked for; None if no manifest says so
    fixtures: int  # that were read
    stopped: tuple[tuple[str, int], ...]  # settled cells, and the fixtures each was decoded on
    unfinished: tuple[str, ...]  # cells with fewer fixtures than planned and a comparison that is still open

    @property
    def rows(self) -> int:
        """Decoded rows that the stopped cells saved."""
        return sum((self.planned or done) - done for _, done in self.stopped)

    @property
    def prefills(self) -> int:
        """Prefills that a stopped panel saved."""
        return 0 if self.unfinished or self.planned is None else self.planned - self.fixtures


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Observations that failed with the same message."""

    message: str
    count: int
    cells: tuple[str, ...]
    fixture_id: str  # one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What measuring took, over all processes and with all cells together."""

    runs: int  # times that a fixture was measured; more than fixtures where cells were added later
    seconds: float  # wall clock, summed over them
    retried: int  # runs that ran out of memory and were tried again with less
    near_misses: int  # runs that nearly did
    reserved_bytes: int | None  # most that one took of the device's memory; None on a CPU
    price_per_hour: float | None
    has_several_prices: bool  # the runs state different ones

    @property
    def cost(self) -> float | None:
        """In the currency of the price."""
        return None if self.price_per_hour is None else self.seconds / 3600 * self.price_per_hour
