"""report.md: everything a report has to say, in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vorn.report.rows import FAMILIES, CellRow, EvaluationReport, PairRow, Report
from vorn.report.words import (
    CONTRADICTION,
    HOW_TO_READ,
    TITLES,
    FamilySummary,
    heading,
    ledger_state,
    points,
    provenance,
    qualifications,
    summaries,
)


def render(report: Report) -> str:
    """The text of report.md."""
    lines = ["# Report", "", HOW_TO_READ, ""]
    for evaluation in report.evaluations:
        lines += [f"## {heading(evaluation, report)}", "", *_evaluation(evaluation)]
    if state := ledger_state(report):
        lines += ["## The ledgers", "", *_bullets(state)]
    return "\n".join(lines)


def _evaluation(evaluation: EvaluationReport) -> list[str]:
    lines = [f"{evaluation.n_fixtures} fixtures, {len(evaluation.cells)} cells, {', '.join(evaluation.grades)}.", ""]
    lines += ["### Which differences are real", ""]
    for summary in summaries(evaluation):
        lines += _summary(summary)
    if any(pair.is_contradictory for pair in evaluation.pairs):
        lines += [_text(CONTRADICTION), ""]
    if limits := qualifications(evaluation):
        lines += ["### What qualifies this", "", *_bullets(limits)]
    lines += ["### Cells", "", "![hit rate against budget](outcomes.png)", ""]
    lines += _table(
        ("cell", "budget", "kept", "evidence kept", "hits", "rate", "95 %", "errors"), map(_cell, evaluation.cells)
    )
    for name in FAMILIES:
        if pairs := evaluation.family(name):
            header = ("lhs", "rhs", "n", "excluded", "lhs only", "rhs only", "points", "95 %", "p", "p(Holm)", "real")
            lines += [f"### {TITLES[name]}", "", *_table(header, map(_pair, pairs))]
    lines += ["### How it was measured", "", f"- evaluation: {evaluation.evaluation_id}"]
    return lines + _bullets([f"{name}: {value}" for name, value in provenance(evaluation)])


def _summary(summary: FamilySummary) -> list[str]:
    lines = [f"**{summary.title}**: {summary.headline}.", ""]
    for label, items, inline in (
        (summary.real_label, summary.real, summary.is_compact),
        (summary.not_shown_label, summary.not_shown, True),
    ):
        if inline and items:
            lines += [f"{_text(label)}: {_text('; '.join(items))}", ""]
        elif items:
            lines += [f"{_text(label)}:", "", *_bullets(items)]
    if summary.not_tested:
        lines += [f"not tested, no fixture with an outcome in both: {_text('; '.join(summary.not_tested))}", ""]
    return lines


def _cell(cell: CellRow) -> list[str]:
    return [
        cell.cell,
        f"{cell.mean_budget_tokens:.0f}",
        _number(cell.mean_kept_tokens, ".1f"),
        _number(cell.mean_evidence_kept, ".1%"),
        f"{cell.hits} of {cell.n}",
        _number(cell.hit_rate, ".1%"),
        "" if cell.ci_low is None or cell.ci_high is None else f"{100 * cell.ci_low:.1f} to {100 * cell.ci_high:.1f}",
        str(cell.n_errors),
    ]


def _pair(pair: PairRow) -> list[str]:
    names = [pair.lhs, pair.rhs, str(pair.n), str(pair.n_excluded), str(pair.lhs_only), str(pair.rhs_only)]
    if pair.difference is None or pair.difference_low is None or pair.difference_high is None:
        return [*names, "", "", "", "", "not tested"]
    return [
        *names,
        points(pair.difference, pair.n, signed=True),
        f"{points(pair.difference_low, pair.n)} to {points(pair.difference_high, pair.n)}",
        _number(pair.p_value, ".2g") + ("*" if pair.is_contradictory else ""),
        _number(pair.p_holm, ".2g"),
        "yes" if pair.is_real else "not shown",
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and the empty line after it."""
    body = [f"| {' | '.join(map(_text, row))} |" for row in rows]
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *body, ""]


def _bullets(items: Iterable[str]) -> list[str]:
    return [*(f"- {_text(item)}" for item in items), ""]


def _text(value: str) -> str:
    """The value on one line, with the characters that Markdown would take for its own escaped."""
    line = " ".join(value.split())
    for mark in "\\`*_|<":
        line = line.replace(mark, "\\" + mark)
    return line
