"""Prompts on which an eviction policy may go wrong at an edge: the built-in suite of edge cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tasks import prose
from tasks.drafts import Draft, Generated, Writing
from tasks.haystack import check_essay, read_essay
from tasks.ruler_niah import Question, distinct, needle

# Each kind's needles: depth among the essay's sentences, and number of the key; the first keys are asked for.
_PLACES: Mapping[str, Sequence[tuple[float, int]]] = MappingProxyType(
    {
        "first": [(0.0, 0)],
        "last": [(1.0, 0)],
        "short": [(0.0, 0)],
        "several": [(0.1, 0), (0.5, 1), (0.9, 2)],
        "twins": [(0.5, 1), (0.5, 0)],
        "late_twin": [(0.0, 0), (1.0, 1)],
    }
)


@dataclass(frozen=True, kw_only=True)
class EdgeCases(Generated):
    """Needles of RULER's form in an essay, one kind of edge after the other; a fixture's metadata name its `kind`.

    `first`: the prompt begins with the needle, where sinks are guarded. `last`: the needle is the last sentence before
    the question, among the recent tokens. `short`: needle, three sentences and question, shorter than most budgets.
    `several`: three needles at 10, 50 and 90 % of the depth, all asked for. `twins`: the needle's neighbour differs
    from it in one half of its key. `late_twin`: such a neighbour stands at the end, the needle at the beginning.

    Attributes:
        essay: a file, or `invented`, see `haystack.read_essay`.
    """

    essay: str | None

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_essay(self.essay, self.name)

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        kind = list(_PLACES)[index % len(_PLACES)]
        rng = self.rng(index)
        keys = distinct(rng, "words", 3, set())
        values = distinct(rng, "numbers", 3, set())
        if kind in ("twins", "late_twin"):
            adjective, noun = keys[0].split("-")
            keys[1] = f"{adjective}-{rng.choice([other for other in prose.NOUNS if other != noun])}"
        asked = 3 if kind == "several" else 1
        question = Question("numbers", keys[:asked], tuple(values[:asked]))
        needles = [(depth, needle("numbers", keys[one], values[one]), one < asked) for depth, one in _PLACES[kind]]
        essay = read_essay(str(self.essay), max(1, self.prompt_tokens))

        def make(sentences: int) -> Draft:
            words = essay.words_of(sentences)
            texts: list[tuple[str, bool]] = []
            done = 0
            for depth, text, is_asked in needles:
                place = int(sentences * depth)
                texts += [(essay.cut(done, place, words), False), (text, is_asked)]
                done = place
            texts.append((essay.cut(done, sentences, words), False))
            return question.draft(_joined("" if kind == "first" else question.intro, texts), kind=kind)

        return self.fitted(make, essay.sentence_pieces[: 3 if kind == "short" else None])


def _joined(intro: str, texts: Sequence[tuple[str, bool]]) -> Writing:
    """The intro and those texts that are not empty, with spaces between them."""
    writing, between = Writing(intro), ""
    for text, is_asked in texts:
        if text:
            writing.add(between)
            writing.add(text, evidence=is_asked)
            between = " "
    return writing
