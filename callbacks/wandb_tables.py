"""What loggers are told: rows of fixtures as the run goes, the report at its end. Their failures stop nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, WandbLogger

from vorn.evaluation import Evaluation
from vorn.ledger import SEGMENT_GLOB
from vorn.loggers import guarded
from vorn.records import Observation, canonical_json
from vorn.report import CellRow, PairRow, Report
from vorn.snapshots.campaign import Campaign
from vorn.views import SUFFIX

SENT = "fixture_rows"  # in the W&B run's summary: rows of the table that it has; a resumed run goes on behind them


class GrowingTable(Callback):
    """Sends what lands to W&B, every few batches and at the end, into one table that grows."""

    def __init__(self, job: Evaluation | Campaign, flush_every: int) -> None:
        """`job`: whose observations these are; `flush_every`: batches per upload, each a version of an artifact."""
        self._job, self._flush_every = job, flush_every
        self._table: Any = None  # an incremental table must stay the same object
        self._batches = 0
        job.listeners.append(self._collect)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Send what other batches have left, now and then."""
        self._batches += 1
        if self._batches % self._flush_every == 0:
            self._flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Send what is there: an interrupted run has measured it."""
        self._flush()

    def report(self) -> None:
        """Send what is left; everything, if there was nothing to measure."""
        self._flush()

    def _flush(self) -> None:
        for logger in self._job.loggers:
            if isinstance(logger, WandbLogger):
                guarded("logging observations", lambda run=logger.experiment: self._send(run))  # type: ignore[misc]

    def _collect(self, landed: Sequence[Observation]) -> None:
        """Observations of every process that measures this job."""
        if self._table is not None:  # before that nothing is held: it begins with all that is measured by then
            self._add(landed)

    def _begin(self, columns: Sequence[str]) -> None:
        """The table, which begins with what earlier runs have measured too."""
        import wandb

        self._table = wandb.Table(columns=list(columns), log_mode="INCREMENTAL")
        self._add(self._job.measured().observations)

    def _add(self, landed: Iterable[Observation]) -> None:
        """Take these up for the next upload."""
        raise NotImplementedError

    def _send(self, run: Any) -> None:
        """Upload what can be."""
        raise NotImplementedError


class FixtureTable(GrowingTable):
    """Sends observations to W&B, as the table `fixtures`, every few fixtures.

    In the order of the fixtures, each when all of its cells have landed, whoever measured them: so that the number of
    rows that a W&B run has says which they are.
    """

    def __init__(self, evaluation: Evaluation, flush_every: int) -> None:
        """`flush_every`: fixtures per upload; each upload makes one version of an artifact."""
        super().__init__(evaluation, flush_every)
        self._evaluation = evaluation
        self._landed: dict[str, dict[str, Observation]] = {}  # by fixture and cell, of fixtures that were not sent
        self._next = 0  # place of the first fixture that was not sent
        self._skipped = 0  # rows that a resumed run had already

    def _add(self, landed: Iterable[Observation]) -> None:
        for seen in landed:
            self._landed.setdefault(seen.fixture_id, {})[seen.cell_id] = seen

    def _send(self, run: Any) -> None:
        if self._table is None:
            self._begin(column_names(Observation))
            self._skipped = int(run.summary.get(SENT, 0)) if run.resumed else 0
        sent = int(run.summary.get(SENT, 0))
        rows = list(self._ready())
        new = rows[self._skipped :]
        self._skipped = max(0, self._skipped - len(rows))
        if new:
            for row in new:
                self._table.add_data(*row)
            run.log({"fixtures": self._table})
            run.summary[SENT] = sent + len(new)

    def _ready(self) -> Iterator[list[Any]]:
        """Rows of the next fixtures, up to the first that a cell still lacks; a cell that was stopped lacks nothing."""
        evaluation = self._evaluation
        for fixture in evaluation.fixtures[self._next :]:
            seen = self._landed.get(fixture.fixture_id, {})
            if any(cell not in seen and evaluation.is_active(cell) for cell in evaluation.cells):
                return
            self._next += 1
            yield from (table_row(seen[cell]) for cell in evaluation.cells if cell in seen)
            self._landed.pop(fixture.fixture_id, None)


def publish(report: Report, logger: Logger, ledger: Path, files: Sequence[Path]) -> None:
    """Give the report to a logger: rates as metrics; for W&B also tables, figures, and files as artifacts.

    Args:
        report: on the evaluation.
        logger: a mirror of its ledger.
        ledger: the evaluation's folder.
        files: of the report, as they were written.
    """
    guarded("logging the report", lambda: _publish(report, logger, ledger, files))


def _publish(report: Report, logger: Logger, ledger: Path, files: Sequence[Path]) -> None:
    rates = {f"hit_rate/{cell.cell}": cell.hit_rate for cell in report.cells if cell.hit_rate is not None}
    if not isinstance(logger, WandbLogger):
        logger.log_metrics(rates, step=0)
        logger.save()
        return
    import wandb

    run = logger.experiment
    run.log(
        {
            "cells": wandb.Table(columns=column_names(CellRow), data=[*map(table_row, report.cells)]),
            "pairs": wandb.Table(columns=column_names(PairRow), data=[*map(table_row, report.pairs)]),
            **{f"figures/{path.stem}": wandb.Image(str(path)) for path in files if path.suffix == ".png"},
        }
    )
    run.summary.update({**rates, **_summary(report)})
    for kind, paths in (("ledger", _records(ledger)), ("report", files)):
        artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
        top = min((path.parent for path in paths), key=lambda folder: len(folder.parts))
        for path in paths:
            artifact.add_file(str(path), name=path.relative_to(top).as_posix())
        run.log_artifact(artifact)


def _records(ledger: Path) -> list[Path]:
    return sorted([*ledger.glob(SEGMENT_GLOB), *ledger.glob(f"*{SUFFIX}")])


def _summary(report: Report) -> dict[str, Any]:
    """Numbers by which runs are compared: of every cell and pair, and one for all pruned cells together."""
    means = {f"mean_outcome/{cell.cell}": cell.mean_outcome for cell in report.cells if cell.mean_outcome is not None}
    pruned = [cell for cell in report.cells if not cell.is_reference and not cell.replica_of and cell.n]
    whole = [pair for pair in report.pairs if not pair.subtask]
    total = sum(cell.n * (cell.mean_outcome or 0.0) for cell in pruned)
    return {
        **means,
        **({"mean_outcome": total / sum(cell.n for cell in pruned)} if pruned else {}),
        **{f"p_holm/{pair.family}/{pair.lhs} vs {pair.rhs}": pair.p_holm for pair in whole},
        "pairs": len(whole),
        "real_differences": sum(pair.is_real for pair in whole),
    }


def column_names(kind: type) -> list[str]:
    """Fields of a record, which are the columns of a table of such records."""
    return [field.name for field in fields(kind)]


def table_row(record: Any) -> list[Any]:
    """A record's values as a W&B table can hold them: lists as lines, mappings as JSON."""
    return [_cell_value(value) for value in asdict(record).values()]


def _cell_value(value: Any) -> Any:
    if isinstance(value, dict):
        return canonical_json(value)
    return "\n".join(map(str, value)) if isinstance(value, (tuple, list)) else value
