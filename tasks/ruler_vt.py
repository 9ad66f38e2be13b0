"""RULER's variable tracking (arXiv:2404.06654): which variables hold a value, through a chain of assignments."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.drafts import Draft, Generated, Writing, check_choice, check_whole
from tasks.haystack import NOISE, Essay, among, check_essay, read_essay, spread
from vorn.records import BadInput

_EXAMPLE_TOKENS = 500


@dataclass(frozen=True, kw_only=True)
class VariableTracking(Generated):
    """Chains of assignments hidden in noise, after one solved example; all variables of the first chain are asked for.

    Source: RULER c3f5e3b, scripts/data/synthetic/variable_tracking.py: a chain begins with `VAR XXXXX = 12345` and goes
    on with `VAR YYYYY = VAR XXXXX`, in this order in the text; the example has names of three letters and at most 500
    tokens. Departure: names differ from each other, in the example too, and so do the chains' values.

    Attributes:
        haystack: `noise` or `essay`.
        essay: a file, or `invented`, see `haystack.read_essay`; None where no essay is needed.
        chains: in the text; the first one is asked for.
        hops: assignments of a chain after its first.
    """

    haystack: str
    essay: str | None
    chains: int
    hops: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_choice(self, "haystack", ("noise", "essay"))
        check_whole(self, "chains", 1, 40)
        check_whole(self, "hops", 1, 39)
        if self.chains * (self.hops + 1) > 40:
            raise BadInput(f"task.chains={self.chains} of task.hops={self.hops} have more than 40 lines; lower one")
        if self.haystack == "essay":
            check_essay(self.essay, self.name)

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        rng = self.rng(index)
        example = self._example(rng)
        chains = _chains(rng, self.chains, self.hops, letters=5)
        if self.haystack == "essay":
            essay = read_essay(str(self.essay), max(1, self.prompt_tokens))
            return self.fitted(lambda count: self._in_essay(index, example, essay, count, chains), essay.pieces)
        return self.fitted(
            lambda count: _in_noise(self.rng(index, f"places/{count}"), Writing(example), count, chains),
            ["\n" + NOISE] * (self.hops + 1 + max(0, self.prompt_tokens) // 8),
            least=self.hops + 1,
        )

    def _example(self, rng: random.Random) -> str:
        """A solved example and the line breaks after it."""
        draft = _in_noise(rng, Writing(), self._example_lines, _chains(rng, self.chains, min(10, self.hops), letters=3))
        return draft.context.text + draft.question + draft.prefix + " " + " ".join(draft.answers) + "\n\n"

    @cached_property
    def _example_lines(self) -> int:
        """As many noise lines as fit into the example's tokens; one number for all fixtures, as published."""
        chains = _chains(random.Random(f"{self.name}/example"), self.chains, min(10, self.hops), letters=3)

        def tokens(count: int) -> int:
            draft = _in_noise(random.Random(0), Writing(), count, chains)
            return self.lengths.of(draft.context.text + draft.question + draft.prefix)

        pieces = ["\n" + NOISE] * (_EXAMPLE_TOKENS // 8)
        return self.lengths.fit(_EXAMPLE_TOKENS, tokens, pieces, least=self.hops + 1) or self.hops + 1

    def _in_essay(self, index: int, example: str, essay: Essay, count: int, chains: Sequence[_Chain]) -> Draft:
        sentences, lines = essay.sentences(count), _mixed(self.rng(index, "mix"), chains)
        places = spread(self.rng(index, "depths"), len(lines), sentences)
        writing = Writing(example + _INTRO)
        done = 0
        for place, (line, asked) in zip(places, lines, strict=True):
            before = essay.cut(done, place, count)
            writing.add(before + " " if before else "")
            writing.add(line.strip() + ".", evidence=asked)
            writing.add(" ")
            done = place
        writing.add(essay.cut(done, sentences, count))
        return _draft(writing, chains[0])


_INTRO = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"


@dataclass(frozen=True, slots=True)
class _Chain:
    value: str
    names: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        hops = [f"VAR {after} = VAR {before} " for before, after in zip(self.names, self.names[1:], strict=False)]
        return [f"VAR {self.names[0]} = {self.value}", *hops]


def _chains(rng: random.Random, chains: int, hops: int, letters: int) -> list[_Chain]:
    names: list[str] = []
    while len(names) < chains * (hops + 1):
        name = "".join(rng.choices(string.ascii_uppercase, k=letters))
        if name not in names and name != "VAR":
            names.append(name)
    values = rng.sample(range(10000, 99999), chains)
    size = hops + 1
    return [_Chain(str(values[i]), tuple(names[i * size : (i + 1) * size])) for i in range(chains)]


def _mixed(rng: random.Random, chains: Sequence[_Chain]) -> list[tuple[str, bool]]:
    """All lines in a random order that keeps each chain's own; the flag marks the first chain's."""
    order = [number for number, chain in enumerate(chains) for _ in chain.names]
    rng.shuffle(order)
    left = [iter(chain.lines) for chain in chains]
    return [(next(left[number]), number == 0) for number in order]


def _in_noise(rng: random.Random, writing: Writing, count: int, chains: Sequence[_Chain]) -> Draft:
    """The chains among `count` lines of noise, after what `writing` holds."""
    lines: list[tuple[str, bool]] = [(NOISE, False)] * count
    for number, chain in enumerate(chains):
        for done, (place, line) in enumerate(zip(among(rng, len(chain.names), len(lines)), chain.lines, strict=True)):
            lines.insert(place + done, (line, number == 0))
    writing.add(_INTRO)
    for number, (line, asked) in enumerate(lines):
        writing.add("\n" if number else "")
        writing.add(line, evidence=asked)
    return _draft(writing, chains[0])


def _draft(context: Writing, chain: _Chain) -> Draft:
    return Draft(
        context=context,
        question=f"\nQuestion: Find all variables that are assigned the value {chain.value} in the text above.",
        prefix=(
            " Answer: According to the chain(s) of variable assignment in the text above, "
            f"{len(chain.names)} variables are assigned the value {chain.value}, they are: "
        ),
        answers=chain.names,
        metadata={"value": chain.value},
    )
