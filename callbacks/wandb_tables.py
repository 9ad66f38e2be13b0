"""What loggers are told: rows of fixtures as the run goes, cells and pairs at its end. Their failures stop nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, WandbLogger

from vorn.evaluation import Evaluation
from vorn.loggers import guarded
from vorn.records import Observation, Resume
from vorn.report import CellRow, PairRow, Report
from vorn.snapshots.campaign import Campaign
from vorn.snapshots.matrix import Matrix, MatrixRow

# What of an observation says something about a resume; the fields of its `resume` follow.
_OF_RESUMES = (
    "cell", "policy", "params", "unit", "budget", "contract", "model", "task", "cluster", "fixture_id", "outcome",
    "prompt_tokens", "completion", "error",
)  # fmt: skip


class FixtureTable(Callback):
    """Sends observations to W&B, as the table `fixtures`, every few fixtures."""

    name = "fixtures"
    columns: Sequence[str] = [field.name for field in fields(Observation)]

    def __init__(self, evaluation: Evaluation | Campaign, flush_every: int) -> None:
        """`flush_every`: fixtures per upload; each upload makes one version of an artifact."""
        self._evaluation = evaluation
        self._flush_every = flush_every
        self._rows: list[list[Any]] = []
        self._tables: dict[int, Any] = {}  # by logger: an incremental table must stay the same object
        self._fixtures = 0
        evaluation.listeners.append(self._collect)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with what an earlier run has measured: the table of a resumed run is whole."""
        self._rows = [self.row(seen) for seen in self._evaluation.measured().observations]

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Send what other fixtures have left, now and then."""
        self._fixtures += 1
        if self._fixtures % self._flush_every == 0:
            self._flush()

    def _collect(self, landed: Sequence[Observation]) -> None:
        """Rows of every process that measures this evaluation."""
        self._rows += [self.row(seen) for seen in landed]

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send what is left."""
        self._flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Send what is there: an interrupted run has measured it."""
        self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        for number, logger in enumerate(self._evaluation.loggers):
            if rows and isinstance(logger, WandbLogger):
                guarded("logging fixtures", lambda number=number, logger=logger: self._send(number, logger, rows))  # type: ignore[misc]

    def _send(self, number: int, logger: WandbLogger, rows: list[list[Any]]) -> None:
        import wandb

        if number not in self._tables:
            self._tables[number] = wandb.Table(columns=[*self.columns], log_mode="INCREMENTAL")
        for row in rows:
            self._tables[number].add_data(*row)
        logger.experiment.log({self.name: self._tables[number]})

    def row(self, seen: Observation) -> list[Any]:
        """The columns' values."""
        return _row(seen)


class ResumeTable(FixtureTable):
    """The same for resumes of conversations, as the table `resumes`: what each found, replayed and cost."""

    name = "resumes"
    columns = (*_OF_RESUMES, *(field.name for field in fields(Resume)))

    def row(self, seen: Observation) -> list[Any]:
        """The columns' values; those of `resume` are None for a resume that failed."""
        found = asdict(seen.resume) if seen.resume else {}
        return [getattr(seen, name) for name in _OF_RESUMES] + [found.get(field.name) for field in fields(Resume)]


def publish(report: Report, logger: Logger) -> None:
    """Give the report to a logger: hit rates as metrics; for W&B also tables of cells and pairs, and its summary."""
    guarded("logging the report", lambda: _publish(report, logger))


def publish_matrix(matrix: Matrix, logger: Logger) -> None:
    """Give the matrix to a logger: mean times as metrics; for W&B also a table of its rows."""
    guarded("logging the matrix", lambda: _publish_matrix(matrix, logger))


def _publish_matrix(matrix: Matrix, logger: Logger) -> None:
    times = {f"ttft_s/{row.workload}/{row.cell}": row.ttft_s for row in matrix.rows}
    if not isinstance(logger, WandbLogger):
        logger.log_metrics(times, step=0)
        logger.save()
        return
    import wandb

    logger.experiment.log({"matrix": wandb.Table(columns=_names(MatrixRow), data=_rows(matrix.rows))})
    verdicts = {f"verdict/{row.workload}/{row.cell}": row.verdict for row in matrix.rows}
    logger.experiment.summary.update({**times, **verdicts})


def _publish(report: Report, logger: Logger) -> None:
    rates = {f"hit_rate/{cell.cell}": cell.hit_rate for cell in report.cells if cell.hit_rate is not None}
    if not isinstance(logger, WandbLogger):
        logger.log_metrics(rates, step=0)
        logger.save()
        return
    import wandb

    real = sum(pair.is_real for pair in report.pairs)
    logger.experiment.log(
        {
            "cells": wandb.Table(columns=_names(CellRow), data=_rows(report.cells)),
            "pairs": wandb.Table(columns=_names(PairRow), data=_rows(report.pairs)),
        }
    )
    tests = {f"p_holm/{pair.family}/{pair.lhs} vs {pair.rhs}": pair.p_holm for pair in report.pairs}
    logger.experiment.summary.update({**rates, **tests, "pairs": len(report.pairs), "real_differences": real})


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


def _rows(records: Iterable[CellRow | PairRow | MatrixRow]) -> list[list[Any]]:
    return [_row(record) for record in records]


def _row(record: CellRow | PairRow | MatrixRow | Observation) -> list[Any]:
    return [_cell_value(value) for value in asdict(record).values()]


def _cell_value(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, (tuple, list)) else value
