"""Runs the paired tests when the last fixture is done."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console

from callbacks.wandb_tables import publish
from vorn.evaluation import Evaluation, ReportFailed
from vorn.report import print_report, write_report


class PairedTests(Callback):
    """The report: in the terminal, in the run's folder and in the loggers."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: whose ledger is read; nothing else is needed, so that a resumed run reports without a model."""
        self._evaluation = evaluation

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, now that all fixtures are on disk."""
        if trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.disable()
        self.report(trainer.loggers)

    def report(self, loggers: Iterable[Logger]) -> None:
        """Test, print, write, publish. Raises ReportFailed if there is no report, with the reason as its cause."""
        try:
            report = self._evaluation.report()
            print_report(report, Console())
            paths = write_report(report, self._evaluation.out_dir)
        except Exception as error:
            raise ReportFailed(
                f"the report failed ({type(error).__name__}: {error}); everything measured is in "
                f"{self._evaluation.folder}: python -m vorn.report {self._evaluation.folder}"
            ) from error
        print(f"\nreport: {', '.join(map(str, paths))}\nledger: {self._evaluation.folder}")
        sys.stdout.flush()
        for logger in loggers:
            publish(report, logger)
