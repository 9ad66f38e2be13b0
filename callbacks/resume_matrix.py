"""Judges snapshot policies when the predict loop has ended."""

from __future__ import annotations

import sys
from dataclasses import asdict

from lightning.pytorch.callbacks import Callback
from rich.console import Console

from callbacks.wandb_resumes import publish_matrix
from vorn.evaluation import ReportFailed
from vorn.report import build_report, print_report, write_page, write_report
from vorn.snapshots.campaign import Campaign


class ResumeMatrix(Callback):
    """The matrix in the terminal; with the paired tests of all cells it is in the run's folder."""

    def __init__(self, campaign: Campaign) -> None:
        """`campaign`: whose ledgers are read."""
        self._campaign = campaign

    def report(self) -> None:
        """Judge, print, write, publish. Raises ReportFailed if there is no report, with the reason as its cause."""
        campaign = self._campaign
        try:
            contents = campaign.measured()
            report = build_report(contents, verdict=asdict(campaign.plan.verdict))
            campaign.look()
            paths = write_report(report, campaign.out_dir)
            print_report(report, Console())
            page = write_page(report, contents.observations, campaign.out_dir)
        except Exception as error:
            raise ReportFailed(
                f"the report failed ({type(error).__name__}: {error}); everything measured is in "
                f"{campaign.folder}: python -m vorn.report {campaign.folder}"
            ) from error
        print(f"\nreport: {', '.join(map(str, [page[0], *paths]))}\nledgers: {campaign.folder}")
        sys.stdout.flush()
        if report.matrix:
            publish_matrix(report.matrix, campaign.loggers)
