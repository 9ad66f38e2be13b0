"""Several questions on one context: what a cache that is pruned before the question must be good for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tasks.drafts import Draft, Generated, Writing, check_whole
from tasks.haystack import Essay, check_essay, read_essay, spread
from tasks.ruler_niah import Question, distinct, needle
from vorn.records import BadInput, Fixture


@dataclass(frozen=True, kw_only=True)
class SharedContext(Generated):
    """Needles of RULER's form in an essay; the fixtures of one `cluster` ask for one each, over the same context.

    The context is the same text in all of them, up to the question, and as long as the longest question lets it be.

    Attributes:
        essay: a file, or `invented`, see `haystack.read_essay`.
        keys: needles of a context.
        questions: of a context, each for another needle; at most `keys`.
    """

    essay: str | None
    keys: int
    questions: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_whole(self, "keys", 1, 40)
        check_whole(self, "questions", 1, 40)
        check_essay(self.essay, self.name)
        if self.questions > self.keys:
            raise BadInput(f"task.questions={self.questions}: legal is at most task.keys={self.keys}; lower it")

    def __iter__(self) -> Iterator[Fixture]:
        for context in itertools.count():
            for number, draft in enumerate(self._drafts(context)):
                index = context * self.questions + number
                yield draft.fixture(f"{self.name}/seed{self.seed}/{index}", self.answer_prefix)

    def _drafts(self, context: int) -> list[Draft]:
        """One draft per question of a context."""
        rng = self.rng(context)
        keys = distinct(rng, "words", self.keys, set())
        needles = list(zip(keys, distinct(rng, "numbers", self.keys, set()), strict=True))
        essay = read_essay(str(self.essay), max(1, self.prompt_tokens))
        asked = rng.sample(needles, self.questions)
        makers = [partial(self._draft, context, essay, needles, one) for one in asked]
        fitting = min(int(self.fitted(make, essay.sentence_pieces).metadata["sentences"]) for make in makers)
        drafts = [make(fitting) for make in makers]
        return [replace(draft, metadata={**draft.metadata, "context": context}) for draft in drafts]

    def _draft(
        self, context: int, essay: Essay, needles: Sequence[tuple[str, str]], asked: tuple[str, str], sentences: int
    ) -> Draft:
        words = essay.words_of(sentences)
        # Every question stands under the same intro: RULER's for several needles, as a reader does not know which.
        several = Question("numbers", [key for key, _ in needles], tuple(value for _, value in needles))
        writing, done = Writing(several.intro), 0
        places = spread(self.rng(context, "depths"), len(needles), sentences)
        for place, one in zip(places, needles, strict=True):
            before = essay.cut(done, place, words)
            writing.add(before + " " if before else "")
            writing.add(needle("numbers", *one), evidence=one == asked)
            writing.add(" ")
            done = place
        writing.add(essay.cut(done, sentences, words))
        draft = Question("numbers", [asked[0]], (asked[1],)).draft(writing, sentences=sentences)
        return replace(draft, cluster=f"{self.name}/seed{self.seed}/context{context}")
