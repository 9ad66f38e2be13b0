"""As much text as fits into a number of tokens, found with few tokenizations of whole prompts."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence

# Pieces are counted apart from their prompt, in which a tokenizer may join them with what stands beside them. One that
# would pass the limit by no more than this share of its own tokens is tried in the prompt.
_SLACK = 1 / 4


class Lengths:
    """Lengths in tokens of pieces of text, for one tokenizer and chat template."""

    def __init__(self, count_tokens: Callable[[str, str], int]) -> None:
        """`count_tokens`: length in tokens of (prompt, answer prefix) as the model reads them."""
        self._count = count_tokens
        self._empty = count_tokens("a", "")
        self._tokens_per_character: float | None = None  # of the last fit: where the next search begins

    def of(self, piece: str) -> int:
        """Tokens that `piece` adds to a prompt that it is appended to."""
        return self._count("a" + piece, "") - self._empty

    def fit(self, limit: int, whole: Callable[[int], int], pieces: Sequence[str], least: int = 0) -> int | None:
        """The largest number of pieces whose prompt has at most `limit` tokens.

        The result does not depend on how the search begins: it fits, and one piece more does not.

        Args:
            limit: tokens.
            whole: exact length in tokens of the prompt with so many pieces; rises with them.
            pieces: text that each piece adds; their lengths need not be exact.
            least: fewest pieces that are legal.
        Returns: from `least` to len(pieces), or None if even `least` does not fit.
        """
        low, high = least - 1, len(pieces) + 1  # `low` pieces fit and `high` do not, where counted
        base = whole(least)
        characters = [0, *itertools.accumulate(map(len, pieces[least:]))]
        at = least + bisect_right(characters, (limit - base) / self._rate(pieces)) - 1
        at = max(least, at)
        while True:
            tokens = whole(at)
            if tokens <= limit:
                low = at
                if (at := self._up(limit, tokens, pieces, at, high)) == low:
                    if characters[at - least]:
                        self._tokens_per_character = (tokens - base) / characters[at - least]
                    return at
            else:
                high = at
                if low + 1 == at:
                    return low if low >= least else None
                while at > low + 1 and tokens > limit:
                    at -= 1
                    tokens -= self.of(pieces[at])

    def _up(self, limit: int, tokens: int, pieces: Sequence[str], at: int, high: int) -> int:
        """The number of pieces to try after `at`, which fit; `at` itself if one more does not."""
        up = at
        while up + 1 < high:
            more = self.of(pieces[up])
            if tokens + more > limit:
                doubtful = up == at and tokens + more - limit <= _SLACK * more
                return up + 1 if doubtful else up
            tokens += more
            up += 1
        return up

    def _rate(self, pieces: Sequence[str]) -> float:
        """About how many tokens a character has."""
        if self._tokens_per_character:
            return self._tokens_per_character
        sample = "".join(pieces[:256])
        return max(1, self.of(sample)) / max(1, len(sample))
