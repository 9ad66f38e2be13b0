"""Budget to success: how many tokens a policy needs until it hits a fixture, compared between policies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vorn.report.columns import Column
from vorn.report.rows import BudgetRow, CellRow
from vorn.report.verdicts import p_method
from vorn.stats import Sample, SignFlips, TestPlan, compared, holm, patterns_for, sign_flips_of_all

Columns = Mapping[str, Column]
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Line:
    """A policy with its parameters, unit, guards and contract: its cells by budget, and the reference of these."""

    cells: Mapping[str, CellRow]
    reference: CellRow

    @property
    def first(self) -> CellRow:
        return next(iter(self.cells.values()))

    @property
    def setting(self) -> tuple[str, str, str]:
        return self.first.unit, self.first.guards, self.first.contract

    @property
    def label(self) -> str:
        policy = self.first.policy + (f"({self.first.params})" if self.first.params else "")
        return f"{policy}/{self.first.unit}"


class _Needs(NamedTuple):
    """Tokens that two policies needed, on the fixtures that count, and what was left out."""

    lhs: NDArray[np.int64]
    rhs: NDArray[np.int64]
    clusters: list[str]
    lhs_never: int
    rhs_never: int
    n_full_missed: int
    n_excluded: int


def budget_rows(cells: Sequence[CellRow], columns: Columns, plan: TestPlan) -> list[BudgetRow]:
    """Policies against each other at the same unit, guards and contract, where both ran at two budgets or more.

    A policy's need on a fixture is the smallest budget, in tokens, at which it hits; the prompt's length if it never
    does and the reference hits. Only budgets that both ran at count. Own family for Holm's correction. Nothing where
    the prompt's length is not known, as in results that others have published.
    """
    lines = [line for line in _lines(cells) if len(line.cells) > 1 and _has_lengths(columns[line.reference.cell_id])]
    common = [
        (lhs, rhs, [budget for budget in lhs.cells if budget in rhs.cells])
        for lhs, rhs in combinations(lines, 2)
        if lhs.setting == rhs.setting
    ]
    pairs = [(lhs, rhs, budgets) for lhs, rhs, budgets in common if len(budgets) > 1]
    needs = [_needs(lhs, rhs, budgets, columns) for lhs, rhs, budgets in pairs]
    flips = sign_flips_of_all([_log_ratios(one) for one in needs], plan.seed, patterns_for(len(needs), plan.alpha))
    rows = [_row(*pair, need, test, plan) for pair, need, test in zip(pairs, needs, flips, strict=True)]
    p_values = [row.p_value for row in rows if row.p_value is not None]
    corrected = iter(holm(p_values))
    return [
        replace(row, family_size=len(p_values), p_holm=None if row.p_value is None else next(corrected)) for row in rows
    ]


def _lines(cells: Sequence[CellRow]) -> Iterator[_Line]:
    groups: dict[tuple[str, ...], dict[str, CellRow]] = {}
    references: dict[tuple[str, ...], CellRow] = {}
    key: tuple[str, ...]
    for cell, reference in compared([cell for cell in cells if not cell.replica_of], "vs_full"):
        key = cell.policy, cell.params, cell.unit, cell.guards, cell.contract
        groups.setdefault(key, {})[cell.budget] = cell
        references[key] = reference
    for key, group in groups.items():
        yield _Line(group, references[key])


def _has_lengths(reference: Column) -> bool:
    """Whether the reference's budget, which is the prompt's length, is known."""
    return bool((reference.budget_tokens[reference.is_done] > 0).all())


def _log_ratios(needs: _Needs) -> Sample | None:
    ratios = [math.log(lhs / rhs) for lhs, rhs in zip(needs.lhs.tolist(), needs.rhs.tolist(), strict=True)]
    return Sample(ratios, needs.clusters) if ratios else None


def _row(
    lhs: _Line, rhs: _Line, budgets: Sequence[str], needs: _Needs, flips: SignFlips | None, plan: TestPlan
) -> BudgetRow:
    row = BudgetRow(
        lhs=lhs.label,
        rhs=rhs.label,
        model=lhs.first.model,
        task=lhs.first.task,
        contract=lhs.first.contract,
        guards=lhs.first.guards,
        budgets=",".join(budgets),
        n=len(needs.lhs),
        n_full_missed=needs.n_full_missed,
        n_excluded=needs.n_excluded,
        lhs_never=needs.lhs_never,
        rhs_never=needs.rhs_never,
        ratio=None,
        ratio_low=None,
        ratio_high=None,
        p_value=None,
        p_holm=None,
        family_size=0,
        test="",
        p_method="",
        alpha=plan.alpha,
    )
    if flips is None:
        return row
    interval = flips.interval(plan.level)
    return replace(
        row,
        ratio=math.exp(flips.mean),
        ratio_low=math.exp(interval.low),
        ratio_high=math.exp(interval.high),
        p_value=flips.p_value,
        test="cluster_sign_flip" if flips.n_clusters < flips.n else "sign_flip",
        p_method=p_method(flips),
    )


def _needs(lhs: _Line, rhs: _Line, budgets: Sequence[str], columns: Columns) -> _Needs:
    sides = [[columns[line.cells[budget].cell_id] for budget in budgets] for line in (lhs, rhs)]
    full = columns[lhs.reference.cell_id]
    is_hit = full.outcome == 1.0
    missed = full.is_done & ~is_hit
    counts = is_hit & np.all([cell.is_done for side in sides for cell in side], axis=0)
    left, right = (_need(side, full)[counts] for side in sides)
    return _Needs(
        lhs=np.abs(left),
        rhs=np.abs(right),
        clusters=[full.clusters[row] for row in np.flatnonzero(counts).tolist()],
        lhs_never=int((left < 0).sum()),
        rhs_never=int((right < 0).sum()),
        n_full_missed=int(missed.sum()),
        n_excluded=int((full.is_attempted & ~missed & ~counts).sum()),
    )


def _need(side: Sequence[Column], full: Column) -> NDArray[np.int64]:
    """Smallest budget that hits, by fixture; minus the prompt's length where none does."""
    tokens = np.array([np.where(cell.outcome == 1.0, cell.budget_tokens, _NEVER) for cell in side]).min(axis=0)
    return np.where(tokens == _NEVER, -full.budget_tokens, tokens)
