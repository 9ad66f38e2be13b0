"""RULER's two counting tasks (arXiv:2404.06654): the most common words of a list, and of a coded text."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tasks.drafts import Draft, Generated, Writing, check_whole
from tasks.words import joined, single
from vorn.records import BadInput

_SHORT_TOKENS = 4096  # below, RULER repeats words less often


@dataclass(frozen=True, kw_only=True)
class CommonWords(Generated):
    """A numbered list in which ten words occur often and all others seldom, after one solved example.

    Source: RULER c3f5e3b, scripts/data/synthetic/common_words_extraction.py. In sequences below 4,096 tokens common
    words occur 6 times and others once (in the example 3 and 1); in longer ones `common_times` and `uncommon_times` (10
    and 3). Departure: the words are those of `tasks.words`, pairs written as one word where they are too few.

    Attributes:
        common: words that are asked for.
        common_times: how often each of them occurs.
        uncommon_times: how often every other word occurs.
    """

    common: int
    common_times: int
    uncommon_times: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        check_whole(self, "common", 1, 15)
        check_whole(self, "common_times", 2, 1000)
        check_whole(self, "uncommon_times", 1, 1000)
        if self.uncommon_times >= self.common_times:
            raise BadInput(
                f"task.uncommon_times={self.uncommon_times}: common words must occur more often than others; lower it "
                f"below task.common_times={self.common_times}"
            )

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        is_short = self.sequence_tokens < _SHORT_TOKENS
        words, often, seldom = (20, 3, 1) if is_short else (40, 10, 3)
        example = self._list(Writing(), self.rng(index, "example").sample(single(), words), often, seldom, index)
        solved = " ".join(f"{number}. {word}" for number, word in enumerate(example.answers, start=1))
        before = f"{example.context.text}{example.question}{example.prefix} {solved}\n"
        often, seldom = (6, 1) if is_short else (self.common_times, self.uncommon_times)
        most = self.common + max(0, self.prompt_tokens) // (2 * seldom)  # a number and a word have two tokens or more
        for listed in (single(), joined()):
            pool = self.rng(index, "words").sample(listed, min(most, len(listed)))
            draft = self._fitted(before, pool, often, seldom, index)
            if int(draft.metadata["words"]) < len(listed):
                return draft
        raise BadInput(
            f"task.sequence_tokens={self.sequence_tokens} asks for more than {len(joined())} different words, "
            "which is all there are; lower it"
        )

    def _fitted(self, before: str, pool: Sequence[str], often: int, seldom: int, index: int) -> Draft:
        return self.fitted(
            lambda count: self._list(Writing(before), pool[:count], often, seldom, index),
            [f" 1234. {word}" * seldom for word in pool],
            least=self.common,
        )

    def _list(self, writing: Writing, words: Sequence[str], often: int, seldom: int, index: int) -> Draft:
        common = words[: self.common]
        listed = [word for word in common for _ in range(often)]
        listed += [word for word in words[self.common :] for _ in range(seldom)]
        self.rng(index, f"order/{len(listed)}").shuffle(listed)
        asked = set(common)
        writing.add(
            "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones "
            "that appear most often.\n"
        )
        for number, word in enumerate(listed, start=1):
            writing.add(f"{' ' if number > 1 else ''}{number}. ")
            writing.add(word, evidence=word in asked)
        return Draft(
            context=writing,
            question=f"\nQuestion: What are the {self.common} most common words in the above list?",
            prefix=f" Answer: The top {self.common} words that appear most often in the list are:",
            answers=tuple(common),
            metadata={"words": len(words)},
        )


@dataclass(frozen=True, kw_only=True)
class FrequentWords(Generated):
    """A text of coded words whose frequencies follow a zeta distribution; ranks 2 to 4 are asked for, rank 1 is dots.

    Source: RULER c3f5e3b, scripts/data/synthetic/freq_words_extraction.py: rank k occurs
    floor(n k^-alpha / zeta(alpha)) times, among
    one word per 50 tokens of the prompt. Departure: n is fitted for each fixture.

    Attributes:
        alpha: of the zeta distribution; above 1.
        letters: of a coded word.
    """

    alpha: float
    letters: int

    def __post_init__(self) -> None:
        Generated.__post_init__(self)
        if not isinstance(self.alpha, (int, float)) or not 1.1 <= self.alpha <= 4:
            raise BadInput(f"task.alpha={self.alpha!r}: legal are numbers from 1.1 to 4; RULER's are 2.0 and 3.5")
        check_whole(self, "letters", 3, 20)

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`."""
        rng = self.rng(index)
        vocabulary = ["..."]
        while len(vocabulary) < max(5, self.prompt_tokens // 50):
            word = "".join(rng.choices(string.ascii_lowercase, k=self.letters))
            if word not in vocabulary:
                vocabulary.append(word)
        shares = [rank**-self.alpha / _zeta(self.alpha) for rank in range(1, len(vocabulary) + 1)]
        least = math.ceil(1 / (shares[3] - shares[4]))  # from here on rank 4 occurs more often than rank 5
        pieces = _increments(vocabulary, shares, max(least, 2 * self.prompt_tokens))
        return self.fitted(lambda count: self._coded(index, vocabulary, shares, count), pieces, least)

    def _coded(self, index: int, vocabulary: Sequence[str], shares: Sequence[float], count: int) -> Draft:
        coded = [word for word, share in zip(vocabulary, shares, strict=True) for _ in range(int(count * share))]
        self.rng(index, f"order/{count}").shuffle(coded)
        answers = tuple(vocabulary[1:4])
        writing = Writing(
            "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
            "appeared coded words. "
        )
        for number, word in enumerate(coded):
            writing.add(" " if number else "")
            writing.add(word, evidence=word in answers)
        return Draft(
            context=writing,
            question=(
                "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
                "frequently appeared words in the above coded text?"
            ),
            prefix=" Answer: According to the coded text above, the three most frequently appeared words are:",
            answers=answers,
            metadata={"words": len(coded)},
        )


@cache
def _zeta(alpha: float) -> float:
    """Riemann's zeta function: the sum of k^-alpha, its tail by Euler and Maclaurin's formula."""
    first = 1000
    head = math.fsum(k**-alpha for k in range(1, first))
    return head + first ** (1 - alpha) / (alpha - 1) + first**-alpha / 2 + alpha * first ** (-alpha - 1) / 12


def _increments(vocabulary: Sequence[str], shares: Sequence[float], most: int) -> list[str]:
    """The words that come in when n rises by one, for each n below `most`."""
    pieces = [""] * most
    for word, share in zip(vocabulary, shares, strict=True):
        for times in range(1, int(most * share) + 1):
            pieces[min(most, math.ceil(times / share)) - 1] += " " + word
    return pieces
