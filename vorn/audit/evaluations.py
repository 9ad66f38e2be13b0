"""Published rows as evaluations, so that the report and its page can show them like results of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vorn.audit.published import Artifact, Row
from vorn.ledger import LedgerContents, merge
from vorn.records import REFERENCE, Observation, digest
from vorn.segments import Segment

_UNIT = re.compile(r"(token|word|sentence)_(.+)")
_NUMBERED = re.compile(r"(.+)-(\d+)")
_WHOLE = "vanilla"  # what the released harness calls a run without eviction


class _Setting(NamedTuple):
    """What tells runs of one file from each other, apart from their label."""

    model: str
    task: str
    policy: str
    unit: str
    guards: str
    budget: str


def published_contents(artifacts: Iterable[Artifact]) -> LedgerContents:
    """The observations of published rows as a ledger would hold them.

    A file's rows of one model and task are an evaluation, because files may differ in more than they say. The task is
    what a fixture's id begins with, the unit what a method's name begins with, token without one. Runs of a file with
    the same setting are different cells, named by their labels, unless all their completions are the same.
    """
    return merge([Segment(Path(artifact.path), observations=list(_observations(artifact))) for artifact in artifacts])


def _observations(artifact: Artifact) -> Iterator[Observation]:
    runs: dict[_Setting, dict[str, tuple[str, list[Observation]]]] = {}  # by what was completed: label, observations
    for row in artifact.rows:
        groups: dict[_Setting, list[Observation]] = {}
        for seen in row.observations:
            groups.setdefault(_setting(row, seen), []).append(seen)
        for setting, group in groups.items():
            said = digest([[seen.fixture_id, seen.outcome, ascii(seen.completion)] for seen in group])
            runs.setdefault(setting, {}).setdefault(said, (row.label, group))
    for setting, different in runs.items():
        for said, (label, group) in different.items():
            name = (label or said[:6]) if len(different) > 1 else ""
            yield from (_observation(artifact, setting, name, seen) for seen in group)


def _setting(row: Row, seen: Observation) -> _Setting:
    named = _NUMBERED.fullmatch(seen.fixture_id)
    task = named[1] if named else ""
    if row.method == _WHOLE:
        return _Setting(row.model, task, REFERENCE, "", "", "")
    split = _UNIT.fullmatch(row.method)
    unit, policy = (split[1], split[2]) if split else ("token", row.method or "method not named")
    return _Setting(row.model, task, policy, unit, row.guards, row.budget)


def _observation(artifact: Artifact, setting: _Setting, label: str, seen: Observation) -> Observation:
    evaluation = digest([ascii(artifact.path), setting.model, setting.task])
    named = _NUMBERED.fullmatch(seen.fixture_id)
    policy = setting.policy + (f"({label})" if label else "")
    return replace(
        seen,
        cell_id=digest([evaluation, *map(ascii, setting), ascii(label)]),
        cell="/".join(part for part in (policy, setting.unit, setting.budget) if part),
        evaluation_id=evaluation,
        fixture_index=int(named[2]) if named else seen.fixture_index,
        model=setting.model.rsplit("/", 1)[-1] or f"model not named in {Path(artifact.path).name}",
        task=setting.task,
        policy=setting.policy,
        params=label,
        unit=setting.unit,
        guards=setting.guards,
        budget=setting.budget,
    )
