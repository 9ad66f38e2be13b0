"""The fixtures that the page shows one by one: completions and grades of every cell, and what each cell kept."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vorn.records import Observation
from vorn.report.rows import CellRow
from vorn.views import View

MOST = 50  # fixtures
MOST_BYTES, MOST_BYTES_TOGETHER = 1_500_000, 6_000_000  # of an evaluation's data and a page's, so that it still opens
LONGEST = 1_000  # characters of a completion


@dataclass(frozen=True, slots=True)
class Shown:
    """What of an evaluation's fixtures is in the page."""

    data: str  # JSON for a script element: no `<` in it
    fixtures: int
    of: int
    with_prompt: int  # those that a view shows with what was kept
    views: int  # that there are
    cut: int  # completions that were shortened

    @property
    def sentence(self) -> str:
        """Which fixtures can be looked at, and which not."""
        text = f"{self.fixtures} of {self.of} fixtures"
        if self.fixtures < self.of:
            text += ", those first that show their prompt and on which cells disagree"
        text += f"; {self.with_prompt} with the positions that each cell kept"
        if self.with_prompt < self.views:
            text += f" ({self.views - self.with_prompt} more were recorded and left out for the size of the page)"
        if self.cut:
            text += f"; {self.cut} completions are cut after {LONGEST} characters"
        return f"{text}."


def fixture_bytes(evaluations: int) -> int:
    """Bytes of data that each of so many evaluations on a page may have."""
    return min(MOST_BYTES, MOST_BYTES_TOGETHER // evaluations)


def shown_fixtures(
    cells: Sequence[CellRow], observations: Sequence[Observation], views: Sequence[View], most_bytes: int
) -> Shown:
    """The fixtures of one evaluation that go into the page, those first that have a view and split the cells.

    One at least is there, whatever `most_bytes` says.
    """
    places = {cell.cell_id: index for index, cell in enumerate(cells)}
    groups: dict[tuple[str, str], list[Observation]] = {}
    for seen in observations:
        groups.setdefault((seen.fixture_id, seen.fingerprint), []).append(seen)
    by_fixture = {(view.fixture_id, view.fingerprint): view for view in views}
    order = sorted(groups, key=lambda key: (key not in by_fixture, -_split(groups[key]), groups[key][0].fixture_index))
    size = cut = with_prompt = 0
    entries: list[dict[str, Any]] = []
    for key in order[:MOST]:
        entry = _entry(groups[key], places)
        size += len(json.dumps(entry))
        if size > most_bytes and entries:
            break
        cut += sum(len(seen.completion) > LONGEST for seen in groups[key])
        if key in by_fixture:
            view = _view(by_fixture[key], places)
            size += (more := len(json.dumps(view)))
            if size <= most_bytes:
                entry["view"], with_prompt = view, with_prompt + 1
            else:
                size -= more
        entries.append(entry)
    labels = [{"label": cell.cell, "isReference": cell.is_reference} for cell in cells]
    text = embed({"cells": labels, "fixtures": entries})
    return Shown(text, len(entries), len(groups), with_prompt, len(groups.keys() & by_fixture.keys()), cut)


def embed(value: object) -> str:
    """JSON that may stand in a script element: every `<` is escaped, so that no text ends the element."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _split(group: Sequence[Observation]) -> int:
    """Cells whose outcome is not the commonest one: how far the cells disagree."""
    outcomes = [seen.outcome for seen in group if seen.outcome is not None]
    return len(outcomes) - max((outcomes.count(one) for one in set(outcomes)), default=0)


def _entry(group: Sequence[Observation], places: Mapping[str, int]) -> dict[str, Any]:
    first = group[0]
    return {
        "id": first.fixture_id,
        "answers": list(first.answers),
        "cells": [
            {
                "cell": places[seen.cell_id],
                "outcome": seen.outcome,
                "completion": seen.completion[:LONGEST],
                "more": max(0, len(seen.completion) - LONGEST),
                "graded": seen.answer_graded[:LONGEST],
                "kept": seen.kept_tokens,
                "evidence": seen.evidence_kept,
                "error": seen.error,
            }
            for seen in sorted(group, key=lambda one: places[one.cell_id])
        ],
    }


def _view(view: View, places: Mapping[str, int]) -> dict[str, Any]:
    """The prompt as text, its tokens as lengths, and per cell a byte for each, deflated."""
    return {
        "prompt": view.prompt,
        "lengths": [_units(view.prompt[start:end]) for start, end in pairwise((0, *view.token_ends))],
        "evidence": list(view.evidence),
        "question": view.question_start_token,
        "kept": {
            str(places[cell_id]): base64.b64encode(zlib.compress(bytes(shares), 9)).decode()
            for cell_id, shares in view.kept.items()
            if cell_id in places
        },
    }


def _units(text: str) -> int:
    """Length as JavaScript counts: characters outside of the basic plane are two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
