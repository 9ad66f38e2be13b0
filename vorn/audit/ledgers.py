"""Our own ledgers, audited: what is on disk, whether each outcome follows from its completion, and what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vorn.grading import grade
from vorn.ledger import SEGMENT_GLOB, LedgerContents, read_ledger
from vorn.records import REFERENCE, BadInput, Observation

_BUDGET = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(%?)")
SLACK_TOKENS = 1e-6  # of means over layers and KV heads


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be."""

    kind: str  # "outcome", "budget", "fixture", ...
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAudit:
    """What a ledger holds and what is wrong with it."""

    path: str
    contents: LedgerContents
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what a reader should know, though nothing is wrong
    n_regraded: int  # outcomes that were graded again
    problems: tuple[str, ...]  # what could not be audited


def evaluation_folders(path: Path) -> list[Path]:
    """The folder itself if it holds segments, else the folders in it that do."""
    return [one for one in (path, *sorted(path.iterdir())) if one.is_dir() and any(one.glob(SEGMENT_GLOB))]


def audit_ledger(path: Path) -> LedgerAudit:
    """The audit of the evaluations in a folder.

    Raises: BadInput for a segment with a line that is JSON but no record; OSError if one cannot be read.
    """
    try:
        contents = read_ledger(*evaluation_folders(path))
    except RecursionError as error:
        raise BadInput(f"a line of {path} is nested too deeply to be read; restore the segment") from error
    findings = [*_on_disk(contents), *_fixtures(contents.observations), *_cells(contents.observations)]
    problems: dict[str, None] = {}
    n_regraded = 0
    for seen in contents.observations:
        if seen.resume is not None:  # of the second domain: nothing is kept of a prompt, and nothing graded
            continue
        findings += _sanity(seen)
        if seen.outcome is None:
            continue
        try:
            findings += _regraded(seen)
            n_regraded += 1
        except BadInput as error:
            problems[f"{seen.cell}: {error}"] = None
    return LedgerAudit(
        path=str(path),
        contents=contents,
        findings=tuple(findings),
        notes=tuple(_notes(contents)),
        n_regraded=n_regraded,
        problems=tuple(problems),
    )


def _on_disk(contents: LedgerContents) -> Iterator[Finding]:
    for line in contents.damaged:
        if not line.is_tail:
            yield Finding("damaged line", f"{line.path}, line {line.line} is not JSON, and no writer ends there")
    for one in contents.disagreements:
        yield Finding(
            f"disagreement on {one.field}",
            f"fixture {one.fixture_id} in {one.cell}: {one.kept!r} first, then {one.dropped!r}",
        )


def _notes(contents: LedgerContents) -> Iterator[str]:
    torn = sum(line.is_tail for line in contents.damaged)
    failed = sum(seen.outcome is None for seen in contents.observations)
    if torn:
        yield f"{torn} torn last lines: a writer was killed, and a rerun measures what was lost"
    if contents.duplicates:
        yield f"{contents.duplicates} observations were measured again; the first of a cell and fixture counts"
    if resumes := sum(seen.resume is not None for seen in contents.observations):
        yield f"{resumes} observations are warm resumes, which have no completion to grade again"
    if failed:
        yield f"{failed} observations are errors and have no outcome"
    fixtures = {(seen.evaluation_id, seen.fixture_id) for seen in contents.observations}
    cells = {seen.cell_id: seen.evaluation_id for seen in contents.observations}
    expected = sum(1 for evaluation, _ in fixtures for owner in cells.values() if owner == evaluation)
    if expected != len(contents.observations):
        yield f"{expected - len(contents.observations)} of {expected} pairs of a cell and a fixture are not measured"


def _fixtures(observations: Sequence[Observation]) -> Iterator[Finding]:
    """What all cells must agree on for a fixture, and that no two fixtures share a place in the order."""
    first: dict[tuple[str, str], Observation] = {}
    places: dict[tuple[str, int], str] = {}
    for seen in observations:
        other = first.setdefault((seen.evaluation_id, seen.fixture_id), seen)
        for name in ("answers", "cluster", "fixture_index", "prompt_tokens", "evidence_tokens"):
            if getattr(seen, name) != getattr(other, name) and seen.fingerprint == other.fingerprint:
                yield Finding(
                    "fixture",
                    f"fixture {seen.fixture_id}: {name}={getattr(seen, name)!r} in {seen.cell}, "
                    f"{getattr(other, name)!r} in {other.cell}",
                )
        holder = places.setdefault((seen.evaluation_id, seen.fixture_index), seen.fixture_id)
        if holder != seen.fixture_id:
            yield Finding("fixture", f"fixtures {holder} and {seen.fixture_id} both have index {seen.fixture_index}")


