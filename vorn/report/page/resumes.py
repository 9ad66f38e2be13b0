"""The part of the page on resumes from snapshots: it begins with the matrix of policies and workloads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vorn.records import Observation
from vorn.report.page.drawing import Drawing, draw
from vorn.report.page.fixtures import LONGEST, MOST, MOST_BYTES, embed
from vorn.report.reports import Report
from vorn.report.resumes.figures import MOST_DRAWN, families_figure, matrix_figure, undrawn
from vorn.report.resumes.notes import resume_notes, resume_provenance
from vorn.report.resumes.summaries import verdicts
from vorn.report.resumes.tables import grid, resume_tables
from vorn.report.resumes.words import beside, full_entry, how_to_read, lead, legend, title
from vorn.report.summaries import FamilySummary
from vorn.report.tables import Table
from vorn.snapshots.matrix import Matrix
from vorn.snapshots.parts import Part, parts, policy_name

_COLUMNS = ("matched tokens", "replay tokens", "seconds", "evictions", "fired")


@dataclass(frozen=True, slots=True)
class Place:
    """A cell of the matrix."""

    text: str  # `0.12 + better`
    beside: tuple[str, ...]  # seconds, and how many times those of the references
    kind: str  # a class of the style sheet


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the matrix with what follows from it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Place, ...]], ...]
    heat: Drawing | None
    forest: Drawing | None
    summaries: tuple[FamilySummary, ...]


@dataclass(frozen=True, slots=True)
class ShownResumes:
    """The resumes that the page shows one by one."""

    data: str  # JSON for a script element
    sentence: str


@dataclass(frozen=True, slots=True)
class ResumeSection:
    """All resumes of a report as the page shows them."""

    title: str
    lead: str
    legend: str
    blocks: tuple[Block, ...]
    undrawn: str
    tables: tuple[Table, ...]
    fixtures: ShownResumes
    notes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    way: str
    key: str = "resumes"

    @property
    def data(self) -> Markup:
        """Of the resumes, for a script element."""
        return Markup(self.fixtures.data)

    @property
    def drawings(self) -> list[Drawing]:
        """Those of its blocks."""
        return [one for block in self.blocks for one in (block.heat, block.forest) if one is not None]


def resume_section(matrix: Matrix, report: Report, observations: Sequence[Observation]) -> ResumeSection:
    """The section; `observations` are those that the report was made of, and others."""
    found = parts(matrix)
    return ResumeSection(
        title=title(matrix),
        lead=lead(matrix),
        legend=f"{legend(matrix)} Below each: seconds, and how many times the mean time of the references that is.",
        blocks=tuple(_block(part, number, len(found)) for number, part in enumerate(found, start=1)),
        undrawn=undrawn(found),
        tables=tuple(resume_tables(matrix, report.resumes)),
        fixtures=shown_resumes([seen for seen in observations if seen.is_resume]),
        notes=tuple(resume_notes(matrix, report.resumes)),
        provenance=tuple(resume_provenance(matrix, report.resumes)),
        way=how_to_read(matrix),
    )


def _block(part: Part, number: int, of: int) -> Block:
    rows = []
    for policy in part.policies:
        cells = [part.row(policy, workload) for workload in part.workloads]
        places = [
            Place(full_entry(row), beside(row, part.matrix), row.verdict.replace(" ", "-") if row else "")
            for row in cells
        ]
        rows.append((policy, tuple(places)))
    suffix = f"-{number}" if of > 1 else ""
    heat = forest = None
    if number <= MOST_DRAWN:
        name = f", {part.title}" if part.title else ""
        heat = draw(f"resumes-matrix{suffix}", f"Policies by workload{name}", _caption(part), matrix_figure([part]))
        told = "Filled circle: better; filled square: harm; hollow: no harm, or nothing shown."
        forest = draw(f"resumes-differences{suffix}", f"Differences{name}", told, families_figure(part))
    return Block(part.title, grid(part).header, tuple(rows), heat, forest, tuple(verdicts(part)))


def _caption(part: Part) -> str:
    """The least ratio of each workload, of the policies that do not know the future."""
    found = []
    for workload in part.workloads:
        rows = [row for row in part.family(workload) if row.ratio and row.policy != part.matrix.judgement.bound]
        if rows:
            best = min(rows, key=lambda row: row.ratio or 0.0)
            found.append(f"{workload} {policy_name(best)} {full_entry(best)}")
    return f"Colour is the ratio on a logarithmic scale. Least: {'; '.join(found)}." if found else ""


def shown_resumes(observations: Sequence[Observation], most_bytes: int = MOST_BYTES) -> ShownResumes:
    """The resumes that go into the page, those first on which the token hit differs most between cells."""
    groups: dict[tuple[str, str], list[Observation]] = {}
    for seen in observations:
        groups.setdefault((seen.evaluation_id, seen.fixture_id), []).append(seen)
    several = len({key[0] for key in groups}) > len({seen.task for seen in observations})
    cells = {seen.cell_id: seen.cell for seen in observations}
    places = {cell_id: place for place, cell_id in enumerate(cells)}
    entries: list[dict[str, Any]] = []
    size = 0
    for (evaluation, fixture), group in sorted(groups.items(), key=lambda one: -_spread(one[1])):
        name = f"{fixture} ({evaluation[:6]})" if several else fixture
        entry = {"id": name, "answers": [], "cells": [_seen(seen, places[seen.cell_id]) for seen in group]}
        size += len(json.dumps(entry))
        if entries and (size > most_bytes or len(entries) == MOST):
            break
        entries.append(entry)
    labels = [{"label": label, "isReference": False} for label in cells.values()]
    chosen = ", those first on which the token hit differs most between cells" if len(entries) < len(groups) else ""
    data = embed({"cells": labels, "fixtures": entries, "columns": _COLUMNS})
    return ShownResumes(data, f"{len(entries)} of {len(groups)} resumes{chosen}.")


def _spread(group: Sequence[Observation]) -> float:
    outcomes = [seen.outcome for seen in group if seen.outcome is not None]
    return max(outcomes) - min(outcomes) if outcomes else 0.0


def _seen(seen: Observation, place: int) -> dict[str, Any]:
    found = seen.resume
    values = (
        []
        if found is None
        else [
            found.matched_tokens,
            found.replay_tokens,
            round(found.ttft_s, 4),
            found.evictions,
            found.protection_fired,
        ]
    )
    return {
        "cell": place,
        "outcome": seen.outcome,
        "completion": seen.completion[:LONGEST],
        "more": max(0, len(seen.completion) - LONGEST),
        "graded": "",
        "kept": None,
        "evidence": None,
        "error": seen.error,
        "values": values,
    }
