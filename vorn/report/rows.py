"""What a report consists of: plain values, one per row of a table."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.ledger import DamagedLine, Disagreement
from vorn.records import REFERENCE, Manifest
from vorn.stats import Interval

ALPHA = 0.05  # family-wise; the intervals have level 1 - ALPHA
FAMILIES = ("vs_full", "policies", "units")


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
    ci_method: str
    mean_kept_tokens: float | None
    mean_evidence_kept: float | None
    guards: str

    @property
    def is_reference(self) -> bool:
        """Whether nothing is evicted in this cell."""
        return self.policy == REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A row of pairs.csv; the fields are its columns. None where the cells have no fixture in common.

    The interval is not corrected for the family; `p_holm` is.
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
    worst_low: float  # the difference, had every excluded fixture spoken for rhs
    worst_high: float  # or for lhs

    @property
    def is_real(self) -> bool:
        """Whether the difference survives Holm's correction within its family."""
        return self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def is_contradictory(self) -> bool:
        """Whether the interval and the exact test, both uncorrected, tell different stories."""
        if self.p_value is None or self.difference_low is None or self.difference_high is None:
            return False
        return Interval(self.difference_low, self.difference_high).excludes(0.0) != (self.p_value <= ALPHA)


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Observations that failed with the same message."""

    message: str
    count: int
    cells: tuple[str, ...]
    fixture_id: str  # one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """One evaluation: its cells (the reference first) and its comparisons, by family."""

    evaluation_id: str
    model: str
    task: str
    grades: tuple[str, ...]
    n_fixtures: int  # distinct, with an outcome in at least one cell
    cells: tuple[CellRow, ...]
    pairs: tuple[PairRow, ...]
    errors: tuple[ErrorGroup, ...]
    looks: tuple[int, ...]  # fixtures at each report so far, the present one last
    manifests: tuple[Manifest, ...]

    def family(self, name: str) -> list[PairRow]:
        """The comparisons of one of `FAMILIES`."""
        return [pair for pair in self.pairs if pair.family == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All evaluations of the ledgers, and the state of the ledgers themselves."""

    evaluations: tuple[EvaluationReport, ...]
    damaged: tuple[DamagedLine, ...]
    disagreements: tuple[Disagreement, ...]
    duplicates: int

    @property
    def cells(self) -> list[CellRow]:
        """Cells of all evaluations: the rows of cells.csv."""
        return [cell for evaluation in self.evaluations for cell in evaluation.cells]

    @property
    def pairs(self) -> list[PairRow]:
        """Comparisons of all evaluations: the rows of pairs.csv."""
        return [pair for evaluation in self.evaluations for pair in evaluation.pairs]
