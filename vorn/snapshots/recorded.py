"""The matrix of ledgers alone: judged as the runs that measured it have recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vorn.ledger import LedgerContents
from vorn.records import BadInput, Manifest, Observation
from vorn.snapshots.matrix import Judgement, Matrix, build_matrix
from vorn.snapshots.placement import placement_label


def recorded_matrix(
    contents: LedgerContents,
    *,
    alpha: float | Mapping[str, float],
    verdict: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Matrix | None:
    """The matrix; None if the ledgers hold no resume.

    Args:
        contents: of the ledgers, which may hold the other domain's observations too.
        alpha: family-wise error rate, one for all or by evaluation id.
        verdict: `baseline`, `bound`, `margin` and `seed` in place of what the latest run recorded.
        changes: fields of the verdict to replace, whichever it is.
    Raises: BadInput if no run recorded a verdict and none is given.
    """
    resumes = {seen.evaluation_id for seen in contents.observations if seen.is_resume}
    if not resumes:
        return None
    by_time = sorted(contents.manifests, key=lambda one: one.created)
    configs = [one.config for one in by_time if one.evaluation_id in resumes and "verdict" in one.config]
    if not configs and verdict is None:
        raise BadInput("the ledgers hold resumes, but no run recorded a verdict; report on ledgers of warm_resume runs")
    given = {**(configs[-1]["verdict"] if verdict is None else verdict), **(changes or {})}
    how = Judgement(
        baseline=given["baseline"],
        bound=given.get("bound") or "",
        margin=given["margin"],
        alpha=alpha,
        seed=given["seed"],
    )
    kept = [name for name in given if name not in (changes or {})]
    differing = [name for name in kept if len({one["verdict"].get(name) for one in configs}) > 1]
    remarks = (
        [f"the runs recorded different verdicts ({', '.join(differing)}): the latest is used"] if differing else []
    )
    observations = _labelled(contents.observations, contents.manifests)
    return replace(build_matrix(observations, how), remarks=tuple(remarks if verdict is None else ()))


def recorded_rates(contents: LedgerContents) -> dict[str, float]:
    """Alpha of each evaluation of resumes, as its latest run recorded it. Raises: BadInput if none of its runs did."""
    rates = {one.evaluation_id: one.config["stats"]["alpha"] for one in contents.manifests if "stats" in one.config}
    found = dict.fromkeys(seen.evaluation_id for seen in contents.observations if seen.is_resume)
    for name in found:
        if name not in rates:
            raise BadInput(f"stats.alpha of evaluation {name} was recorded by no run; legal is to give --alpha")
    return {name: rates[name] for name in found}


def _labelled(observations: Sequence[Observation], manifests: Sequence[Manifest]) -> Sequence[Observation]:
    """The observations, their placement in the words of what their runs recorded: older ones left settings out."""
    placements = {one.evaluation_id: one.config["placement"] for one in manifests if "placement" in one.config}
    labels = {name: placement_label(settings) for name, settings in placements.items()}
    return [
        replace(seen, contract=f"{labels[seen.evaluation_id]}, {seen.contract.rpartition(', ')[2]}")
        if seen.contract and seen.evaluation_id in labels
        else seen
        for seen in observations
    ]
