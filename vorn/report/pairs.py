"""The comparisons of an evaluation, family by family, with their corrections and what could have been found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from vorn.report.columns import Column, on_subtask
from vorn.report.outcomes import Outcomes
from vorn.report.rows import CellRow, NoiseRow, PairRow
from vorn.report.verdicts import Graded, Verdict, graded, verdicts
from vorn.stats import (
    TestPlan,
    compared,
    detectable_difference,
    holm,
    rate_sequence,
    smallest_discordant,
    smallest_discordant_anytime,
    wilson,
)

BY_SUBTASK = "subtasks"  # the family of policies against each other within each sub-task
POWER = 0.8  # of the statements on what could have been found
_CORRECTED = {  # each p with its column after Holm's correction
    "p_value": "p_holm",
    "p_noninferior": "p_noninferior_holm",
    "p_equivalent": "p_equivalent_holm",
    "nll_p": "nll_p_holm",
}


class _Family(NamedTuple):
    """A family of comparisons, before it is known which of them can be tested."""

    name: str
    size: int


def compare(
    cells: Sequence[CellRow], columns: Mapping[str, Column], plan: TestPlan, noise: Sequence[NoiseRow]
) -> Iterator[PairRow]:
    """The comparisons of the plan's families, corrected within each.

    Args:
        cells: those that are compared; replicas (A/A) are left out.
        columns: outcomes by cell_id.
        plan: what is tested, and how.
        noise: the A/A cells; the highest limit counts.
    """
    tested = [cell for cell in cells if not cell.replica_of]
    limit = max((row.limit for row in noise), default=None)
    for family in plan.families:
        members = list(compared(tested, family))
        yield from _corrected(list(_pairs(members, columns, _Family(family, len(members)), plan, limit)), plan)


def compare_by_subtask(
    cells: Sequence[CellRow], columns: Mapping[str, Column], names: Sequence[str], plan: TestPlan
) -> Iterator[PairRow]:
    """What the family of policies compares, on each sub-task's fixtures alone: one family, corrected over all of them.

    Nothing where the plan does not test policies, or where a run may stop early: it stops when the comparisons on all
    fixtures are settled, whatever its sub-tasks have by then. The noise floor is that of all fixtures, and marks none.

    Args:
        cells: those that are compared; replicas (A/A) are left out.
        columns: outcomes by cell_id.
        names: of the sub-tasks; one without a fixture here gets comparisons that are not tested.
        plan: what is tested, and how.
    """
    if "policies" not in plan.families or plan.is_sequential:
        return
    members = list(compared([cell for cell in cells if not cell.replica_of], "policies"))
    family = _Family(BY_SUBTASK, len(members) * len(names))
    pairs = [
        replace(pair, subtask=name)
        for name in names
        for pair in _pairs(members, on_subtask(columns, name), family, plan, None)
    ]
    yield from _corrected(pairs, plan)


def _pairs(
    members: Sequence[tuple[CellRow, CellRow]],
    columns: Mapping[str, Column],
    family: _Family,
    plan: TestPlan,
    limit: float | None,
) -> Iterator[PairRow]:
    """These comparisons, each tested; without what needs the whole family."""
    outcomes = [Outcomes.of(columns[lhs.cell_id], columns[rhs.cell_id], plan) for lhs, rhs in members]
    said = zip(
        members, outcomes, verdicts(outcomes, plan, family.size), graded(outcomes, plan, family.size), strict=True
    )
    for cells, pair, test, nll in said:
        yield _pair(*cells, family.name, pair, test, nll, plan, limit)


def noise_rows(cells: Sequence[CellRow], columns: Mapping[str, Column], plan: TestPlan) -> Iterator[NoiseRow]:
    """Every A/A cell against the cell that it repeats: on how many fixtures the outcome differs."""
    originals = {cell.cell_id: cell for cell in cells}
    for cell in cells:
        if not cell.replica_of or cell.replica_of not in originals:
            continue
        original = originals[cell.replica_of]
        outcomes = Outcomes.of(columns[original.cell_id], columns[cell.cell_id], plan)
        lhs, rhs = outcomes.paired
        n, flips = outcomes.n, int((lhs != rhs).sum())
        if n:
            interval = rate_sequence(flips, n, plan.alpha) if plan.is_sequential else wilson(flips, n, plan.level)
            yield NoiseRow(
                cell=original.cell,
                replica=cell.cell,
                model=cell.model,
                task=cell.task,
                n=n,
                flips=flips,
                limit=interval.high,
            )


def _pair(
    lhs: CellRow,
    rhs: CellRow,
    family: str,
    outcomes: Outcomes,
    said: Verdict,
    likelihoods: Graded,
    plan: TestPlan,
    noise_limit: float | None,
) -> PairRow:
    """The comparison without what needs the whole family."""
    row = PairRow(
        lhs=lhs.cell,
        rhs=rhs.cell,
        model=lhs.model,
        task=lhs.task,
        p_holm=None,
        family=family,
        family_size=0,
        lhs_id=lhs.cell_id,
        rhs_id=rhs.cell_id,
        alpha=plan.alpha,
        least_discordant=None,
        detectable_difference=None,
        margin=plan.margin,
        p_noninferior_holm=None,
        p_equivalent_holm=None,
        above_noise=None,
        nll_p_holm=None,
        subtask="",
        **_counted(outcomes),
        **asdict(said),
        **asdict(likelihoods),
    )
    if family != "vs_full":  # which of two policies comes first says nothing, so that only equivalence is a claim
        row = replace(row, p_noninferior=None, least_margin=None)
    if noise_limit is None or row.difference is None:
        return row
    return replace(row, above_noise=abs(row.difference) > noise_limit)


def _counted(outcomes: Outcomes) -> dict[str, Any]:
    """The fields of a row that say what was measured, without a test."""
    table, worst = outcomes.table, outcomes.worst_case
    lhs_mean, rhs_mean = outcomes.means
    return {
        "n": table.n,
        "n_excluded": table.n_excluded,
        "both": table.both,
        "lhs_only": table.lhs_only,
        "rhs_only": table.rhs_only,
        "neither": table.neither,
        "worst_low": worst.low if worst else None,
        "worst_high": worst.high if worst else None,
        "lhs_mean": lhs_mean,
        "rhs_mean": rhs_mean,
        "looks": outcomes.looks,
    }


def _corrected(pairs: Sequence[PairRow], plan: TestPlan) -> Iterator[PairRow]:
    """One family with Holm's corrections, each over the comparisons that have such a p, and with its power."""
    columns = {name: _holm([getattr(pair, name) for pair in pairs]) for name in _CORRECTED}
    size = sum(pair.p_value is not None for pair in pairs)
    for index, pair in enumerate(pairs):
        corrected: dict[str, Any] = {_CORRECTED[name]: column[index] for name, column in columns.items()}
        yield replace(pair, family_size=size, **corrected, **_power(pair, size, plan))


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def _power(pair: PairRow, family_size: int, plan: TestPlan) -> dict[str, Any]:
    """What this family could have found on so many fixtures; sign-flip tests have no such number."""
    if pair.test == "e_value":
        return {"least_discordant": smallest_discordant_anytime(plan.alpha, family_size)}
    if pair.test != "mcnemar":
        return {}
    return {
        "least_discordant": smallest_discordant(plan.alpha, family_size),
        "detectable_difference": detectable_difference(pair.n, plan.discordance, plan.alpha / family_size, POWER),
    }