def _cells(observations: Sequence[Observation]) -> Iterator[Finding]:
    """That an id means one cell, and that a replica repeats a cell that is there."""
    names = ("evaluation_id", "cell", "model", "task", "contract", "policy", "params", "unit", "guards", "budget")
    first: dict[str, Observation] = {}
    for seen in observations:
        other = first.setdefault(seen.cell_id, seen)
        for name in (*names, "grade", "replica_of"):
            if getattr(seen, name) != getattr(other, name):
                yield Finding("cell", f"{seen.cell}: {name} is {getattr(other, name)!r} and {getattr(seen, name)!r}")
    for one in first.values():
        if one.replica_of and one.replica_of not in first:
            yield Finding("cell", f"{one.cell} repeats cell {one.replica_of}, which the ledger lacks")


def _regraded(seen: Observation) -> Iterator[Finding]:
    graded = grade(seen.grade, seen.completion, seen.answers, seen.choices)
    where = f"fixture {seen.fixture_id} in {seen.cell}"
    if graded.outcome != seen.outcome:
        yield Finding("outcome", f"{where}: recorded {seen.outcome}, {seen.grade} gives {graded.outcome}")
    if graded.answer_graded != seen.answer_graded:
        yield Finding("graded text", f"{where}: recorded {seen.answer_graded!r}, {seen.grade} reads otherwise")


def _counts_context(seen: Observation) -> bool:
    """Whether the contract's budget is one of the context, without the question."""
    return seen.contract.split("(")[0] in ("context_once", "summarize")


def _on_top(seen: Observation) -> int:
    """Entries that are kept beside the budget: of the question, where it is read after the eviction."""
    return seen.contract_work.read_tokens if _counts_context(seen) and seen.contract_work else 0


def _sanity(seen: Observation) -> Iterator[Finding]:
    """What no measurement can be: more kept than allowed or there, shares outside 0 to 1, negative amounts."""
    where = f"fixture {seen.fixture_id} in {seen.cell}"
    kept, prompt = seen.kept_tokens, seen.prompt_tokens
    if seen.outcome is not None and kept is not None:
        if seen.policy != REFERENCE and kept > seen.budget_tokens + _on_top(seen) + SLACK_TOKENS:
            yield Finding("budget", f"{where}: {kept:g} tokens kept, the budget is {seen.budget_tokens}")
        if prompt is not None and kept > prompt + SLACK_TOKENS:
            yield Finding("budget", f"{where}: {kept:g} tokens kept of a prompt of {prompt}")
        if seen.policy == REFERENCE and prompt is not None and kept < prompt - SLACK_TOKENS:
            yield Finding("budget", f"{where}: {kept:g} of {prompt} tokens kept, where nothing is evicted")
    # Of the context, whose length no record holds, a percentage cannot be checked.
    is_checked = not (_counts_context(seen) and seen.budget.endswith("%"))
    if prompt is not None and is_checked and seen.budget_tokens != _resolved(seen.budget, prompt):
        yield Finding("budget", f"{where}: budget {seen.budget or 'none'} of {prompt} tokens is {seen.budget_tokens}")
    if seen.evidence_kept is not None and not 0 <= seen.evidence_kept <= 1:
        yield Finding("evidence", f"{where}: evidence_kept={seen.evidence_kept!r}")
    if prompt is not None and seen.evidence_tokens is not None and not 0 <= seen.evidence_tokens <= prompt:
        yield Finding("evidence", f"{where}: evidence_tokens={seen.evidence_tokens} of a prompt of {prompt}")
    for name in ("kept_tokens", "panel_prefill_s", "prune_s", "panel_decode_s", "batch_rows", "kv_bytes", "peak_bytes"):
        value = getattr(seen, name)
        if value is not None and not value >= 0:
            yield Finding("measurement", f"{where}: {name}={value!r}")


def _resolved(budget: str, prompt_tokens: int) -> Fraction | int | None:
    """Tokens that a budget comes to, None if it is none.

    "" is the whole prompt; a percentage is floored and keeps at least one token.
    """
    if not budget:
        return prompt_tokens
    if not (match := _BUDGET.fullmatch(budget)):
        return None
    return max(1, int(Fraction(match[1]) * prompt_tokens / 100)) if match[2] else Fraction(match[1])
