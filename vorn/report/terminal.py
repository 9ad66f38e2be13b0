"""The report on a terminal: first the cells, then which differences are real, then what qualifies them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vorn.report.rows import CellRow, EvaluationReport, Report
from vorn.report.words import CONTRADICTION, FamilySummary, heading, ledger_state, qualifications, summaries

SHOWN = 12  # strongest comparisons per family; report.md and pairs.csv have all


def print_report(report: Report, console: Console) -> None:
    """Render `report` on `console`."""
    for evaluation in report.evaluations:
        console.print(Text(f"\n{heading(evaluation, report)}: {evaluation.n_fixtures} fixtures", style="bold"))
        console.print(_cell_table(evaluation))
        for summary in summaries(evaluation):
            _print_summary(summary, console)
        if any(pair.is_contradictory for pair in evaluation.pairs):
            console.print(Text(CONTRADICTION, style="dim"))
        _print_notes(qualifications(evaluation), console)
    _print_notes(ledger_state(report), console)


def _print_summary(summary: FamilySummary, console: Console) -> None:
    console.print(Text.assemble("\n", (summary.title, "bold"), f": {summary.headline}"))
    _print_items(summary.real_label, summary.real, console, style="green", columns=summary.is_compact)
    _print_items(summary.not_shown_label, summary.not_shown, console, style="dim", columns=True)
    label = "not tested, no fixture with an outcome in both" if summary.not_tested else ""
    _print_items(label, summary.not_tested, console, style="dim", columns=True)


def _print_items(label: str, items: Sequence[str], console: Console, *, style: str, columns: bool) -> None:
    """The first `SHOWN` items below their label, side by side where `columns` and the width allow it."""
    if not items:
        return
    console.print(Padding(Text(f"{label}:"), (0, 0, 0, 2)))
    shown = [Text(item, style=style) for item in items[:SHOWN]]
    if columns:
        console.print(Padding(Columns(shown, padding=(0, 3), column_first=True), (0, 0, 0, 4)))
    else:
        grid = Table.grid(padding=(0, 1))
        for item in shown:
            grid.add_row("   -", item)
        console.print(grid)
    if len(items) > SHOWN:
        console.print(Text(f"    ... and {len(items) - SHOWN} more in pairs.csv"))


def _cell_table(evaluation: EvaluationReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\ncell", overflow="fold")
    for title in ("kept\ntokens", "evidence\nkept", "\nhits", "\nrate", "95 %\nWilson", "\nerrors"):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in evaluation.cells:
        table.add_row(*map(Text, _cell(cell)), style="bold" if cell.is_reference else "")
    return table


def _cell(cell: CellRow) -> list[str]:
    return [
        cell.cell,
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
