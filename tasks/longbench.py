"""LongBench's 21 subsets (arXiv:2308.14508), from a folder or from the Hub."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.hub import load_rows
from vorn.grading import grade
from vorn.records import BadInput, Fixture


@dataclass(frozen=True, kw_only=True)
class LongBench:
    """Prompts of one subset, in its order, with LongBench's template.

    A context that is too long loses its middle, so that as much as fits remains of both ends. Departure: LongBench
    cuts the middle out of the whole prompt, by tokens; here instruction and question always remain. The data name no
    evidence. The classes of trec and lsht, `all_classes` of a row, are the fixture's choices.

    Attributes:
        name: begins the fixtures' ids.
        grade: LongBench's rule for the subset.
        max_new_tokens: LongBench's for the subset.
        subset: its name, `hotpotqa`.
        source: a folder with `{subset}.jsonl`, or a data set with the subset as config: its name on the Hub, or a
            folder with its card, README.md.
        sequence_tokens: most tokens of rendered prompt and completion together; None for no limit.
        template: LongBench's for the subset, with {context} and perhaps {input}.
        fixtures: how many a run takes unless its `limit` says otherwise.
        count_tokens: length in tokens of (prompt, answer prefix) as the model reads them.
    """

    name: str
    grade: str
    max_new_tokens: int
    subset: str
    source: str
    sequence_tokens: int | None
    template: str
    fixtures: int
    count_tokens: Callable[[str, str], int]

    def __post_init__(self) -> None:
        if self.template.count("{context}") != 1 or self.template.count("{input}") > 1:
            raise BadInput(
                f"task.template={self.template!r}: legal is a text with one {{context}}, at most one {{input}}"
            )

    def __iter__(self) -> Iterator[Fixture]:
        return (self._fixture(number, where, row) for number, (where, row) in enumerate(self._rows()))

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Rows, each with where it stands."""
        folder = Path(self.source)
        path = folder / f"{self.subset}.jsonl"
        if not path.is_file():
            if not folder.is_dir() or (folder / "README.md").is_file():
                for number, row in enumerate(load_rows(self.source, self.subset, "test"), start=1):
                    yield f"task.source={self.source!r}, {self.subset}, row {number}", row
                return
            found = ", ".join(sorted(one.stem for one in folder.glob("*.jsonl"))) or "no .jsonl file"
            raise BadInput(
                f"task.source={self.source!r} has no {path.name}; it has {found}; give LongBench's data folder"
            )
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except ValueError as error:
                    raise BadInput(f"{where} is not JSON ({error}); give the file as published") from error

    def _fixture(self, number: int, where: str, row: Mapping[str, Any]) -> Fixture:
        try:
            context, question, answers = str(row["context"]), str(row["input"]), tuple(map(str, row["answers"]))
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"{where} has no {error}; legal are context, input and answers; give LongBench's data"
            ) from error
        choices = row.get("all_classes") or []
        if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
            raise BadInput(
                f"{where} has all_classes={choices!r}; legal is a list of texts, or null; give LongBench's data"
            )
        try:
            grade(self.grade, "", answers, choices)
        except BadInput as error:
            raise BadInput(f"{where} cannot be graded: {error}") from error
        before, after = self.template.split("{context}")
        before, after = before.replace("{input}", question), after.replace("{input}", question)
        kept = self._shortened(before, context, after)
        return Fixture(
            fixture_id=f"{self.name}/{number}",
            prompt=before + kept + after,
            answer_prefix="",
            question_start=len(before + kept),
            answers=answers,
            evidence=(),
            choices=tuple(choices),
            metadata={"id": str(row.get("_id", number)), "left_out_characters": len(context) - len(kept)},
        )

    def _shortened(self, before: str, context: str, after: str) -> str:
        """The context, or as much of its ends as fits."""
        if self.sequence_tokens is None:
            return context
        limit = self.sequence_tokens - self.max_new_tokens

        def cut(characters: int) -> str:
            head = (characters + 1) // 2
            return context[:head] + context[len(context) - (characters - head) :]

        def tokens(characters: int) -> int:
            return self.count_tokens(before + cut(characters) + after, "")

        if tokens(len(context)) <= limit:
            return context
        fitting = bisect_right(range(len(context)), limit, key=tokens) - 1
        if fitting < 0:
            raise BadInput(
                f"task.sequence_tokens={self.sequence_tokens} of {self.name} cannot hold its template, question and "
                f"max_new_tokens={self.max_new_tokens}; raise it to >= {tokens(0) + self.max_new_tokens}"
            )
        return cut(fitting)
