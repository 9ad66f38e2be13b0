"""Budget to success: how many tokens a policy needs until it hits a fixture, compared between policies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from vorn.records import Observation
from vorn.report.rows import BudgetRow, CellRow
from vorn.report.verdicts import p_method
from vorn.stats import TestPlan, compared, holm, sign_flips

Key = tuple[str, str, str]
Observations = Mapping[str, Sequence[Observation]]


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

    lhs: list[int]
    rhs: list[int]
    clusters: list[str]
    lhs_never: int
    rhs_never: int
    n_full_missed: int
    n_excluded: int


def budget_rows(cells: Sequence[CellRow], by_cell: Observations, plan: TestPlan) -> list[BudgetRow]:
    """Policies against each other at the same unit, guards and contract, where both ran at two budgets or more.

    A policy's need on a fixture is the smallest budget, in tokens, at which it hits; the prompt's length if it never
    does and the reference hits. Only budgets that both ran at count. Own family for Holm's correction. Nothing where
    the prompt's length is not known, as in results that others have published.
    """
    lines = [line for line in _lines(cells) if len(line.cells) > 1 and _has_lengths(by_cell[line.reference.cell_id])]
    rows = []
    for lhs, rhs in combinations(lines, 2):
        budgets = [budget for budget in lhs.cells if budget in rhs.cells]
        if lhs.setting == rhs.setting and len(budgets) > 1:
            rows.append(_row(lhs, rhs, budgets, by_cell, plan))
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


def _has_lengths(reference: Sequence[Observation]) -> bool:
    return all(seen.prompt_tokens is not None for seen in reference if seen.outcome is not None)


def _row(lhs: _Line, rhs: _Line, budgets: Sequence[str], by_cell: Observations, plan: TestPlan) -> BudgetRow:
    needs = _needs(lhs, rhs, budgets, by_cell)
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
    if not needs.lhs:
        return row
    flips = sign_flips([math.log(a / b) for a, b in zip(needs.lhs, needs.rhs, strict=True)], needs.clusters, plan.seed)
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


def _needs(lhs: _Line, rhs: _Line, budgets: Sequence[str], by_cell: Observations) -> _Needs:
    sides = [[_by_fixture(by_cell[line.cells[budget].cell_id]) for budget in budgets] for line in (lhs, rhs)]
    needs: tuple[list[int], list[int]] = [], []
    clusters: list[str] = []
    never = [0, 0]
    missed = excluded = 0
    for key, full in _by_fixture(by_cell[lhs.reference.cell_id]).items():
        if full.outcome is not None and full.outcome != 1.0:
            missed += 1
            continue
        seen = [[cell[key] for cell in side if key in cell and cell[key].outcome is not None] for side in sides]
        if full.outcome is None or any(len(side) < len(budgets) for side in seen):
            excluded += 1
            continue
        clusters.append(full.cluster)
        for index, side in enumerate(seen):
            hits = [one.budget_tokens for one in side if one.outcome == 1.0]
            needs[index].append(min(hits, default=full.budget_tokens))
            never[index] += not hits
    return _Needs(needs[0], needs[1], clusters, never[0], never[1], missed, excluded)


def _by_fixture(group: Sequence[Observation]) -> dict[Key, Observation]:
    return {(seen.fixture_id, seen.fingerprint, seen.grade): seen for seen in group}
