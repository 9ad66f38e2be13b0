"""Grading what ledgers hold once more, by another rule. Ledgers are read and never written. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vorn.grading import check_rule, grade
from vorn.ledger import LedgerContents
from vorn.records import BadInput, Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An outcome that the other rule changes."""

    evaluation_id: str
    cell: str
    fixture_id: str
    rule_before: str
    before: float
    now: float
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regraded:
    """Contents as if they had been graded by `rule` from the start."""

    rule: str
    contents: LedgerContents
    changes: tuple[Change, ...]  # in the order of the observations
    graded: int  # observations with an outcome; errors have none, and stay as they are


def regrade(contents: LedgerContents, rule: str) -> Regraded:
    """Grade every completion by `rule`, against the answers and choices that were recorded with it.

    Identities stay, so that the results of two rules can be laid side by side. Disagreements between segments stay as
    they were found.

    Raises: BadInput for an unknown rule, and for answers that the rule cannot use, naming the fixture.
    """
    check_rule(rule)
    pairs = [(seen, _graded(seen, rule)) for seen in contents.observations]
    changes = tuple(
        Change(
            evaluation_id=seen.evaluation_id,
            cell=seen.cell,
            fixture_id=seen.fixture_id,
            rule_before=seen.grade,
            before=seen.outcome,
            now=now.outcome,
            completion=seen.completion,
        )
        for seen, now in pairs
        if seen.outcome is not None and now.outcome is not None and seen.outcome != now.outcome
    )
    return Regraded(
        rule=rule,
        contents=replace(contents, observations=tuple(now for _, now in pairs)),
        changes=changes,
        graded=sum(seen.outcome is not None and not seen.is_resume for seen, _ in pairs),
    )


def _graded(seen: Observation, rule: str) -> Observation:
    if seen.is_resume:  # its outcome is a token hit; there is nothing to be graded
        return seen
    if seen.outcome is None:
        return replace(seen, grade=rule)
    try:
        graded = grade(rule, seen.completion, seen.answers, seen.choices)
    except BadInput as error:
        raise BadInput(f"fixture {seen.fixture_id!r} of task {seen.task!r} cannot be graded again: {error}") from error
    return replace(seen, grade=rule, outcome=graded.outcome, answer_graded=graded.answer_graded)
