"""The report on a terminal: first which differences are real, then the cells, then what qualifies them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vorn.report.rows import CellRow, EvaluationReport, Report
from vorn.report.words import CONTRADICTION, FamilySummary, heading, ledger_state, qualifications, summaries

SHOWN = 12  # strongest comparisons per family; report.md and pairs.csv have all


def print_report(report: Report, console: Console) -> None:
    """Render `report` on `console`."""
    for evaluation in report.evaluations:
        console.print(Text(f"\n{heading(evaluation, report)}: {evaluation.n_fixtures} fixtures", style="bold"))
        for summary in summaries(evaluation):
            _print_summary(summary, console)
        if any(pair.is_contradictory for pair in evaluation.pairs):
            console.print(Text(CONTRADICTION, style="dim"))
        console.print(_cell_table(evaluation))
        _print_notes(qualifications(evaluation), console)
    _print_notes(ledger_state(report), console)


def _print_summary(summary: FamilySummary, console: Console) -> None:
    console.print(Text.assemble("\n", (summary.title, "bold"), f": {summary.headline}"))
    if summary.real_label:
        console.print(Text(f"  {summary.real_label}: {_capped(summary.real)}"))
    else:
        for line in summary.real[:SHOWN]:
            console.print(Text(f"  {line}", style="green"))
        if len(summary.real) > SHOWN:
            console.print(Text(f"  ... and {len(summary.real) - SHOWN} more in pairs.csv"))
    if summary.not_shown:
        console.print(Text(f"  {summary.not_shown_label}: {_capped(summary.not_shown)}", style="dim"))
    if summary.not_tested:
        console.print(Text(f"  not tested, no fixture with an outcome in both: {_capped(summary.not_tested)}"))


def _capped(items: Sequence[str]) -> str:
    rest = len(items) - SHOWN
    return "; ".join(items[:SHOWN]) + (f"; ... and {rest} more in pairs.csv" if rest > 0 else "")


def _cell_table(evaluation: EvaluationReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\ncell", overflow="fold")
    for title in ("\nbudget", "\nkept", "evidence\nkept", "\nhits", "\nrate", "95 % interval\n(Wilson)", "\nerrors"):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in evaluation.cells:
        table.add_row(*map(Text, _cell(cell)), style="bold" if cell.is_reference else "")
    return table


def _cell(cell: CellRow) -> list[str]:
    return [
        cell.cell,
        f"{cell.mean_budget_tokens:.0f}",
        "" if cell.mean_kept_tokens is None else f"{cell.mean_kept_tokens:.1f}",
        "" if cell.mean_evidence_kept is None else f"{cell.mean_evidence_kept:.0%}",
        f"{cell.hits}/{cell.n}",
        "" if cell.hit_rate is None else f"{cell.hit_rate:.0%}",
        "" if cell.ci_low is None or cell.ci_high is None else f"{100 * cell.ci_low:.0f} to {100 * cell.ci_high:.0f}",
        str(cell.n_errors or ""),
    ]


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"))
