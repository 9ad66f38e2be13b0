"""Reasoning over given facts: where a thing is, through things that are in other things."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

from tasks import prose
from tasks.drafts import Draft, Generated, Writing, check_whole
from vorn.records import BadInput

# No name built of these contains another: all begin with a consonant cluster of their own and end alike in length.
_BEGINNINGS = tuple("Bren Cald Darn Fenn Gorm Halv Jask Kelm Lorn Marv Norl Pent Rusk Solm Tarn Vilm Wend Yorn".split())
_ENDINGS = tuple("bury dale ford gate hall hill holt land mere moor port wick".split())

_INTRO = (
    "Things are in other things, and things are in towns. A thing that is in another thing is in the same town as that "
    "thing.\nExample: The red purse is in the old trunk. The old trunk is in the town of Ashby. Question: In which "
    "town is the red purse? Answer: The red purse is in the town of Ashby.\n"
)


@dataclass(frozen=True, kw_only=True)
class Hops(Generated):
    """Facts "The X is in the Y." in random order among invented prose; one thing's town follows from a chain of them.

    No single fact answers the question: `hops` of them lead from the thing to its town, and every other chain has the
    same form. Evidence are the facts of the asked chain.

    Attributes:
        hops: facts of a chain, the last of which names the town.
        chains: of facts in a prompt.
    """

    hops: int
    chains: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_whole(self, "hops", 1, 20)
        check_whole(self, "chains", 1, len(_BEGINNINGS) * len(_ENDINGS))
        if self.chains * self.hops > 1000:
            raise BadInput(f"task.chains={self.chains} * task.hops={self.hops} > 1000 facts; lower one of them")

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        rng = self.rng(index)
        things = rng.sample(_things(), self.chains * self.hops)
        towns = rng.sample([first + last for first in _BEGINNINGS for last in _ENDINGS], self.chains)
        chains = [things[number * self.hops : (number + 1) * self.hops] for number in range(self.chains)]
        facts = [
            (fact, number == 0)
            for number, (chain, town) in enumerate(zip(chains, towns, strict=True))
            for fact in _facts(chain, town)
        ]
        rng.shuffle(facts)
        depths = sorted(rng.random() for _ in facts)
        thing, town = chains[0][0], towns[0]

        def make(pool: Sequence[str], count: int) -> Draft:
            return Draft(
                context=_among(pool[:count], facts, depths),
                question=f"\nQuestion: In which town is the {thing}?",
                prefix=f" Answer: The {thing} is in the town of",
                answers=(town,),
                metadata={"hops": self.hops, "chains": self.chains},
            )

        for pool in prose.pools(rng, max(0, self.prompt_tokens) // 4):
            draft = self.fitted(partial(make, pool), [" " + sentence for sentence in pool])
            if pool and pool[-1] not in draft.context.text:  # not all of them fit
                break
        return draft


@cache
def _things() -> tuple[str, ...]:
    return tuple(f"{adjective} {noun}" for adjective in prose.ADJECTIVES for noun in prose.NOUNS)


def _facts(chain: Sequence[str], town: str) -> list[str]:
    links = [f"The {inner} is in the {outer}." for inner, outer in itertools.pairwise(chain)]
    return [*links, f"The {chain[-1]} is in the town of {town}."]


def _among(sentences: Sequence[str], facts: Sequence[tuple[str, bool]], depths: Sequence[float]) -> Writing:
    writing, done = Writing(_INTRO), 0
    for (fact, is_asked), depth in zip(facts, depths, strict=True):
        place = int(depth * (len(sentences) + 1))
        writing.add("".join(sentence + " " for sentence in sentences[done:place]))
        writing.add(fact, evidence=is_asked)
        writing.add(" ")
        done = place
    writing.add(" ".join(sentences[done:]))
    return writing
