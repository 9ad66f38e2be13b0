"""Runs the paired tests when the predict loop has ended."""

from __future__ import annotations

import sys

from lightning.pytorch.callbacks import Callback
from rich.console import Console

from callbacks.wandb_tables import publish
from vorn.evaluation import Evaluation, ReportFailed
from vorn.report import print_report, write_page, write_report
from vorn.views import read_views


class PairedTests(Callback):
    """The report: in the terminal, in the run's folder and in the loggers."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: whose ledger is read; nothing else is needed, so that a resumed run reports without a model."""
        self._evaluation = evaluation

    def report(self) -> None:
        """Test, print, write, publish. Raises ReportFailed if there is no report, with the reason as its cause."""
        try:
            report = self._evaluation.report()
            paths = write_report(report, self._evaluation.out_dir)
            print_report(report, Console())
            views = read_views([self._evaluation.folder])
            page = write_page(report, self._evaluation.measured().observations, self._evaluation.out_dir, views)
        except Exception as error:
            raise ReportFailed(
                f"the report failed ({type(error).__name__}: {error}); everything measured is in "
                f"{self._evaluation.folder}: python -m vorn.report {self._evaluation.folder}"
            ) from error
        print(f"\nreport: {', '.join(map(str, [page[0], *paths]))}\nledger: {self._evaluation.folder}")
        sys.stdout.flush()
        for logger in self._evaluation.loggers:
            publish(report, logger, self._evaluation.folder, [*paths, *page])
