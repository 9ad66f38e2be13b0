"""Fitting a prompt to a length: against trying every number of pieces, and with few tokenizations."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.fitting import Lengths


def brute_force(limit: int, lengths: list[int], base: int, least: int) -> int | None:
    """The largest legal number of pieces that fits, by trying all."""
    tokens = itertools.accumulate(lengths, initial=base)
    return max((n for n, total in enumerate(tokens) if n >= least and total <= limit), default=None)


@settings(max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 9), max_size=40),
    base=st.integers(0, 30),
    limit=st.integers(0, 300),
    least=st.integers(0, 5),
    misled=st.sampled_from([None, 0.01, 7.0]),
)
def test_the_result_is_that_of_trying_all(
    lengths: list[int], base: int, limit: int, least: int, misled: float | None
) -> None:
    """Whatever was learned about tokens per character before."""
    pieces = [" w" * length for length in lengths]
    least = min(least, len(pieces))
    fitting = Lengths(lambda prompt, prefix: len((prompt + prefix).split()))
    fitting._tokens_per_character = misled
    found = fitting.fit(limit, lambda count: base + sum(lengths[:count]), pieces, least)
    assert found == brute_force(limit, lengths, base, least)


def test_a_long_prompt_takes_few_tokenizations_of_the_whole() -> None:
    """Pieces of 5 to 24 words whose characters tell little of their tokens."""
    lengths = [5 + (index * 7) % 20 for index in range(2000)]
    pieces = [" " + "w" * (index % 9) + " w" * (length - 1) for index, length in enumerate(lengths)]
    calls = []

    def whole(count: int) -> int:
        calls.append(count)
        return 90 + sum(lengths[:count])

    fitting = Lengths(lambda prompt, prefix: len((prompt + prefix).split()))
    limits = [1000 + 97 * (index * 37 % 140) for index in range(100)]  # from 1,000 to 14,483, in no order
    for limit in limits:
        assert fitting.fit(limit, whole, pieces) == brute_force(limit, lengths, 90, 0)
    assert sum(count > 0 for count in calls) / 100 < 2.2  # the others are of prompts without any piece


def test_joined_pieces_are_shorter_than_apart_and_the_search_notices() -> None:
    """A tokenizer that makes one token of two neighbouring pieces: every second one is free."""
    pieces = [" w"] * 50
    fitting = Lengths(lambda prompt, prefix: len((prompt + prefix).split()))
    found = fitting.fit(20, lambda count: (count + 1) // 2, pieces)
    assert found is not None
    assert (found + 1) // 2 == 20
