"""Reports from ledgers alone: cells, paired tests, a figure, and sentences on which differences are real."""

from vorn.report.build import build_report
from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import CellRow, PairRow
from vorn.report.terminal import print_report
from vorn.report.write import write_page, write_report

__all__ = [
    "CellRow",
    "EvaluationReport",
    "PairRow",
    "Report",
    "build_report",
    "print_report",
    "write_page",
    "write_report",
]
