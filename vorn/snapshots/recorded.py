"""The matrix of ledgers alone: judged as the runs that measured it have recorded."""

from __future__ import annotations

from dataclasses import replace

from vorn.ledger import LedgerContents
from vorn.records import BadInput
from vorn.snapshots.matrix import GRADE, Judgement, Matrix, build_matrix


def recorded_matrix(contents: LedgerContents, *, alpha: float | None = None) -> Matrix | None:
    """The matrix; None if the ledgers hold no resume.

    Args:
        contents: of the ledgers, which may hold the other domain's observations too.
        alpha: in place of the recorded family-wise error rate.
    Raises: BadInput if no run recorded a verdict.
    """
    resumes = {seen.evaluation_id for seen in contents.observations if seen.grade == GRADE}
    if not resumes:
        return None
    configs = [one.config for one in contents.manifests if one.evaluation_id in resumes and "verdict" in one.config]
    if not configs:
        raise BadInput("the ledgers hold resumes, but no run recorded a verdict; report on ledgers of warm_resume runs")
    verdict, recorded_alpha = configs[-1]["verdict"], configs[-1]["stats"]["alpha"]
    how = Judgement(
        baseline=verdict["baseline"],
        bound=verdict.get("bound") or "",
        margin=verdict["margin"],
        alpha=recorded_alpha if alpha is None else alpha,
        seed=verdict["seed"],
    )
    differing = [name for name in verdict if len({one["verdict"].get(name) for one in configs}) > 1]
    remarks = (
        [f"the runs recorded different verdicts ({', '.join(differing)}): the latest is used"] if differing else []
    )
    return replace(build_matrix(contents.observations, how), remarks=tuple(remarks))
