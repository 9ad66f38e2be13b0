"""The classic grid of depth and length: one needle, at given depths of prompts of given lengths."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.drafts import Draft, Generated, Writing, check_number, check_whole
from tasks.haystack import check_essay, read_essay
from tasks.ruler_niah import Question, distinct, needle
from vorn.records import Axes, BadInput, Fixture


@dataclass(frozen=True, kw_only=True)
class NiahGrid:
    """One needle of RULER's form per prompt, in an essay; every depth at every length, then all of them again.

    The axes of a fixture are `depth`, down the heat map, and `length_tokens`, across it.

    Attributes:
        lengths: most tokens of rendered prompt and completion together, one column of the grid each; a number is one.
        depths: from 0, before the essay, to 1, after it; the needle stands between sentences; a number is one.
        essay: a file, or `invented`, see `haystack.read_essay`.
        fixtures: how many a run takes unless its `limit` says otherwise; multiples of the grid's cells fill them alike.
        name, grade, max_new_tokens, answer_prefix, seed, count_tokens: see `Generated`.
    """

    name: str
    grade: str
    max_new_tokens: int
    lengths: int | Sequence[int]
    depths: float | Sequence[float]
    essay: str | None
    answer_prefix: str
    fixtures: int
    seed: int
    count_tokens: Callable[[str, str], int]

    def __post_init__(self) -> None:
        check_whole(self, "fixtures", 1, 10**9)
        check_essay(self.essay, self.name)
        depths = _listed(self.depths)
        if not depths or any(type(one) not in (int, float) or not 0 <= one <= 1 for one in depths):
            raise BadInput(f"task.depths={depths!r}: legal are numbers from 0 to 1; give at least one")
        for field in ("lengths", "depths"):
            values = _listed(getattr(self, field))
            if not values or len(set(values)) < len(values):
                raise BadInput(f"task.{field}={values!r}: legal is at least one value, each once; correct the list")
        for one in _listed(self.lengths):
            check_number("lengths", one, 2, 10**9)

    def __iter__(self) -> Iterator[Fixture]:
        rows = [
            _Row(
                name=self.name,
                grade=self.grade,
                max_new_tokens=self.max_new_tokens,
                sequence_tokens=length,
                answer_prefix=self.answer_prefix,
                fixtures=self.fixtures,
                seed=self.seed,
                count_tokens=self.count_tokens,
                essay=str(self.essay),
            )
            for length in _listed(self.lengths)
        ]
        for again in itertools.count():
            for row in rows:
                yield from (row.at(depth, again) for depth in _listed(self.depths))

    def note(self, taken: int) -> str:
        """What a run of the first `taken` fixtures leaves out or fills unevenly; "" if it fills all fields alike."""
        lengths, depths = _listed(self.lengths), _listed(self.depths)
        fields = len(lengths) * len(depths)
        rounds, rest = divmod(taken, fields)
        if not rest:
            return ""
        without = [] if rounds else lengths[-(-rest // len(depths)) :]
        missing = f", so that the lengths {', '.join(map(str, without))} are left out" if without else ""
        return (
            f"fixtures per field of the grid: {rounds + 1} on {rest} of {fields} fields, {rounds or 'none'} on the "
            f"others{missing}; a limit of {fields * (rounds + 1)} fills all alike"
        )


@dataclass(frozen=True, kw_only=True)
class _Row(Generated):
    essay: str
    length_setting = "lengths"

    def at(self, depth: float, again: int) -> Fixture:
        """The fixture with its needle at `depth`, for the `again`-th time."""
        essay = read_essay(self.essay, max(1, self.prompt_tokens))
        rng = random.Random(f"{self.name}/{self.seed}/{self.sequence_tokens}/{depth:g}/{again}")
        key, value = distinct(rng, "words", 1, set())[0], distinct(rng, "numbers", 1, set())[0]
        question = Question("numbers", [key], (value,))
        axes = Axes(down="depth", down_at=depth, across="length_tokens", across_at=self.sequence_tokens)

        def make(sentences: int) -> Draft:
            place, words = int(sentences * depth), essay.words_of(sentences)
            before, after = essay.cut(0, place, words), essay.cut(place, sentences, words)
            writing = Writing(question.intro)
            writing.add(before + " " if before else "")
            writing.add(needle("numbers", key, value), evidence=True)
            writing.add(" " + after if after else "")
            return replace(question.draft(writing), axes=axes)

        draft = self.fitted(make, essay.sentence_pieces)
        name = f"{self.name}/seed{self.seed}/{self.sequence_tokens}/{depth:g}/{again}"
        return draft.fixture(name, self.answer_prefix)


def _listed(given: Any) -> list[Any]:
    """One value is a list of one, as in every setting that may have several."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
