"""The numbers of a report: cells, paired comparisons in their families, and what a reader must know of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from vorn.ledger import LedgerContents
from vorn.records import BadInput, Look, Observation
from vorn.report.rows import ALPHA, FAMILIES, CellRow, ErrorGroup, EvaluationReport, PairRow, Report
from vorn.stats import PairedTable, holm, mcnemar_exact, tango_interval, wilson


def build_report(contents: LedgerContents) -> Report:
    """The report of everything that the ledgers hold.

    Raises: BadInput if they hold no observation.
    """
    if not contents.observations:
        raise BadInput("the ledgers hold 0 observations: a report needs at least 1; run an evaluation first")
    groups: dict[str, list[Observation]] = {}
    for seen in contents.observations:
        groups.setdefault(seen.evaluation_id, []).append(seen)
    return Report(
        evaluations=tuple(_evaluation(name, group, contents) for name, group in groups.items()),
        damaged=contents.damaged,
        disagreements=contents.disagreements,
        duplicates=contents.duplicates,
    )


def _evaluation(evaluation_id: str, observations: Sequence[Observation], contents: LedgerContents) -> EvaluationReport:
    by_cell: dict[str, list[Observation]] = {}
    for seen in observations:
        by_cell.setdefault(seen.cell_id, []).append(seen)
    cells = _distinct_labels(_ordered([_cell(group) for group in by_cell.values()]))
    labels = {cell.cell_id: cell.cell for cell in cells}
    n_fixtures = len({seen.fixture_id for seen in observations if seen.outcome is not None})
    return EvaluationReport(
        evaluation_id=evaluation_id,
        model=observations[0].model,
        task=observations[0].task,
        grades=tuple(dict.fromkeys(seen.grade for seen in observations)),
        n_fixtures=n_fixtures,
        cells=tuple(cells),
        pairs=tuple(_pairs(cells, by_cell)),
        errors=tuple(_errors(observations, labels)),
        looks=_looks([look for look in contents.looks if look.evaluation_id == evaluation_id], n_fixtures),
        manifests=tuple(one for one in contents.manifests if one.evaluation_id == evaluation_id),
    )


def _cell(observations: Sequence[Observation]) -> CellRow:
    first = observations[0]
    done = [seen for seen in observations if seen.outcome is not None]
    counted = done or observations
    outcomes = [seen.outcome for seen in done if seen.outcome is not None]
    hits = sum(outcome == 1.0 for outcome in outcomes)
    interval = wilson(hits, len(done), 1 - ALPHA) if done else None
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
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        ci_method="wilson",
        mean_kept_tokens=_mean([seen.kept_tokens for seen in done if seen.kept_tokens is not None]),
        mean_evidence_kept=_mean([seen.evidence_kept for seen in done if seen.evidence_kept is not None]),
        guards=first.guards,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ordered(cells: list[CellRow]) -> list[CellRow]:
    """Reference first, then everything in the order of first appearance, budgets by size."""
    names = ("policy", "params", "contract", "guards", "unit")
    ranks: dict[tuple[str, str], int] = {}
    for cell in cells:
        for name in names:
            ranks.setdefault((name, getattr(cell, name)), len(ranks))

    def key(cell: CellRow) -> tuple[bool, list[int], float, str]:
        order = [ranks[name, getattr(cell, name)] for name in names]
        return not cell.is_reference, order, cell.mean_budget_tokens, cell.cell_id

    return sorted(cells, key=key)


def _distinct_labels(cells: list[CellRow]) -> list[CellRow]:
    """Cells with the same label (they may differ in guards or contract) get the start of their id behind it."""
    labels = [cell.cell for cell in cells]
    return [
        replace(cell, cell=f"{cell.cell} #{cell.cell_id[:6]}") if labels.count(cell.cell) > 1 else cell
        for cell in cells
    ]


def _pairs(cells: Sequence[CellRow], by_cell: Mapping[str, Sequence[Observation]]) -> Iterator[PairRow]:
    # A fixture whose prompt, answers or grading rule differ between two cells makes no pair: it is excluded there.
    outcomes = {
        cell_id: {(seen.fixture_id, seen.fingerprint, seen.grade): seen.outcome for seen in group}
        for cell_id, group in by_cell.items()
    }
    for family in FAMILIES:
        pairs = [
            _pair(lhs, rhs, family, PairedTable.from_outcomes(outcomes[lhs.cell_id], outcomes[rhs.cell_id]))
            for lhs, rhs in _compared(cells, family)
        ]
        p_values = [pair.p_value for pair in pairs if pair.p_value is not None]
        corrected = iter(holm(p_values))
        for pair in pairs:
            p_holm = next(corrected) if pair.p_value is not None else None
            yield replace(pair, p_holm=p_holm, family_size=len(p_values))


def _compared(cells: Sequence[CellRow], family: str) -> Iterator[tuple[CellRow, CellRow]]:
    pruned = [cell for cell in cells if not cell.is_reference]
    references = [cell for cell in cells if cell.is_reference]
    if family == "vs_full":
        for cell in pruned:
            own = [reference for reference in references if reference.contract == cell.contract] or references
            yield from ((cell, reference) for reference in own[:1])
        return
    for lhs, rhs in combinations(pruned, 2):
        same_setting = (lhs.guards, lhs.budget, lhs.contract) == (rhs.guards, rhs.budget, rhs.contract)
        same_policy = (lhs.policy, lhs.params) == (rhs.policy, rhs.params)
        same_unit = lhs.unit == rhs.unit
        if same_setting and (same_unit, same_policy) == ((True, False) if family == "policies" else (False, True)):
            yield lhs, rhs


def _pair(lhs: CellRow, rhs: CellRow, family: str, table: PairedTable) -> PairRow:
    """The comparison without the family's correction, which needs all of its p-values."""
    interval = tango_interval(table.lhs_only, table.rhs_only, table.n, 1 - ALPHA) if table.n else None
    worst = table.worst_case
    return PairRow(
        lhs=lhs.cell,
        rhs=rhs.cell,
        model=lhs.model,
        task=lhs.task,
        n=table.n,
        n_excluded=table.n_excluded,
        both=table.both,
        lhs_only=table.lhs_only,
        rhs_only=table.rhs_only,
        neither=table.neither,
        difference=table.difference if table.n else None,
        difference_low=interval.low if interval else None,
        difference_high=interval.high if interval else None,
        p_value=mcnemar_exact(table.lhs_only, table.rhs_only) if table.n else None,
        p_holm=None,
        family=family,
        family_size=0,
        lhs_id=lhs.cell_id,
        rhs_id=rhs.cell_id,
        worst_low=worst.low,
        worst_high=worst.high,
    )


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
