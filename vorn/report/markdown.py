"""report.md: everything a report has to say, in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vorn.report.losses import CEILING, WITHOUT, LossRow
from vorn.report.notes import ledger_state, provenance, qualifications
from vorn.report.rows import BudgetRow, CellRow, EvaluationReport, NoiseRow, PairRow, Report, SelectionRow
from vorn.report.summaries import BUDGETS, NOT_TESTED, TITLES, FamilySummary, budget_summary, summaries
from vorn.report.words import (
    CONTRADICTION,
    LOSSES,
    NATS,
    heading,
    how_to_read,
    loss_sentences,
    margin_points,
    nats,
    percent,
    points,
    ratio,
)
from vorn.stats import FAMILIES


def render(report: Report) -> str:
    """The text of report.md."""
    ways = list(dict.fromkeys(how_to_read(evaluation.plan) for evaluation in report.evaluations))
    lines = ["# Report", "", *([_text(ways[0]), ""] if len(ways) == 1 else [])]
    for evaluation in report.evaluations:
        own = [_text(how_to_read(evaluation.plan)), ""] if len(ways) > 1 else []
        lines += [f"## {heading(evaluation, report)}", "", *own, *_evaluation(evaluation)]
    if state := ledger_state(report):
        lines += ["## The ledgers", "", *_bullets(state)]
    return "\n".join(lines)


def _evaluation(evaluation: EvaluationReport) -> list[str]:
    lines = [f"{evaluation.n_fixtures} fixtures, {len(evaluation.cells)} cells, {', '.join(evaluation.grades)}.", ""]
    lines += ["### Which differences are real", ""]
    budgets = budget_summary(evaluation)
    for summary in [*summaries(evaluation), *([budgets] if budgets else [])]:
        lines += _summary(summary)
    if any(pair.is_contradictory for pair in evaluation.pairs):
        lines += [_text(CONTRADICTION), ""]
    if limits := qualifications(evaluation):
        lines += ["### What qualifies this", "", *_bullets(limits)]
    lines += _tables(evaluation)
    lines += ["### How it was measured", "", f"- evaluation: {evaluation.evaluation_id}"]
    return lines + _bullets([f"{name}: {value}" for name, value in provenance(evaluation)])


def _tables(evaluation: EvaluationReport) -> list[str]:
    level = percent(evaluation.plan.level)
    lines = ["### Cells", "", "![hit rate against budget](outcomes.png)", ""]
    graded = nats(evaluation)
    titles = ["cell", "budget", "kept", "evidence kept", "hits", "rate", level, "errors"]
    lines += _table(
        [*titles, *(NATS if graded else ())],
        ([*_cell(cell), *graded.get(cell.cell_id, ())] for cell in evaluation.cells),
    )
    if evaluation.subtasks:
        names = list(dict.fromkeys(row.subtask for row in evaluation.subtasks))
        lines += ["### Mean outcome by sub-task", ""]
        lines += _table(("cell", *names, "total"), _by_subtask(evaluation, names))
    for name in FAMILIES:
        if pairs := evaluation.family(name):
            lines += [f"### {TITLES[name]}", "", *_table(_pair_header(level), map(_pair, pairs))]
    if evaluation.budgets:
        counts = ("lhs", "rhs", "budgets", "n", "full missed", "excluded", "lhs never", "rhs never")
        header = (*counts, f"ratio, {level}", "p", "p(Holm)")
        lines += [f"### {BUDGETS}", "", *_table(header, map(_budget, evaluation.budgets))]
    if evaluation.selection:
        columns = ("candidate", "chosen", "n", "mean where it is chosen", "n tested", "mean where it is tested")
        lines += ["### Parameters chosen on one half", "", *_table(columns, map(_candidate, evaluation.selection))]
    if evaluation.losses:
        lines += [f"### {LOSSES}", "", *_bullets(loss_sentences(evaluation.losses))]
        lines += _table(_loss_header(level), map(_loss, evaluation.losses))
    if evaluation.noise:
        lines += ["### Noise floor", ""]
        lines += _table(("cell", "again", "n", "flips", "at most"), map(_noise, evaluation.noise))
    return lines


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
        lines += [f"{NOT_TESTED}: {_text('; '.join(summary.not_tested))}", ""]
    return lines + (_bullets(summary.claims) if summary.claims else [])


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


def _by_subtask(evaluation: EvaluationReport, names: Sequence[str]) -> Iterator[list[str]]:
    means = {(row.cell_id, row.subtask): row.mean_outcome for row in evaluation.subtasks}
    for cell in evaluation.cells:
        columns = [means.get((cell.cell_id, name)) for name in names]
        yield [cell.cell, *(_number(mean, ".1%") for mean in (*columns, cell.mean_outcome))]


def _loss_header(level: str) -> tuple[str, ...]:
    lost = ("lost", "evicted", f"of the lost, {level}", "kept but missed", f"{CEILING} hits")
    return ("cell", "n", *lost, "hits", "leaked", f"of the hits, {level}", f"{WITHOUT} hits")


def _loss(row: LossRow) -> list[str]:
    lost = [str(row.lost), str(row.evicted), _share(row.evicted_share, row.evicted_low, row.evicted_high)]
    lost += [str(row.kept_missed), _of(row.lost_in_reach, row.lost_out_of_reach)]
    hits = [str(row.hits), str(row.leaked), _share(row.leaked_share, row.leaked_low, row.leaked_high)]
    return [row.cell, str(row.n), *lost, *hits, _of(row.leaked_without, row.leaked_by_choice)]


def _share(share: float | None, low: float | None, high: float | None) -> str:
    """`62% (52 to 71)`."""
    return "" if share is None or low is None or high is None else f"{share:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def _of(some: int | None, others: int | None) -> str:
    return "" if some is None or others is None else f"{some} of {some + others}"


def _pair_header(level: str) -> tuple[str, ...]:
    counts = ("lhs", "rhs", "n", "excluded", "lhs only", "rhs only")
    return (*counts, "points", level, "p", "p(Holm)", "real", "no worse by", "detectable", "test")


def _pair(pair: PairRow) -> list[str]:
    names = [pair.lhs, pair.rhs, str(pair.n), str(pair.n_excluded), str(pair.lhs_only), str(pair.rhs_only)]
    if pair.difference is None or pair.difference_low is None or pair.difference_high is None:
        return [*names, "", "", "", "", "not tested", "", "", ""]
    detectable = pair.detectable_difference
    return [
        *names,
        points(pair.difference, pair.n, signed=True),
        f"{points(pair.difference_low, pair.n)} to {points(pair.difference_high, pair.n)}",
        _number(pair.p_value, ".2g") + ("*" if pair.is_contradictory else ""),
        _number(pair.p_holm, ".2g"),
        "yes" if pair.is_real else "not shown",
        "" if pair.least_margin is None else margin_points(pair.least_margin),
        "" if detectable is None or pair.is_real else points(detectable, pair.n),
        pair.test.replace("_", " "),
    ]


def _budget(row: BudgetRow) -> list[str]:
    counts = (row.n, row.n_full_missed, row.n_excluded, row.lhs_never, row.rhs_never)
    tested = [ratio(row), _number(row.p_value, ".2g"), _number(row.p_holm, ".2g")]
    return [row.lhs, row.rhs, row.budgets, *map(str, counts), *tested]


def _candidate(row: SelectionRow) -> list[str]:
    means = (_number(row.select_mean, ".1%"), _number(row.test_mean, ".1%"))
    return [row.cell, "yes" if row.chosen else "", str(row.n_select), means[0], str(row.n_test), means[1]]


def _noise(row: NoiseRow) -> list[str]:
    return [row.cell, row.replica, str(row.n), str(row.flips), f"{row.limit:.1%}"]


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
