"""The numbers of a report: cells, paired comparisons in their families, and what a reader must know of the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vorn.ledger import LedgerContents
from vorn.records import BadInput, Look, Manifest, Observation
from vorn.report.budgets import budget_rows
from vorn.report.columns import make_columns
from vorn.report.effort import effort
from vorn.report.grid import grid_rows
from vorn.report.losses import loss_rows
from vorn.report.pairs import compare, compare_by_subtask, noise_rows
from vorn.report.plans import Resolved, resolve_plan
from vorn.report.reports import EvaluationReport, Report
from vorn.report.rows import CellRow, ErrorGroup
from vorn.report.savings import saved_compute
from vorn.report.selection import Selected, select
from vorn.report.subtasks import subtask_names, subtask_rows
from vorn.snapshots.recorded import recorded_matrix
from vorn.stats import Interval, TestPlan, rate_sequence, wilson


def build_report(
    contents: LedgerContents,
    plan: TestPlan | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> Report:
    """The report of everything that the ledgers hold.

    Args:
        contents: of the ledgers.
        plan: what is tested, and how; None takes each evaluation's from the manifests of its runs.
        changes: fields of the plan to replace, whichever it is.
        verdict: how resumes are judged, as `conf/verdict`; None takes what their latest run recorded.
    Raises: BadInput if there is no observation, a plan is not legal, or no run recorded how resumes are judged.
    """
    if not contents.observations:
        raise BadInput("the ledgers hold 0 observations: a report needs at least 1; run an evaluation first")
    groups: dict[str, list[Observation]] = {}
    for seen in contents.observations:
        groups.setdefault(seen.evaluation_id, []).append(seen)
    evaluations = []
    for name, group in groups.items():
        manifests = [one for one in contents.manifests if one.evaluation_id == name]
        looks = [look for look in contents.looks if look.evaluation_id == name]
        resolved = resolve_plan(manifests, plan, changes)
        evaluations.append(_evaluation(group, looks, manifests, resolved))
    rates = {one.evaluation_id: one.plan.alpha for one in evaluations if one.is_resume}
    return Report(
        evaluations=tuple(evaluations),
        damaged=contents.damaged,
        disagreements=contents.disagreements,
        duplicates=contents.duplicates,
        matrix=recorded_matrix(contents, alpha=rates, verdict=verdict) if rates else None,
    )


def _evaluation(
    observations: Sequence[Observation], looks: Sequence[Look], manifests: Sequence[Manifest], resolved: Resolved
) -> EvaluationReport:
    plan = resolved.plan
    is_resume = any(seen.is_resume for seen in observations)
    by_cell: dict[str, list[Observation]] = {}
    for seen in observations:
        by_cell.setdefault(seen.cell_id, []).append(seen)
    cells = _distinct_labels(_ordered([_cell(group, plan) for group in by_cell.values()]))
    n_fixtures = len({seen.fixture_id for seen in observations if seen.outcome is not None})
    columns = make_columns(by_cell)
    noise = tuple(noise_rows(cells, columns, plan))
    tested = select(cells, by_cell) if plan.split else Selected((), cells, by_cell)
    if plan.split:
        columns = make_columns(tested.by_cell)
    by_subtask = compare_by_subtask(tested.cells, columns, subtask_names(by_cell), plan)
    pairs = (*compare(tested.cells, columns, plan, noise), *by_subtask)
    return EvaluationReport(
        evaluation_id=observations[0].evaluation_id,
        model=observations[0].model,
        task=observations[0].task,
        grades=tuple(dict.fromkeys(seen.grade for seen in observations)),
        n_fixtures=n_fixtures,
        cells=tuple(cells),
        pairs=pairs,
        errors=tuple(_errors(observations, {cell.cell_id: cell.cell for cell in cells})),
        looks=_looks(looks, n_fixtures),
        manifests=tuple(manifests),
        plan=plan,
        plan_notes=resolved.notes,
        noise=noise,
        # Where a run may stop early, its sign-flip test would not be valid.
        budgets=() if plan.is_sequential or is_resume else tuple(budget_rows(tested.cells, columns, plan)),
        selection=tested.rows,
        subtasks=tuple(subtask_rows(cells, by_cell, lambda group: _cell(group, plan))),
        grid=tuple(grid_rows(cells, by_cell, lambda group: _cell(group, plan))),
        losses=tuple(loss_rows(cells, by_cell, plan)),
        saved=saved_compute(cells, by_cell, pairs, manifests, plan) if plan.is_sequential else None,
        effort=effort(observations, manifests),
        is_resume=is_resume,
    )


def _cell(observations: Sequence[Observation], plan: TestPlan) -> CellRow:
    first = observations[0]
    done = [seen for seen in observations if seen.outcome is not None]
    counted = done or observations
    work = [seen.contract_work for seen in done if seen.contract_work is not None]
    outcomes = [seen.outcome for seen in done if seen.outcome is not None]
    hits = sum(outcome == 1.0 for outcome in outcomes)
    rate, mean = (_interval(total, len(done), plan) for total in (hits, math.fsum(outcomes)))
    return CellRow(
        cell_id=first.cell_id,
        cell=first.cell,
        model=first.model,
        task=first.task,
        contract=first.contract,
        policy=first.policy,
        params=first.params,
        unit=first.unit,
        budget=first.budget,
        mean_budget_tokens=sum(seen.budget_tokens for seen in counted) / len(counted),
        n=len(done),
        n_errors=len(observations) - len(done),
        hits=hits,
        hit_rate=hits / len(done) if done else None,
        mean_outcome=_mean(outcomes),
        ci_low=rate.low if rate else None,
        ci_high=rate.high if rate else None,
        ci_method="confidence_sequence" if plan.is_sequential else "wilson",
        mean_kept_tokens=_mean([seen.kept_tokens for seen in done if seen.kept_tokens is not None]),
        mean_evidence_kept=_mean([seen.evidence_kept for seen in done if seen.evidence_kept is not None]),
        guards=first.guards,
        replica_of=first.replica_of,
        mean_low=mean.low if mean else None,
        mean_high=mean.high if mean else None,
        mean_answer_nll=_mean([seen.answer_nll for seen in done if seen.answer_nll is not None]),
        mean_work_s=_mean([one.seconds for one in work]),
        mean_work_forwards=_mean([one.forwards for one in work]),
        mean_work_read_tokens=_mean([one.read_tokens for one in work]),
        mean_work_written_tokens=_mean([one.written_tokens for one in work]),
        mean_work_evictions=_mean([one.evictions for one in work]),
    )


def _interval(total: float, n: int, plan: TestPlan) -> Interval | None:
    if not n:
        return None
    return rate_sequence(total, n, plan.alpha) if plan.is_sequential else wilson(total, n, plan.level)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ordered(cells: list[CellRow]) -> list[CellRow]:
    """Reference first, then everything in the order of first appearance, budgets by size, replicas after all others."""
    names = ("policy", "params", "contract", "guards", "unit")
    ranks: dict[tuple[str, str], int] = {}
    for cell in cells:
        for name in names:
            ranks.setdefault((name, getattr(cell, name)), len(ranks))

    def key(cell: CellRow) -> tuple[bool, bool, list[int], float, str]:
        order = [ranks[name, getattr(cell, name)] for name in names]
        return not cell.is_reference, bool(cell.replica_of), order, cell.mean_budget_tokens, cell.cell_id

    return sorted(cells, key=key)


def _distinct_labels(cells: list[CellRow]) -> list[CellRow]:
    """Cells with the same label (they may differ in guards or contract) get the start of their id behind it."""
    labels = [cell.cell for cell in cells]
    return [
        replace(cell, cell=f"{cell.cell} #{cell.cell_id[:6]}") if labels.count(cell.cell) > 1 else cell
        for cell in cells
    ]


def _errors(observations: Sequence[Observation], labels: Mapping[str, str]) -> Iterator[ErrorGroup]:
    groups: dict[str, list[Observation]] = {}
    for seen in observations:
        if seen.error is not None:
            groups.setdefault(seen.error, []).append(seen)
    for message, failed in groups.items():
        cells = tuple(dict.fromkeys(labels[seen.cell_id] for seen in failed))
        yield ErrorGroup(message, len(failed), cells, failed[0].fixture_id)


def _looks(looks: Sequence[Look], n_fixtures: int) -> tuple[int, ...]:
    """Fixtures at each recorded look, then at this report unless its look is recorded already."""
    sizes = [look.fixtures for look in looks]
    return tuple(sizes if sizes and sizes[-1] == n_fixtures else [*sizes, n_fixtures])
