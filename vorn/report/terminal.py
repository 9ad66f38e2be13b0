"""The report on a terminal: first the matrix or the cells, then which differences are real, then what qualifies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vorn.report.grid import fits_on_a_map, main_axes
from vorn.report.notes import ledger_state, qualifications
from vorn.report.reports import EvaluationReport, Report
from vorn.report.resumes.notes import resume_notes
from vorn.report.resumes.terminal import print_matrix
from vorn.report.rows import CellRow
from vorn.report.summaries import NOT_TESTED, FamilySummary, budget_summary, summaries
from vorn.report.words import CONTRADICTION, LOSSES, NATS, heading, loss_sentences, nats, percent, printable

SHOWN = 12  # strongest comparisons per family; report.md and pairs.csv have all
NUMBERS = 50  # columns of the terminal that the numbers of the table of cells take at most
BUDGETS_SHOWN = 3  # the same of budgets to success, which repeat in other words what the families say


def print_report(report: Report, console: Console) -> None:
    """Render `report` on `console`; nothing that a ledger says can command the terminal."""
    report = printable(report)
    if report.matrix:
        print_matrix(report.matrix, console)
        _print_notes(resume_notes(report.matrix, report.resumes), console)
    for evaluation in report.panels:
        console.print(Text(f"\n{heading(evaluation, report)}: {evaluation.n_fixtures} fixtures", style="bold"))
        console.print(_cell_table(evaluation, console.width))
        if evaluation.subtasks:
            count = len({row.subtask for row in evaluation.subtasks})
            console.print(Text(f"rates of its {count} sub-tasks are in tasks.csv and report.md"))
        if (rows := main_axes(evaluation.grid)) and fits_on_a_map(rows):
            console.print(Text(f"outcomes by {rows[0].down} and {rows[0].across}: grid.csv, heat maps in report.html"))
        for summary in summaries(evaluation):
            _print_summary(summary, console)
        if budgets := budget_summary(evaluation):
            shorter = replace(budgets, not_shown_label="", not_shown=())
            _print_summary(shorter, console, BUDGETS_SHOWN)
        if losses := loss_sentences(evaluation.losses):
            console.print(Text(f"\n{LOSSES}: losses.csv has every cell", style="bold"))
            _print_list(losses, console)
        if any(pair.is_contradictory for pair in evaluation.pairs):
            console.print(Text(CONTRADICTION, style="dim"))
        _print_notes(qualifications(evaluation), console)
    _print_notes(ledger_state(report), console)


def _print_summary(summary: FamilySummary, console: Console, most: int = SHOWN) -> None:
    console.print(Text.assemble("\n", (summary.title, "bold"), f": {summary.headline}"))
    for label, items, style, columns in (
        (summary.real_label, summary.real, "green", summary.is_compact),
        (summary.not_shown_label, summary.not_shown, "dim", True),
        (NOT_TESTED, summary.not_tested, "dim", True),
    ):
        if items:
            _print_items(label, items[:most], console, style=style, columns=columns)
        if len(items) > most:
            console.print(Text(f"    ... and {len(items) - most} more in {summary.table}"))
    for claim in summary.claims:
        console.print(Padding(Text(claim), (0, 0, 0, 2)))


def _print_items(label: str, items: Sequence[str], console: Console, *, style: str, columns: bool) -> None:
    """Items below their label, side by side where `columns` and the width allow it."""
    console.print(Padding(Text(f"{label}:"), (0, 0, 0, 2)))
    shown = [Text(item, style=style) for item in items]
    if columns:
        console.print(Padding(Columns(shown, padding=(0, 3), column_first=True), (0, 0, 0, 4)))
    else:
        _print_list(shown, console)


def _print_list(items: Sequence[str | Text], console: Console) -> None:
    grid = Table.grid(padding=(0, 1))
    for item in items:
        grid.add_row("   -", Text(item) if isinstance(item, str) else item)
    console.print(grid)


def _cell_table(evaluation: EvaluationReport, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\ncell", overflow="fold")
    interval = "sequence" if evaluation.plan.is_sequential else "Wilson"
    level = f"{percent(evaluation.plan.level)}\n{interval}"
    graded = nats(evaluation)
    extra = [NATS[0].replace(" ", "\n")] if graded else []  # the difference stands in report.md: labels need the room
    for title in ("kept\ntokens", "evidence\nkept", "\nhits", "\nrate", level, "\nerrors", *extra):
        table.add_column(title, justify="right", no_wrap=True)
    room = width - NUMBERS - 8 * len(extra)
    for cell in evaluation.cells:
        row = [_folded(cell.cell, room), *_cell(cell)[1:], *graded.get(cell.cell_id, ())[:1]]
        table.add_row(*map(Text, row), style="bold" if cell.is_reference else "")
    return table


def _folded(label: str, width: int) -> str:
    """The label on lines of at most `width` characters, broken between its parts where they allow it."""
    lines = [""]
    for part in re.split(r"(?<=[/, (])", label):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


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
