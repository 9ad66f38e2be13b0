"""RULER's eight needle tasks (arXiv:2404.06654): keys and values hidden in noise, in other needles or in essays."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tasks import prose
from tasks.drafts import Draft, Generated, Writing, check_choice, check_whole
from tasks.haystack import NOISE, Essay, among, check_essay, read_essay, spread, with_inserted
from vorn.records import BadInput

HAYSTACKS = ("noise", "needle", "essay")
KINDS = ("words", "numbers", "uuids")


@dataclass(frozen=True, kw_only=True)
class RulerNiah(Generated):
    """Needles "One of the special magic numbers for KEY is: VALUE." in a haystack, and a question for some keys.

    Templates, settings and distributions are RULER's (c3f5e3b, scripts/data/synthetic/niah.py, scripts/synthetic.yaml),
    its bytes are not. Departures: word keys are pairs from the lists of `tasks.prose`; keys differ from each other and
    from those of distractors, so that no question has two answers; essays are split into sentences after . ! and ?.

    Attributes:
        haystack: `noise`, five short sentences repeated; `needle`, needles with other keys; `essay`.
        essay: a file, or `invented`, see `haystack.read_essay`; None where no essay is needed.
        key_kind: `words` (adjective-noun), `numbers` (seven digits) or `uuids`.
        value_kind: the same.
        keys: needles' keys; at least `queries` are made.
        values: of each key.
        queries: keys that are asked for.
    """

    haystack: str
    essay: str | None
    key_kind: str
    value_kind: str
    keys: int
    values: int
    queries: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_choice(self, "haystack", HAYSTACKS)
        check_choice(self, "key_kind", KINDS)
        check_choice(self, "value_kind", KINDS)
        for field in ("keys", "values", "queries"):
            check_whole(self, field, 1, 40)
        if self.needles > 40:
            raise BadInput(f"task.keys * task.values={self.needles}: a haystack takes at most 40 needles; lower one")
        if self.haystack == "essay":
            check_essay(self.essay, self.name)

    @property
    def needles(self) -> int:
        """Needles besides the haystack's own."""
        return max(self.keys, self.queries) * self.values

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        rng = self.rng(index)
        keys = distinct(rng, self.key_kind, max(self.keys, self.queries), set())
        values = distinct(rng, self.value_kind, self.needles, set())
        of_key = {key: values[i * self.values : (i + 1) * self.values] for i, key in enumerate(keys)}
        asked = rng.sample(keys, self.queries)
        needles = [(key, value) for key in keys for value in of_key[key]]
        rng.shuffle(needles)
        question = Question(self.value_kind, asked, tuple(value for key in asked for value in of_key[key]))
        if self.haystack == "essay":
            essay = read_essay(str(self.essay), max(1, self.prompt_tokens))
            return self.fitted(lambda count: self._in_essay(index, essay, count, needles, question), essay.pieces)
        lines = self._lines(rng, keys)
        pieces = ["\n" + line for line in lines]
        return self.fitted(
            lambda count: self._in_lines(index, lines[:count], needles, question), pieces, least=len(needles)
        )

    def _lines(self, rng: random.Random, keys: Sequence[str]) -> list[str]:
        """More lines of haystack than fit; a line has at least eight tokens in any tokenizer of words."""
        most = self.needles + max(0, self.prompt_tokens) // 8
        if self.haystack == "noise":
            return [NOISE] * most
        return [
            needle(self.value_kind, distinct(rng, self.key_kind, 1, set(keys))[0], _one(rng, self.value_kind))
            for _ in range(most)
        ]

    def _in_lines(
        self, index: int, lines: Sequence[str], needles: Sequence[tuple[str, str]], question: Question
    ) -> Draft:
        places = among(self.rng(index, f"places/{len(lines)}"), len(needles), len(lines))
        texts = [needle(self.value_kind, key, value) for key, value in needles]
        asked = {text for text, (key, _) in zip(texts, needles, strict=True) if key in question.keys}
        writing = Writing(question.intro)
        for number, (line, inserted) in enumerate(with_inserted(lines, places, texts)):
            writing.add("\n" if number else "")
            writing.add(line, evidence=inserted and line in asked)
        return question.draft(writing)

    def _in_essay(
        self, index: int, essay: Essay, count: int, needles: Sequence[tuple[str, str]], question: Question
    ) -> Draft:
        sentences = essay.sentences(count)
        places = spread(self.rng(index, "depths"), len(needles), sentences)
        writing = Writing(question.intro)
        done = 0
        for place, (key, value) in zip(places, needles, strict=True):
            before = essay.cut(done, place, count)
            writing.add(before + " " if before else "")
            writing.add(needle(self.value_kind, key, value), evidence=key in question.keys)
            writing.add(" ")
            done = place
        writing.add(essay.cut(done, sentences, count))
        return question.draft(writing)


class Question:
    """The texts around a haystack: one for a single value, another for several."""

    def __init__(self, kind: str, keys: Sequence[str], answers: tuple[str, ...]) -> None:
        """`kind` of the values, the keys that are asked for, and the values of all of them."""
        self.keys, self.answers = tuple(keys), answers
        single = len(answers) == 1
        noun = kind[:-1] if single else kind
        names = keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + ", and " + keys[-1]
        self.intro = (
            f"{'A' if single else 'Some'} special magic {noun} {'is' if single else 'are'} hidden within the following "
            f"text. Make sure to memorize it. I will quiz you about the {noun} afterwards.\n"
        )
        mentioned = f"the special magic {noun} for {names} mentioned in the provided text"
        self._asked = f"\nWhat {'is' if single else 'are all'} {mentioned}?"
        self._prefix = f" The{mentioned[3:]} {'is' if single else 'are'}"

    def draft(self, context: Writing, **metadata: str | int | float) -> Draft:
        """The prompt that asks it after `context`."""
        return Draft(
            context=context,
            question=self._asked,
            prefix=self._prefix,
            answers=self.answers,
            metadata={"keys": ", ".join(self.keys), **metadata},
        )


def needle(kind: str, key: str, value: str) -> str:
    """The sentence that tells `value`, of that kind, of `key`."""
    return f"One of the special magic {kind} for {key} is: {value}."


def distinct(rng: random.Random, kind: str, count: int, others: set[str]) -> list[str]:
    """`count` different keys or values of a kind, none of them among `others`."""
    found: list[str] = []
    while len(found) < count:
        one = _one(rng, kind)
        if one not in others and one not in found:
            found.append(one)
    return found


def _one(rng: random.Random, kind: str) -> str:
    if kind == "words":
        return f"{rng.choice(prose.ADJECTIVES)}-{rng.choice(prose.NOUNS)}"
    if kind == "numbers":
        return str(rng.randrange(10**6, 10**7))
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
