"""A report: its evaluations with their rows, and the state of the ledgers."""

from __future__ import annotations

from dataclasses import dataclass

from vorn.ledger import DamagedLine, Disagreement
from vorn.records import Manifest
from vorn.report.grid import GridRow
from vorn.report.losses import LossRow
from vorn.report.rows import BudgetRow, CellRow, Effort, ErrorGroup, NoiseRow, PairRow, Saved, SelectionRow
from vorn.report.subtasks import TaskRow
from vorn.snapshots.matrix import Matrix
from vorn.stats import TestPlan


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
    plan: TestPlan
    plan_notes: tuple[str, ...]  # what a reader must know of where the plan comes from
    noise: tuple[NoiseRow, ...]
    budgets: tuple[BudgetRow, ...]
    selection: tuple[SelectionRow, ...]
    subtasks: tuple[TaskRow, ...]  # empty unless the task is made of several
    grid: tuple[GridRow, ...]  # empty unless fixtures stand on two axes
    losses: tuple[LossRow, ...]
    saved: Saved | None  # None unless the run may stop early
    effort: Effort | None  # None where no ledger says
    is_resume: bool  # whether its observations are resumes: the report's matrix says what they show

    def family(self, name: str) -> list[PairRow]:
        """The comparisons of one of `vorn.stats.FAMILIES`, or those of policies by sub-task."""
        return [pair for pair in self.pairs if pair.family == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All evaluations of the ledgers, and the state of the ledgers themselves."""

    evaluations: tuple[EvaluationReport, ...]
    damaged: tuple[DamagedLine, ...]
    disagreements: tuple[Disagreement, ...]
    duplicates: int
    matrix: Matrix | None  # of all resumes; None if there are none

    @property
    def panels(self) -> list[EvaluationReport]:
        """The evaluations of KV-cache policies."""
        return [one for one in self.evaluations if not one.is_resume]

    @property
    def resumes(self) -> list[EvaluationReport]:
        """The evaluations of snapshot policies."""
        return [one for one in self.evaluations if one.is_resume]

    @property
    def cells(self) -> list[CellRow]:
        """Cells of all evaluations: the rows of cells.csv."""
        return [cell for evaluation in self.evaluations for cell in evaluation.cells]

    @property
    def pairs(self) -> list[PairRow]:
        """Comparisons of all evaluations: the rows of pairs.csv."""
        return [pair for evaluation in self.evaluations for pair in evaluation.pairs]

    @property
    def budgets(self) -> list[BudgetRow]:
        """Budgets to success of all evaluations: the rows of budget_to_success.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.budgets]

    @property
    def noise(self) -> list[NoiseRow]:
        """Noise floors of all evaluations: the rows of noise_floor.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.noise]

    @property
    def selection(self) -> list[SelectionRow]:
        """Candidates of all evaluations: the rows of selection.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.selection]

    @property
    def subtasks(self) -> list[TaskRow]:
        """Cells by sub-task of all evaluations: the rows of tasks.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.subtasks]

    @property
    def grid(self) -> list[GridRow]:
        """Cells by place of all evaluations: the rows of grid.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.grid]

    @property
    def losses(self) -> list[LossRow]:
        """Losses by cause of all evaluations: the rows of losses.csv."""
        return [row for evaluation in self.evaluations for row in evaluation.losses]
