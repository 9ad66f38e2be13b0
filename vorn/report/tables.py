"""The tables of a report as text: the same in report.md and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vorn.report.grid import GridRow, axis_values, fits_on_a_map, main_axes, value_text
from vorn.report.losses import CEILING, WITHOUT, LossRow
from vorn.report.reports import EvaluationReport
from vorn.report.rows import BudgetRow, CellRow, NoiseRow, PairRow, SelectionRow
from vorn.report.summaries import BUDGETS, TITLES
from vorn.report.words import LOSSES, NATS, loss_sentences, margin_points, nats, percent, points, ratio

CELLS = "Cells"
SUBTASKS = "Mean outcome by sub-task"
GRID = "Mean outcome along the axes"


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()  # sentences that say what is in it


def tables(evaluation: EvaluationReport) -> Iterator[Table]:
    """Those of an evaluation that have rows, the cells first."""
    level = percent(evaluation.plan.level)
    yield _cells(evaluation, level)
    if evaluation.subtasks:
        names = list(dict.fromkeys(row.subtask for row in evaluation.subtasks))
        yield Table(SUBTASKS, ("cell", *names, "total"), tuple(_by_subtask(evaluation, names)))
    if fits_on_a_map(main_axes(evaluation.grid)):
        yield _along_axes(evaluation)
    for name, title in TITLES.items():
        if pairs := evaluation.family(name):
            where = ("sub-task",) if pairs[0].subtask else ()
            rows = tuple((*((pair.subtask,) if where else ()), *_pair(pair)) for pair in pairs)
            yield Table(title, (*where, *_pair_header(level)), rows)
    if evaluation.budgets:
        counts = ("lhs", "rhs", "budgets", "n", "full missed", "excluded", "lhs never", "rhs never")
        yield Table(BUDGETS, (*counts, f"ratio, {level}", "p", "p(Holm)"), tuple(map(_budget, evaluation.budgets)))
    if evaluation.selection:
        columns = ("candidate", "chosen", "n", "mean where it is chosen", "n tested", "mean where it is tested")
        yield Table("Parameters chosen on one half", columns, tuple(map(_candidate, evaluation.selection)))
    if evaluation.losses:
        rows = tuple(map(_loss, evaluation.losses))
        yield Table(LOSSES, _loss_header(level), rows, tuple(loss_sentences(evaluation.losses)))
    if evaluation.noise:
        yield Table("Noise floor", ("cell", "again", "n", "flips", "at most"), tuple(map(_noise, evaluation.noise)))


def _cells(evaluation: EvaluationReport, level: str) -> Table:
    """With mean outcomes where some are fractional, and with likelihoods where they were recorded."""
    is_fractional, graded = any(cell.is_fractional for cell in evaluation.cells), nats(evaluation)
    header = ("cell", "budget", "kept", "evidence kept", "hits", "rate", level)
    more = (*(("mean outcome", level) if is_fractional else ()), "errors", *(NATS if graded else ()))
    rows = (
        (*_cell(cell), *(_mean(cell) if is_fractional else ()), str(cell.n_errors), *graded.get(cell.cell_id, ()))
        for cell in evaluation.cells
    )
    return Table(CELLS, (*header, *more), tuple(rows))


def _cell(cell: CellRow) -> tuple[str, ...]:
    return (
        cell.cell,
        f"{cell.mean_budget_tokens:.0f}",
        _number(cell.mean_kept_tokens, ".1f"),
        _number(cell.mean_evidence_kept, ".1%"),
        f"{cell.hits} of {cell.n}",
        _number(cell.hit_rate, ".1%"),
        _range(cell.ci_low, cell.ci_high),
    )


def _mean(cell: CellRow) -> tuple[str, str]:
    return _number(cell.mean_outcome, ".1%"), _range(cell.mean_low, cell.mean_high)


def _range(low: float | None, high: float | None) -> str:
    """Per cent."""
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _pair_header(level: str) -> tuple[str, ...]:
    counts = ("lhs", "rhs", "n", "excluded", "lhs only", "rhs only")
    return (*counts, "points", level, "p", "p(Holm)", "real", "no worse by", "detectable", "test")


def _pair(pair: PairRow) -> tuple[str, ...]:
    names = (pair.lhs, pair.rhs, str(pair.n), str(pair.n_excluded), str(pair.lhs_only), str(pair.rhs_only))
    if pair.difference is None or pair.difference_low is None or pair.difference_high is None:
        return (*names, "", "", "", "", "not tested", "", "", "")
    detectable = pair.detectable_difference
    return (
        *names,
        points(pair.difference, pair.n, signed=True),
        f"{points(pair.difference_low, pair.n)} to {points(pair.difference_high, pair.n)}",
        _number(pair.p_value, ".2g") + ("*" if pair.is_contradictory else ""),
        _number(pair.p_holm, ".2g"),
        "yes" if pair.is_real else "not shown",
        "" if pair.least_margin is None else margin_points(pair.least_margin),
        "" if detectable is None or pair.is_real else points(detectable, pair.n),
        pair.test.replace("_", " "),
    )


def _budget(row: BudgetRow) -> tuple[str, ...]:
    counts = (row.n, row.n_full_missed, row.n_excluded, row.lhs_never, row.rhs_never)
    tested = (ratio(row), _number(row.p_value, ".2g"), _number(row.p_holm, ".2g"))
    return (row.lhs, row.rhs, row.budgets, *map(str, counts), *tested)


def _candidate(row: SelectionRow) -> tuple[str, ...]:
    means = (_number(row.select_mean, ".1%"), _number(row.test_mean, ".1%"))
    return (row.cell, "yes" if row.chosen else "", str(row.n_select), means[0], str(row.n_test), means[1])


def _by_subtask(evaluation: EvaluationReport, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    means = {(row.cell_id, row.subtask): row.mean_outcome for row in evaluation.subtasks}
    for cell in evaluation.cells:
        columns = [means.get((cell.cell_id, name)) for name in names]
        yield (cell.cell, *(_number(mean, ".1%") for mean in (*columns, cell.mean_outcome)))


def _along_axes(evaluation: EvaluationReport) -> Table:
    """A column per value of either axis: the mean over all fixtures with this value."""
    rows = main_axes(evaluation.grid)
    names, (downs, acrosses) = (rows[0].down, rows[0].across), axis_values(rows)
    header = [
        f"{name} {value_text(at)}" for name, values in zip(names, (downs, acrosses), strict=True) for at in values
    ]
    body = []
    for cell in evaluation.cells:
        own = [row for row in rows if row.cell_id == cell.cell_id]
        parts = [[row for row in own if row.down_at == at] for at in downs]
        parts += [[row for row in own if row.across_at == at] for at in acrosses]
        body.append((cell.cell, *(_number(_pooled(part), ".1%") for part in (*parts, own))))
    return Table(GRID, ("cell", *header, "all"), tuple(body), ("grid.csv has every place, with its interval",))


def _pooled(rows: Sequence[GridRow]) -> float | None:
    n = sum(row.n for row in rows)
    return sum(row.n * (row.mean_outcome or 0.0) for row in rows) / n if n else None


def _loss_header(level: str) -> tuple[str, ...]:
    lost = ("lost", "evicted", f"of the lost, {level}", "kept but missed", f"{CEILING} hits")
    return ("cell", "n", *lost, "hits", "leaked", f"of the hits, {level}", f"{WITHOUT} hits")


def _loss(row: LossRow) -> tuple[str, ...]:
    lost = (str(row.lost), str(row.evicted), _share(row.evicted_share, row.evicted_low, row.evicted_high))
    missed = (str(row.kept_missed), _of(row.lost_in_reach, row.lost_out_of_reach))
    hits = (str(row.hits), str(row.leaked), _share(row.leaked_share, row.leaked_low, row.leaked_high))
    return (row.cell, str(row.n), *lost, *missed, *hits, _of(row.leaked_without, row.leaked_by_choice))


def _share(share: float | None, low: float | None, high: float | None) -> str:
    """`62% (52 to 71)`."""
    return "" if share is None or low is None or high is None else f"{share:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def _of(some: int | None, others: int | None) -> str:
    return "" if some is None or others is None else f"{some} of {some + others}"


def _noise(row: NoiseRow) -> tuple[str, ...]:
    return (row.cell, row.replica, str(row.n), str(row.flips), f"{row.limit:.1%}")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
