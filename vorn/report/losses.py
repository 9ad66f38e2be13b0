"""Where cells lose what the reference hits: evidence evicted, or kept and yet missed; and hits without evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vorn.records import Observation
from vorn.report.columns import Key, fixture_key
from vorn.stats import Interval, TestPlan, compared, rate_sequence, wilson

if TYPE_CHECKING:
    from vorn.report.rows import CellRow

# Share of the evidence's entries (tokens x layers x KV heads) below which the evidence counts as evicted.
EVIDENCE_KEPT = 0.5
# The oracle policies by their names, which are labels as the reference's is: with and without the evidence.
CEILING, WITHOUT = "evidence_keep", "evidence_drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRow:
    """A row of losses.csv: the fixtures with evidence that the reference hits, by what became of them in a cell.

    n = hits + lost, lost = evicted + kept_missed, and `leaked` are among the hits. The counts with the oracle cells are
    None where the panel has no such cell; fixtures on which that cell has no outcome are in none of its counts.
    """

    cell_id: str
    cell: str
    model: str
    task: str
    threshold: float  # EVIDENCE_KEPT
    n: int  # fixtures with evidence and an outcome in both cells that the reference hits
    hits: int
    lost: int  # the cell misses them
    evicted: int  # lost, less than the threshold of the evidence was kept
    kept_missed: int  # lost, though it was kept
    evicted_share: float | None  # of the lost ones; None where nothing is lost
    evicted_low: float | None
    evicted_high: float | None
    leaked: int  # hits without the evidence: it was evicted, and the answer is right
    leaked_share: float | None  # of the hits; None without a hit
    leaked_low: float | None
    leaked_high: float | None
    ci_method: str  # "wilson", or "confidence_sequence" where a run may stop early
    kept_where_lost: float | None  # mean share of the evidence kept, on the lost fixtures
    kept_where_hit: float | None
    ceiling: str  # label of the evidence_keep cell with the same unit, guards, budget and contract; "" if none
    lost_in_reach: int | None  # lost, and hit by that cell: the budget would have sufficed
    lost_out_of_reach: int | None  # lost, and missed by that cell too
    without: str  # label of the evidence_drop cell of the same contract; "" if none
    leaked_without: int | None  # leaked, and hit by that cell too: guessed, or carried by later tokens
    leaked_by_choice: int | None  # leaked, and missed by that cell: what the cell kept made the difference


def loss_rows(
    cells: Sequence[CellRow], by_cell: Mapping[str, Sequence[Observation]], plan: TestPlan
) -> Iterator[LossRow]:
    """One row per pruned cell that shares a fixture with evidence with its reference; A/A cells are left out.

    Args:
        cells: of one evaluation; of several oracle cells that fit, the first counts.
        by_cell: observations by cell_id.
        plan: level and kind of the intervals.
    """
    tested = [cell for cell in cells if not cell.replica_of]
    outcomes = {cell.cell_id: _done(by_cell[cell.cell_id]) for cell in tested}
    for cell, reference in compared(tested, "vs_full"):
        full = outcomes[reference.cell_id]
        seen = {
            key: one
            for key, one in outcomes[cell.cell_id].items()
            if one.evidence_kept is not None and key in full and full[key].outcome == 1.0
        }
        if seen:
            ceiling = _oracle(tested, CEILING, unit=cell.unit, guards=cell.guards, budget=cell.budget, of=cell)
            without = _oracle(tested, WITHOUT, of=cell)
            yield _row(cell, seen, plan, ceiling, without, outcomes)


def _done(observations: Sequence[Observation]) -> dict[Key, Observation]:
    return {fixture_key(one): one for one in observations if one.outcome is not None}


def _oracle(cells: Sequence[CellRow], policy: str, *, of: CellRow, **setting: str) -> CellRow | None:
    """The first cell of an oracle policy with this setting, under the contract of the cell `of`; never that one."""
    for cell in cells:
        fits = cell.policy == policy and cell.contract == of.contract and cell.cell_id != of.cell_id
        if fits and all(getattr(cell, name) == value for name, value in setting.items()):
            return cell
    return None


def _row(
    cell: CellRow,
    seen: Mapping[Key, Observation],
    plan: TestPlan,
    ceiling: CellRow | None,
    without: CellRow | None,
    outcomes: Mapping[str, Mapping[Key, Observation]],
) -> LossRow:
    lost = {key: one for key, one in seen.items() if one.outcome != 1.0}
    hits = {key: one for key, one in seen.items() if one.outcome == 1.0}
    evicted, leaked = ([key for key, one in group.items() if _is_evicted(one)] for group in (lost, hits))
    shares = [_share(len(evicted), len(lost), plan), _share(len(leaked), len(hits), plan)]
    (in_reach, out_of_reach), (anyway, by_choice) = (
        _judged(keys, oracle, outcomes) for keys, oracle in ((list(lost), ceiling), (leaked, without))
    )
    return LossRow(
        cell_id=cell.cell_id,
        cell=cell.cell,
        model=cell.model,
        task=cell.task,
        threshold=EVIDENCE_KEPT,
        n=len(seen),
        hits=len(hits),
        lost=len(lost),
        evicted=len(evicted),
        kept_missed=len(lost) - len(evicted),
        evicted_share=len(evicted) / len(lost) if lost else None,
        evicted_low=shares[0].low if shares[0] else None,
        evicted_high=shares[0].high if shares[0] else None,
        leaked=len(leaked),
        leaked_share=len(leaked) / len(hits) if hits else None,
        leaked_low=shares[1].low if shares[1] else None,
        leaked_high=shares[1].high if shares[1] else None,
        ci_method="confidence_sequence" if plan.is_sequential else "wilson",
        kept_where_lost=_mean_kept(lost),
        kept_where_hit=_mean_kept(hits),
        ceiling=ceiling.cell if ceiling else "",
        lost_in_reach=in_reach,
        lost_out_of_reach=out_of_reach,
        without=without.cell if without else "",
        leaked_without=anyway,
        leaked_by_choice=by_choice,
    )


def _is_evicted(seen: Observation) -> bool:
    return seen.evidence_kept is not None and seen.evidence_kept < EVIDENCE_KEPT


def _share(count: int, n: int, plan: TestPlan) -> Interval | None:
    if not n:
        return None
    return rate_sequence(count, n, plan.alpha) if plan.is_sequential else wilson(count, n, plan.level)


def _mean_kept(group: Mapping[Key, Observation]) -> float | None:
    kept = [one.evidence_kept for one in group.values() if one.evidence_kept is not None]
    return sum(kept) / len(kept) if kept else None


def _judged(
    keys: Sequence[Key], oracle: CellRow | None, outcomes: Mapping[str, Mapping[Key, Observation]]
) -> tuple[int | None, int | None]:
    """Of these fixtures, those that an oracle cell hits and those that it misses; None where there is no such cell."""
    if oracle is None:
        return None, None
    said = [outcomes[oracle.cell_id][key].outcome == 1.0 for key in keys if key in outcomes[oracle.cell_id]]
    return sum(said), len(said) - sum(said)
