"""One evaluation as it is carried out: its cells, fixtures and ledger. What callbacks are given. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vorn.cells import CellSpec
from vorn.ledger import LedgerContents, LedgerWriter, read_ledger
from vorn.records import Fixture, digest, fingerprint
from vorn.report import Report, build_report
from vorn.stats import TestPlan, check_independent, compared
from vorn.stopping import Stopping

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@runtime_checkable
class Reporter(Protocol):
    """A callback that reports when the predict loop has ended, also one that had nothing left to do.

    Lightning skips its own hooks of an empty loop, so that the run calls this one itself.
    """

    def report(self) -> None:
        """Raises ReportFailed if there is no report."""


class ReportFailed(RuntimeError):
    """Everything was measured and is on disk, but the report could not be made."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A panel of cells on a sequence of fixtures, and the ledger that holds their outcomes.

    Attributes:
        identity: what all cells share, see `vorn.panel.evaluation_identity`.
        specs: the panel's cells, the reference first.
        fixtures: in their order; the same command with a higher limit begins with the same ones.
        texts: rendered prompt of each fixture, which its fingerprint covers.
        folder: of this evaluation in the ledger directory.
        writer: of this process, into `folder`.
        out_dir: where the report goes.
        tests: what is tested, and at which error rates.
        loggers: mirrors of the ledger. Lightning does not get them: an exception in one of its calls would end the run.
    """

    identity: Mapping[str, Any]
    specs: Sequence[CellSpec]
    fixtures: Sequence[Fixture]
    texts: Sequence[str]
    folder: Path
    writer: LedgerWriter
    out_dir: Path
    tests: TestPlan
    loggers: list[Logger] = field(default_factory=list)

    @cached_property
    def evaluation_id(self) -> str:
        """Hash of the identity."""
        return digest(self.identity)

    @cached_property
    def cells(self) -> dict[str, CellSpec]:
        """The panel's cells by id, the reference first."""
        return {cell.cell_id(self.evaluation_id): cell for cell in self.specs}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What each fixture asks and accepts, hashed, by fixture id."""
        pairs = zip(self.fixtures, self.texts, strict=True)
        return {fixture.fixture_id: fingerprint(text, fixture.answers) for fixture, text in pairs}

    @cached_property
    def stopping(self) -> Stopping | None:
        """Which cells a sequential run still needs; None if every cell is measured on every fixture."""
        if not self.tests.is_sequential:
            return None
        check_independent(self.tests, [fixture.cluster for fixture in self.fixtures])
        cells = [cell for cell in self.specs if not cell.is_replica]
        ids = {id(cell): cell_id for cell_id, cell in self.cells.items()}
        return Stopping(
            families=[
                [(ids[id(lhs)], ids[id(rhs)]) for lhs, rhs in compared(cells, family)] for family in self.tests.families
            ],
            planned=len(self.fixtures),
            alpha=self.tests.alpha,
            replicas={
                cell_id: cell.replica_of(self.evaluation_id) for cell_id, cell in self.cells.items() if cell.is_replica
            },
        )

    def is_active(self, cell_id: str) -> bool:
        """Whether a cell is still measured; a sequential run stops cells while it goes on."""
        return self.stopping is None or cell_id in self.stopping.active

    def todo(self) -> dict[str, list[str]]:
        """Ids of the active cells without an outcome, by fixture id.

        Raises: BadInput if a fixture changed since it was measured.
        """
        contents = read_ledger(self.folder)
        contents.check_fingerprints(self.fingerprints)
        if self.stopping:
            self.stopping.replay(self.measured().observations)
        return contents.missing(list(filter(self.is_active, self.cells)), self.fingerprints)

    def measured(self) -> LedgerContents:
        """What the ledger holds of this panel's cells on these fixtures."""
        contents = read_ledger(self.folder)
        ours = [
            seen
            for seen in contents.observations
            if seen.cell_id in self.cells and seen.fixture_id in self.fingerprints
        ]
        labels = {cell.label for cell in self.specs}
        disagreements = [one for one in contents.disagreements if one.cell in labels]
        return replace(contents, observations=tuple(ours), disagreements=tuple(disagreements))

    def report(self) -> Report:
        """The report on this panel, recorded in the ledger as a look."""
        report = build_report(self.measured(), self.tests)
        self.writer.look(max(evaluation.n_fixtures for evaluation in report.evaluations))
        return report
