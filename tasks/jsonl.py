"""Fixtures from a file with one JSON object per line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vorn.records import Axes, BadInput, Fixture

_KEYS = {
    "id", "prompt", "messages", "context", "question", "answers", "answer_prefix", "evidence", "cluster", "choices",
    "axes", "metadata",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Fixtures in the order of their lines; empty lines are passed over.

    A line is an object with `id`, `answers` (a list of texts) and one of: `context` and `question`, which are joined as
    they are; `prompt`; `messages`, one user message and possibly an assistant message that begins the answer. Without a
    `question`, context and question are not told apart: `question_start` is 0. Optional: `answer_prefix`, the beginning
    of the answer; `evidence`, texts of the prompt, all places of which are evidence, or [start, end] pairs of
    characters; `cluster`, the same text for fixtures that share a context; `choices`, the classes that a completion may
    name, for grades that look for all of them; `axes`, an object of two names with numbers, the fixture's place down
    and across a heat map; `metadata`, an object of texts and numbers.

    Lines without `axes` may stand among others; those that have them have the same two names in the same order.

    Attributes:
        name: of the task.
        grade: rule of `vorn.grading` for the completions.
        max_new_tokens: completions end there, if not before.
        path: of the file, in UTF-8.
        fixtures: how many a run takes unless its `limit` says otherwise.
        count_tokens: not needed.
    """

    name: str
    grade: str
    max_new_tokens: int
    path: str
    fixtures: int
    count_tokens: Callable[[str, str], int]

    def __iter__(self) -> Iterator[Fixture]:
        path = Path(self.path) if isinstance(self.path, str) else None
        if path is None or not path.is_file():
            raise BadInput(f"task.path={self.path!r} is no file; give a file with one JSON object per line")
        first: dict[str, int] = {}
        placed: tuple[Axes, int] | None = None  # of the first line that has axes
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    fixture = read_fixture(line, where)
                    if fixture.fixture_id in first:
                        raise BadInput(
                            f"{where}: id={fixture.fixture_id!r} is that of line {first[fixture.fixture_id]} too; "
                            "outcomes are paired by it; rename one of them"
                        )
                    first[fixture.fixture_id] = number
                    if fixture.axes:
                        placed = placed or (fixture.axes, number)
                        _check_same_axes(fixture.axes, *placed, where)
                    yield fixture


