"""One evaluation as it is carried out: its cells, fixtures and ledger. What callbacks are given. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vorn.cells import CellSpec
from vorn.claims import Claim, Claims
from vorn.ledger import Follower, LedgerContents, LedgerWriter, Scope, merge, read_ledger
from vorn.records import Fixture, Observation, digest, fingerprint
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
        model: its name, for readers.
        task: its name.
        identity: what all cells share, see `vorn.panel.evaluation_identity`.
        specs: the panel's cells, the reference first.
        fixtures: in their order; the same command with a higher limit begins with the same ones.
        texts: rendered prompt of each fixture, which its fingerprint covers.
        folder: of this evaluation in the ledger directory.
        writer: of this process, into `folder`.
        claims: of this process, in `folder`.
        out_dir: where the report goes.
        tests: what is tested, and at which error rates.
        listeners: are told of every observation that lands in the ledger while this process works, of any writer.
        loggers: mirrors of the ledger. Lightning does not get them: an exception in one of its calls would end the run.
    """

    model: str
    task: str
    identity: Mapping[str, Any]
    specs: Sequence[CellSpec]
    fixtures: Sequence[Fixture]
    texts: Sequence[str]
    folder: Path
    writer: LedgerWriter
    claims: Claims
    out_dir: Path
    tests: TestPlan
    listeners: list[Callable[[Sequence[Observation]], None]] = field(default_factory=list)
    loggers: list[Logger] = field(default_factory=list)

    @cached_property
    def evaluation_id(self) -> str:
        """Hash of the identity."""
        return digest(self.identity)

    @cached_property
    def cells(self) -> dict[str, CellSpec]:
        """The panel's cells by id, the reference first."""
        return {cell.cell_id(self.evaluation_id): cell for cell in self.specs}

    @property
    def run_id(self) -> str:
        """Of its runs in loggers: the same cells of the same evaluation, however many fixtures."""
        return digest([self.evaluation_id, sorted(self.cells)])

    @property
    def title(self) -> str:
        """Model and task."""
        return f"{self.model}, {self.task}"

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What each fixture asks and accepts, hashed, by fixture id."""
        pairs = zip(self.fixtures, self.texts, strict=True)
        return {one.fixture_id: fingerprint(text, one.answers, one.choices) for one, text in pairs}

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

    @cached_property
    def _follower(self) -> Follower:
        return Follower(self.folder)

    @cached_property
    def todo(self) -> dict[str, list[str]]:
        """Ids of the active cells without an outcome, by fixture id, as the ledger was at the first call.

        Raises: BadInput if a fixture changed since it was measured.
        """
        contents = merge(self._follower.new())
        contents.check_fingerprints(self.fingerprints)
        if self.stopping:
            self.stopping.replay(self._ours(contents.observations))
        return contents.missing(list(filter(self.is_active, self.cells)), self.fingerprints)

    def work(self, is_over: Callable[[], bool]) -> Iterator[Claim]:
        """What this process is to measure of `todo`, one fixture after another, until it `is_over` or all is done."""
        claims = self.claims.share(self.todo, self.is_active, self._refresh)
        while not is_over() and (claim := next(claims, None)) is not None:
            yield claim

    def _refresh(self) -> list[Observation]:
        """Observations of this panel that landed in the ledger since the last call, of any writer."""
        landed = self._ours(seen for segment in self._follower.new() for seen in segment.observations)
        for listener in self.listeners:
            listener(landed)
        if self.stopping:
            self.stopping.observe(landed)
        return landed

    def _ours(self, observations: Iterable[Observation]) -> list[Observation]:
        """Those of this panel's cells on these fixtures."""
        return [one for one in observations if one.cell_id in self.cells and one.fixture_id in self.fingerprints]

    def measured(self) -> LedgerContents:
        """What the ledger holds of this panel's cells on these fixtures."""
        return self.scope.of(read_ledger(self.folder))

    @cached_property
    def scope(self) -> Scope:
        """What of the ledger belongs to this panel."""
        return Scope(frozenset(self.cells), frozenset(cell.label for cell in self.specs), frozenset(self.fingerprints))

    def close(self) -> None:
        """End this process's part: its segment and its claims."""
        self.writer.close()
        self.claims.close()

    def report(self) -> Report:
        """The report on this panel, recorded in the ledger as a look."""
        report = build_report(self.measured(), self.tests)
        self.writer.look(max(evaluation.n_fixtures for evaluation in report.evaluations))
        return report
