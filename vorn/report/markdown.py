"""report.md: everything a report has to say, in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vorn.report.notes import ledger_state, provenance, qualifications
from vorn.report.reports import EvaluationReport, Report
from vorn.report.resumes.notes import resume_notes, resume_provenance
from vorn.report.resumes.summaries import verdicts
from vorn.report.resumes.tables import cell_table, grid, resume_tables
from vorn.report.resumes.words import how_to_read as how_to_read_resumes
from vorn.report.resumes.words import lead, legend, notes, title
from vorn.report.summaries import NOT_TESTED, FamilySummary, budget_summary, summaries
from vorn.report.tables import CELLS, Table, tables
from vorn.report.words import CONTRADICTION, heading, how_to_read
from vorn.snapshots.matrix import Matrix
from vorn.snapshots.parts import parts


def render(report: Report) -> str:
    """The text of report.md."""
    ways = list(dict.fromkeys(how_to_read(evaluation.plan) for evaluation in report.panels))
    lines = ["# Report", "", *([_text(ways[0]), ""] if len(ways) == 1 else [])]
    if report.matrix:
        lines += _resumes(report.matrix, report.resumes)
    for evaluation in report.panels:
        own = [_text(how_to_read(evaluation.plan)), ""] if len(ways) > 1 else []
        lines += [f"## {_text(heading(evaluation, report))}", "", *own, *_evaluation(evaluation)]
    if state := ledger_state(report):
        lines += ["## The ledgers", "", *_bullets(state)]
    return "\n".join(lines)


def render_matrix(matrix: Matrix) -> str:
    """The text of matrix.md."""
    lines = ["# Snapshot policies by workload", "", _text(legend(matrix)), "", *_matrix(matrix, "##")]
    return "\n".join([*lines, "## Cells", "", *_titled(cell_table(matrix)), *_bullets(notes(matrix))])


def _matrix(matrix: Matrix, level: str) -> list[str]:
    lines = []
    for part in parts(matrix):
        table = grid(part)
        lines += [*([f"{level} {_text(part.title)}", ""] if part.title else []), *_table(table.header, table.rows)]
    return [*lines, "![matrix](matrix.png)", ""]


def _resumes(matrix: Matrix, evaluations: Sequence[EvaluationReport]) -> list[str]:
    lines = [
        f"## {_text(title(matrix))}",
        "",
        f"{_text(lead(matrix))}.",
        "",
        *_matrix(matrix, "###"),
        _text(legend(matrix)),
    ]
    lines += ["", "### Which differences are real", ""]
    for part in parts(matrix):
        for summary in verdicts(part):
            lines += _summary(summary)
    for table in resume_tables(matrix, evaluations):
        lines += [f"### {_text(table.title)}", "", *_titled(table)]
    if limits := resume_notes(matrix, evaluations):
        lines += ["### What qualifies this", "", *_bullets(limits)]
    lines += ["### How it was measured", ""]
    lines += _bullets([f"{name}: {value}" for name, value in resume_provenance(matrix, evaluations)])
    return [*lines, "### How to read this", "", _text(how_to_read_resumes(matrix)), ""]


def _titled(table: Table) -> list[str]:
    return [*(_bullets(table.notes) if table.notes else []), *_table(table.header, table.rows)]


def _evaluation(evaluation: EvaluationReport) -> list[str]:
    grades = _text(", ".join(evaluation.grades))
    lines = [f"{evaluation.n_fixtures} fixtures, {len(evaluation.cells)} cells, {grades}.", ""]
    lines += ["### Which differences are real", ""]
    budgets = budget_summary(evaluation)
    for summary in [*summaries(evaluation), *([budgets] if budgets else [])]:
        lines += _summary(summary)
    if any(pair.is_contradictory for pair in evaluation.pairs):
        lines += [_text(CONTRADICTION), ""]
    if limits := qualifications(evaluation):
        lines += ["### What qualifies this", "", *_bullets(limits)]
    lines += _tables(evaluation)
    lines += ["### How it was measured", "", f"- evaluation: {_text(evaluation.evaluation_id)}"]
    return lines + _bullets([f"{name}: {value}" for name, value in provenance(evaluation)])


def _tables(evaluation: EvaluationReport) -> list[str]:
    lines = ["### Cells", "", "![outcome against budget](outcomes.png)", ""]
    for table in tables(evaluation):
        title = [f"### {_text(table.title)}", ""] if table.title != CELLS else []
        lines += [*title, *(_bullets(table.notes) if table.notes else []), *_table(table.header, table.rows)]
    return lines


def _summary(summary: FamilySummary) -> list[str]:
    lines = [f"**{_text(summary.title)}**: {_text(summary.headline)}.", ""]
    for label, items, inline in (
        (summary.real_label, summary.real, summary.is_compact),
        (summary.not_shown_label, summary.not_shown, True),
    ):
        if inline and items:
            lines += [f"{_text(label)}: {_text('; '.join(items))}", ""]
        elif items:
            lines += [f"{_text(label)}:", "", *_bullets(items)]
    if summary.not_tested:
        lines += [f"{NOT_TESTED}: {_text('; '.join(summary.not_tested))}", ""]
    return lines + (_bullets(summary.claims) if summary.claims else [])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and the empty line after it."""
    first, *body = [f"| {' | '.join(map(_text, row))} |" for row in (header, *rows)]
    return [first, f"|{'---|' * len(header)}", *body, ""]


def _bullets(items: Iterable[str]) -> list[str]:
    return [*(f"- {_text(item)}" for item in items), ""]


def _text(value: str) -> str:
    """The value on one line, with the characters that Markdown would take for its own escaped."""
    line = " ".join(value.split())
    for mark in "\\`*_|<":
        line = line.replace(mark, "\\" + mark)
    return line
