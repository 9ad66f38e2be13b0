"""Judges snapshot policies when the predict loop has ended."""

from __future__ import annotations

import sys

from lightning.pytorch.callbacks import Callback
from rich.console import Console

from callbacks.wandb_resumes import publish_matrix
from vorn.evaluation import ReportFailed
from vorn.report import build_report, write_page, write_report
from vorn.snapshots.campaign import Campaign
from vorn.snapshots.matrix import Judgement, build_matrix
from vorn.snapshots.show import print_matrix, write_matrix


class ResumeMatrix(Callback):
    """The matrix in the terminal; with the paired tests of all cells it is in the run's folder."""

    def __init__(self, campaign: Campaign) -> None:
        """`campaign`: whose ledgers are read."""
        self._campaign = campaign

    def report(self) -> None:
        """Judge, print, write, publish. Raises ReportFailed if there is no report, with the reason as its cause."""
        campaign, verdict = self._campaign, self._campaign.plan.verdict
        try:
            contents = campaign.measured()
            report = build_report(contents)
            how = Judgement(
                baseline=verdict.baseline,
                bound=verdict.bound,
                margin=verdict.margin,
                alpha=report.evaluations[0].plan.alpha,
                seed=verdict.seed,
            )
            matrix = build_matrix(contents.observations, how)
            campaign.look()
            paths = [*write_matrix(matrix, campaign.out_dir), *write_report(report, campaign.out_dir)]
            print_matrix(matrix, Console())
            paths.append(write_page(report, contents.observations, campaign.out_dir)[0])
        except Exception as error:
            raise ReportFailed(
                f"the report failed ({type(error).__name__}: {error}); everything measured is in "
                f"{campaign.folder}: python -m vorn.report {campaign.folder}"
            ) from error
        print(f"\nreport: {', '.join(map(str, paths))}\nledgers: {campaign.folder}")
        sys.stdout.flush()
        publish_matrix(matrix, campaign.loggers)
