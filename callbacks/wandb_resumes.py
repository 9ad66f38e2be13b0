"""What loggers are told of a campaign: resumes as it goes, the matrix at its end. Their failures stop nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.wandb_tables import GrowingTable, column_names, table_row
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


class ResumeTable(GrowingTable):
    """Sends resumes to W&B, as the table `resumes`, every few workload instances; earlier runs' resumes come first."""

    def __init__(self, campaign: Campaign, flush_every: int) -> None:
        """`flush_every`: instances per upload; each upload makes one version of an artifact."""
        super().__init__(campaign, flush_every)
        self._rows: list[list[Any]] = []  # that were not sent

    def _add(self, landed: Iterable[Observation]) -> None:
        self._rows += map(_row, landed)

    def _send(self, run: Any) -> None:
        if self._table is None:
            self._begin(_COLUMNS)
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