def read_fixture(line: str, where: str) -> Fixture:
    """The fixture of one line.

    Args:
        line: one JSON object.
        where: file and line, for messages.
    Raises: BadInput, naming `where`, the key and what is legal.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON ({error}); legal is one object per line; repair the line") from error
    if not isinstance(row, dict):
        raise BadInput(f"{where} is {type(row).__name__}; legal is one JSON object per line; repair the line")
    for key in row:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise BadInput(f"{where}: key {key!r} is unknown; {hint}legal: {', '.join(sorted(_KEYS))}; rename it")
    context, question, prefix = _prompt(row, where)
    prompt = context + question
    return Fixture(
        fixture_id=_text(row, "id", where),
        prompt=prompt,
        answer_prefix=prefix,
        question_start=len(context),
        answers=_texts(row, "answers", where),
        evidence=_evidence(row, prompt, where),
        cluster=_text(row, "cluster", where) if "cluster" in row else "",
        axes=_axes(row, where),
        choices=_texts(row, "choices", where) if "choices" in row else (),
        metadata=_metadata(row, where),
    )


def _prompt(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """Context, question and beginning of the answer; all of the prompt is question where they are not told apart."""
    forms = [keys for keys in (("prompt",), ("messages",), ("context", "question")) if any(key in row for key in keys)]
    if len(forms) != 1:
        given = [key for keys in forms for key in keys if key in row]
        raise BadInput(
            f"{where} has {' and '.join(given) or 'no prompt'}; legal is one of: prompt; messages; context and "
            "question; keep one form"
        )
    prefix = _text(row, "answer_prefix", where) if "answer_prefix" in row else ""
    if forms[0] == ("context", "question"):
        return _text(row, "context", where), _text(row, "question", where), prefix
    if forms[0] == ("prompt",):
        return "", _text(row, "prompt", where), prefix
    user, begun = _messages(row["messages"], where)
    if begun and prefix:
        raise BadInput(f"{where}: the answer is begun by answer_prefix and by an assistant message; keep one of them")
    return "", user, begun or prefix


def _messages(messages: object, where: str) -> tuple[str, str]:
    read = [
        (one.get("role"), one.get("content")) if isinstance(one, dict) else (None, None)
        for one in (messages if isinstance(messages, list) else [None])
    ]
    roles = [role for role, _ in read]
    if roles not in (["user"], ["user", "assistant"]) or not all(isinstance(text, str) and text for _, text in read):
        raise BadInput(
            f"{where}: messages have the roles {roles!r}; legal is one user message, and an assistant message after it "
            "that begins the answer, each with a text as content; put other texts into the user's"
        )
    return str(read[0][1]), str(read[1][1]) if len(read) == 2 else ""


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{where}: {key}={value!r}; legal is a text that is not empty; repair the line")
    return value


def _texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise BadInput(f"{where}: {key}={value!r}; legal is a list of at least one text, none empty; repair the line")
    return tuple(value)


def _evidence(row: Mapping[str, Any], prompt: str, where: str) -> tuple[tuple[int, int], ...]:
    spans: list[tuple[int, int]] = []
    given = row.get("evidence", [])
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str) and one and one in prompt:
            spans += occurrences(one, prompt)
        elif _is_span(one, len(prompt)):
            spans.append((one[0], one[1]))
        else:
            raise BadInput(
                f"{where}: evidence={one!r}; legal is a list of texts that stand in the prompt, or of [start, end] "
                f"pairs of characters within its {len(prompt)}; repair the line"
            )
    return tuple(spans)


def _is_span(one: Any, characters: int) -> bool:
    return isinstance(one, list) and [*map(type, one)] == [int, int] and 0 <= one[0] < one[1] <= characters


def occurrences(text: str, within: str) -> list[tuple[int, int]]:
    """(start, end) of every place of `text`, none of which overlap."""
    spans, start = [], within.find(text)
    while start >= 0:
        spans.append((start, start + len(text)))
        start = within.find(text, start + len(text))
    return spans


def _axes(row: Mapping[str, Any], where: str) -> Axes | None:
    """The first name runs down, the second across."""
    if "axes" not in row:
        return None
    value = row["axes"]
    if isinstance(value, dict) and len(value) == 2 and all(type(one) in (int, float) for one in value.values()):
        (down, down_at), (across, across_at) = value.items()
        try:
            return Axes(down=down, down_at=down_at, across=across, across_at=across_at)
        except ValueError as error:
            raise BadInput(f"{where}: {error}; repair the line") from error
    raise BadInput(
        f"{where}: axes={value!r}; legal is an object of two names, each with a number: what runs down the heat map, "
        "then what runs across; repair the line"
    )


def _check_same_axes(axes: Axes, first: Axes, first_line: int, where: str) -> None:
    """A name that is written in another way would stand on heat maps of its own, which nobody sees."""
    if (axes.down, axes.across) != (first.down, first.across):
        raise BadInput(
            f"{where}: axes {axes.down!r} and {axes.across!r}, but line {first_line} has {first.down!r} and "
            f"{first.across!r}; legal are the same two names in the same order in all of a file; rename them, or give "
            "each pair a file of its own"
        )


def _metadata(row: Mapping[str, Any], where: str) -> Mapping[str, str | int | float]:
    value = row.get("metadata", {})
    if not isinstance(value, dict) or not all(type(one) in (str, int, float) for one in value.values()):
        raise BadInput(f"{where}: metadata={value!r}; legal is an object of texts and numbers; repair the line")
    return value
