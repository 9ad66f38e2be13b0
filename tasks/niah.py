"""Needle in a haystack with several keys, in the form of RULER's NIAH tasks (arXiv:2404.06654)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks import prose
from tasks.drafts import check_whole
from tasks.fitting import Lengths
from vorn.records import BadInput, Fixture


@dataclass(frozen=True)
class Template:
    """The texts of one NIAH prompt: RULER's, for one value per key and one question."""

    intro: str = (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\n"
    )

    def needle(self, key: str, value: str) -> str:
        """The sentence that tells `value` of `key`."""
        return f"One of the special magic numbers for {key} is: {value}."

    def question(self, key: str) -> str:
        """What is asked at the end of the prompt."""
        return f"\nWhat is the special magic number for {key} mentioned in the provided text?"

    def answer_prefix(self, key: str) -> str:
        """The beginning of the answer, which the model continues with a space and the number."""
        return f" The special magic number for {key} mentioned in the provided text is"


@dataclass(frozen=True)
class NiahMultikey:
    """Needles with different keys spread over invented prose; one of them is asked for.

    Iterating yields fixtures in a fixed order: fixture i depends on `seed`, i and the tokenizer alone, so that a
    longer run begins with the fixtures of a shorter one. The asked needle's depth is uniform. Keys and values are
    those that the pocket models never saw in training (`prose.is_reserved`).

    Attributes:
        grade: rule of `vorn.grading` for the completions.
        max_new_tokens: completions end there, if not before.
        context_tokens: most tokens of the whole rendered prompt; as many sentences stand in it as fit.
        keys: needles in the haystack, the asked one included.
        digits: digits of a value; RULER's is 7.
        fixtures: how many a run takes unless its `limit` says otherwise; there is no end to them.
        seed: changes every fixture.
        count_tokens: length in tokens of (prompt, answer prefix) as the model reads them.
    """

    name: str
    grade: str
    max_new_tokens: int
    context_tokens: int
    keys: int
    digits: int
    fixtures: int
    seed: int
    count_tokens: Callable[[str, str], int]

    def __post_init__(self) -> None:
        check_whole(self, "keys", 1, 1000)
        check_whole(self, "digits", 5, 12)
        check_whole(self, "fixtures", 1, 10**9)
        check_whole(self, "context_tokens", 1, 10**9)

    def __iter__(self) -> Iterator[Fixture]:
        return map(self.fixture, itertools.count())

    def fixture(self, index: int) -> Fixture:
        """Fixture number `index`; raises BadInput if `context_tokens` cannot hold the needles and the question."""
        rng = random.Random(f"{self.seed}/{index}")
        keys = prose.draw_keys(rng, self.keys, reserved=True)
        values = prose.draw_numbers(rng, self.keys, self.digits, reserved=True)
        needles = [
            _Needle(rng.random(), key, value, asked=number == 0)
            for number, (key, value) in enumerate(zip(keys, values, strict=True))
        ]
        needles.sort(key=lambda needle: needle.depth)
        for pool in prose.pools(rng, self.context_tokens // 4):
            count = self._fitting(pool, needles)
            if count < len(pool):
                break
        return self._assemble(f"{self.name}/seed{self.seed}/{index}", pool[:count], needles)

    def _fitting(self, pool: Sequence[str], needles: Sequence[_Needle]) -> int:
        """The largest number of sentences whose prompt has at most `context_tokens` tokens."""

        def tokens(count: int) -> int:
            made = self._assemble("", pool[:count], needles)
            return self.count_tokens(made.prompt, made.answer_prefix)

        count = self._lengths.fit(self.context_tokens, tokens, [" " + sentence for sentence in pool])
        if count is None:
            raise BadInput(
                f"task.context_tokens={self.context_tokens} cannot hold {self.keys} needles and the question; "
                f"raise it to >= {tokens(0)} or lower task.keys"
            )
        return count

    @cached_property
    def _lengths(self) -> Lengths:
        return Lengths(self.count_tokens)

    def _assemble(self, fixture_id: str, sentences: Sequence[str], needles: Sequence[_Needle]) -> Fixture:
        template = Template()
        parts: list[str] = []
        left = list(needles)
        evidence = (0, 0)
        asked = next(needle for needle in needles if needle.asked)
        at = len(template.intro)
        for place in range(len(sentences) + 1):
            while left and int(left[0].depth * (len(sentences) + 1)) <= place:
                needle = left.pop(0)
                text = template.needle(needle.key, needle.value)
                if needle.asked:
                    evidence = (at, at + len(text))
                parts.append(text)
                at += len(text) + 1
            if place < len(sentences):
                parts.append(sentences[place])
                at += len(sentences[place]) + 1
        context = template.intro + " ".join(parts)
        return Fixture(
            fixture_id=fixture_id,
            prompt=context + template.question(asked.key),
            answer_prefix=template.answer_prefix(asked.key),
            question_start=len(context),
            answers=(asked.value,),
            evidence=(evidence,),
            metadata={"key": asked.key, "depth": round(asked.depth, 4)},
        )


@dataclass(frozen=True)
class _Needle:
    depth: float  # in [0, 1): where it stands among the sentences
    key: str
    value: str
    asked: bool
