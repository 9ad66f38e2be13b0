"""What loggers are told of a campaign: resumes as it goes, the matrix at its end. Their failures stop nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.wandb_tables import column_names, table_row
from vorn.loggers import guarded
from vorn.records import Observation, Resume
from vorn.snapshots.campaign import Campaign
from vorn.snapshots.matrix import Matrix, MatrixRow

# What of an observation says something about a resume; the fields of its `resume` follow.
_OF_RESUMES = (
    "cell", "policy", "params", "unit", "budget", "contract", "model", "task", "cluster", "fixture_id", "outcome",
    "prompt_tokens", "completion", "error",
)  # fmt: skip
_COLUMNS = [*_OF_RESUMES, *column_names(Resume)]


class ResumeTable(Callback):
    """Sends resumes to W&B, as the table `resumes`, every few workload instances; earlier runs' resumes come first."""

    def __init__(self, campaign: Campaign, flush_every: int) -> None:
        """`flush_every`: instances per upload; each upload makes one version of an artifact."""
        self._campaign, self._flush_every = campaign, flush_every
        self._rows: list[list[Any]] = []  # that were not sent
        self._table: Any = None  # an incremental table must stay the same object
        self._instances = 0
        campaign.listeners.append(self._collect)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Send what other instances have left, now and then."""
        self._instances += 1
        if self._instances % self._flush_every == 0:
            self._flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Send what is there: an interrupted run has measured it."""
        self._flush()

    def report(self) -> None:
        """Send what is left; everything, if there was nothing to measure."""
        self._flush()

    def _collect(self, landed: Iterable[Observation]) -> None:
        if self._table is not None:  # before that nothing is held: it begins with all that is measured by then
            self._rows += map(_row, landed)

    def _flush(self) -> None:
        for logger in self._campaign.loggers:
            if isinstance(logger, WandbLogger):
                guarded("logging resumes", lambda run=logger.experiment: self._send(run))  # type: ignore[misc]

    def _send(self, run: Any) -> None:
        import wandb

        if self._table is None:
            self._table = wandb.Table(columns=_COLUMNS, log_mode="INCREMENTAL")
            self._collect(self._campaign.measured().observations)
        rows, self._rows = self._rows, []
        if rows:
            for row in rows:
                self._table.add_data(*row)
            run.log({"resumes": self._table})


def publish_matrix(matrix: Matrix, loggers: Sequence[Logger]) -> None:
    """Give the matrix to loggers: mean times as metrics; to W&B also a table of its rows."""
    for logger in loggers:
        guarded("logging the matrix", lambda logger=logger: _publish(matrix, logger))  # type: ignore[misc]


def _publish(matrix: Matrix, logger: Logger) -> None:
    times = {f"ttft_s/{row.workload}/{row.cell}": row.ttft_s for row in matrix.rows}
    if not isinstance(logger, WandbLogger):
        logger.log_metrics(times, step=0)
        logger.save()
        return
    import wandb

    rows = [table_row(row) for row in matrix.rows]
    logger.experiment.log({"matrix": wandb.Table(columns=column_names(MatrixRow), data=rows)})
    verdicts = {f"verdict/{row.workload}/{row.cell}": row.verdict for row in matrix.rows}
    logger.experiment.summary.update({**times, **verdicts})


def _row(seen: Observation) -> list[Any]:
    """The columns' values; those of `resume` are None for a resume that failed."""
    found = asdict(seen.resume) if seen.resume else {}
    return [getattr(seen, name) for name in _OF_RESUMES] + [found.get(name) for name in column_names(Resume)]
