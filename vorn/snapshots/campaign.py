"""A campaign as it is carried out: its evaluations, their ledgers, and what is still to be measured. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vorn.ledger import LedgerContents, LedgerWriter, Scope, read_ledger
from vorn.records import Manifest, Observation, digest
from vorn.snapshots.cells import SnapshotCell
from vorn.snapshots.plan import CampaignPlan, WorkloadPlan
from vorn.snapshots.requests import Instance

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class WorkItem:
    """One instance with the cells that lack an outcome for some of its fixtures."""

    workload: WorkloadPlan
    instance: Instance
    first_index: int  # of the instance's first fixture in the workload's order
    missing: Mapping[str, frozenset[str]]  # fixture ids by cell id


@dataclass(frozen=True)
class Writer:
    """Appends observations to the ledger of their evaluation, and tells of them."""

    writers: Mapping[str, LedgerWriter]  # by evaluation id
    listeners: Sequence[Callable[[Sequence[Observation]], None]]

    def append(self, observations: Sequence[Observation]) -> None:
        """Write them as one block; all are of one evaluation, and on disk when this returns."""
        if observations:
            self.writers[observations[0].evaluation_id].append(observations)
            for listener in self.listeners:
                listener(observations)

    def close(self) -> None:
        """End the segments."""
        for writer in self.writers.values():
            writer.close()


@dataclass(frozen=True, eq=False)
class Campaign:
    """What callbacks are given in place of an evaluation: several, with a ledger each.

    Attributes:
        plan: what is measured.
        folder: the ledger directory.
        manifest: of a run, by evaluation id.
        out_dir: where the report goes.
        loggers: mirrors of the ledgers.
        listeners: are told of every observation that this process has written.
    """

    plan: CampaignPlan
    folder: Path
    manifest: Callable[[str], Manifest]
    out_dir: Path
    loggers: list[Logger] = field(default_factory=list)
    listeners: list[Callable[[Sequence[Observation]], None]] = field(default_factory=list)

    @cached_property
    def cells(self) -> dict[str, dict[str, SnapshotCell]]:
        """The cells by id, by evaluation id."""
        return {
            one.evaluation_id: {cell.cell_id(one.evaluation_id): cell for cell in one.cells}
            for one in self.plan.workloads
        }

    @property
    def run_id(self) -> str:
        """Of its runs in loggers: the same cells of the same evaluations."""
        return digest({name: sorted(cells) for name, cells in self.cells.items()})

    @property
    def title(self) -> str:
        """Its workloads."""
        return f"warm resume: {', '.join(dict.fromkeys(one.task for one in self.plan.workloads))}"

    @cached_property
    def writer(self) -> Writer:
        """Of this process."""
        writers = {name: LedgerWriter(self.folder / name, partial(self.manifest, name)) for name in self.cells}
        return Writer(writers, self.listeners)

    def todo(self) -> list[WorkItem]:
        """Instances that some cell lacks, in order. Raises BadInput if one changed since it was measured."""
        items = []
        for one in self.plan.workloads:
            contents = read_ledger(self.folder / one.evaluation_id)
            prints = {name: instance.fingerprint for instance in one.instances for name in instance.fixtures}
            contents.check_fingerprints(prints)
            missing = contents.missing(list(self.cells[one.evaluation_id]), prints)
            index = 0
            for instance in one.instances:
                lacking: dict[str, set[str]] = {}
                for name in instance.fixtures:
                    for cell in missing.get(name, ()):
                        lacking.setdefault(cell, set()).add(name)
                if lacking:
                    sets = {cell: frozenset(names) for cell, names in lacking.items()}
                    items.append(WorkItem(one, instance, index, sets))
                index += len(instance.fixtures)
        return items

    @property
    def scopes(self) -> dict[Path, Scope]:
        """What of each ledger is this campaign's."""
        fixtures = {
            one.evaluation_id: frozenset(name for instance in one.instances for name in instance.fixtures)
            for one in self.plan.workloads
        }
        return {
            self.folder / name: Scope(frozenset(cells), frozenset(one.label for one in cells.values()), fixtures[name])
            for name, cells in self.cells.items()
        }

    def measured(self) -> LedgerContents:
        """What the ledgers hold of this campaign's cells on its fixtures."""
        return Scope.union(self.scopes.values()).of(read_ledger(*self.scopes))

    def look(self) -> None:
        """Record in every ledger that a report was made."""
        measured: dict[str, set[Any]] = {}
        for seen in self.measured().observations:
            if seen.outcome is not None:
                measured.setdefault(seen.evaluation_id, set()).add(seen.fixture_id)
        for name, fixtures in measured.items():
            self.writer.writers[name].look(len(fixtures))
