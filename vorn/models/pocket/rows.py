"""Training rows for the pocket models: token ids with labels, where only what can be looked up is supervised."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tasks import niah, prose

IGNORED = -100  # label of positions without supervision
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


def successor_rows(rng: np.random.Generator, rows: int, length: int, alphabet: NDArray[np.int64]) -> Batch:
    """Walks over a random next-token map of each row's own, with random jumps.

    Every row draws 8 to 24 symbols of `alphabet` and a successor for each, and follows it three times in four.
    Supervised is each step along the map from a symbol that was left along the map before.

    Returns: ids and labels, both [rows, length]; labels are aligned with the token that they predict from.
    """
    symbols = rng.integers(8, 25, size=rows)
    chosen = np.stack([rng.choice(alphabet, 24, replace=False) for _ in range(rows)])
    successor = rng.integers(0, symbols[:, None], size=(rows, 24))
    jump = rng.random((rows, length)) < 0.25
    target = rng.integers(0, symbols[:, None], size=(rows, length))
    walk = np.zeros((rows, length), dtype=np.int64)
    seen = np.zeros((rows, 24), dtype=bool)
    supervised = np.zeros((rows, length), dtype=bool)
    every = np.arange(rows)
    for step in range(length - 1):
        here = walk[:, step]
        supervised[:, step] = seen[every, here] & ~jump[:, step]
        walk[:, step + 1] = np.where(jump[:, step], target[:, step], successor[every, here])
        seen[every, here] |= ~jump[:, step]
    ids = np.take_along_axis(chosen, walk, axis=1)
    return ids, np.where(supervised, np.roll(ids, -1, axis=1), IGNORED)


@dataclass(frozen=True)
class NeedleLevel:
    """How hard the needle rows are: most tokens of a row, and most of it that is prose, as a share."""

    length: int
    haystack: float


class NeedleRows:
    """Needles in prose and a question for each after them; only the values in the answers are supervised.

    Keys and values are those that no evaluation uses (`prose.is_reserved`).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int, sentences: int = 20_000) -> None:
        self.rng = random.Random(seed)
        self._tokenizer = tokenizer
        self._eos, self._bos, self._pad = tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id
        template = niah.Template()
        marker = "amber-oak"
        key, value = self._encode(f" {marker}"), self._encode(" 1")
        self._needle = _split(self._encode(" " + template.needle(marker, "1")), key, value)
        self._question = _split(self._encode(template.question(marker) + template.answer_prefix(marker)), key)
        self._intro = self._encode(template.intro)
        self._adjectives = {w: self._encode(" " + w) for w in prose.ADJECTIVES}
        self._nouns = {w: self._encode("-" + w) for w in prose.NOUNS}
        self._sentences = [self._encode(" " + prose.sentence(self.rng)) for _ in range(sentences)]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def batch(self, rows: int, level: NeedleLevel) -> Batch:
        """Returns: ids and labels, both [rows, longest row]; the rest of a row is padding without supervision."""
        made = [self._row(level) for _ in range(rows)]
        longest = max(len(tokens) for tokens, _ in made)
        ids = np.full((rows, longest), self._pad, dtype=np.int64)
        labels = np.full((rows, longest), IGNORED, dtype=np.int64)
        for row, (tokens, supervised) in enumerate(made):
            ids[row, : len(tokens)] = tokens
            for at in supervised:
                labels[row, at - 1] = tokens[at]
        return ids, labels

    def _row(self, level: NeedleLevel) -> tuple[list[int], list[int]]:
        """Tokens, and the positions of those that are supervised."""
        rng = self.rng
        tokens = [self._bos, *self._intro]
        supervised: list[int] = []
        room = level.length - len(tokens)
        pair_tokens = sum(map(len, self._needle + self._question)) + 11  # with three times the key, twice the value
        prose_tokens = rng.uniform(0.0, level.haystack) * (room - 2 * pair_tokens)
        most = max(2, min(12, int(room - prose_tokens) // pair_tokens))
        pairs = self._pairs(rng.randint(2, most))
        for part in self._among_prose(pairs, prose_tokens):
            if isinstance(part, _Pair):
                before, between, after = self._needle
                tokens += before + part.key + between + part.value + after
            else:
                tokens += part
        rng.shuffle(pairs)
        for pair in pairs:
            before, between, after = self._question
            tokens += before + pair.key + between + pair.key + after
            supervised += range(len(tokens), len(tokens) + len(pair.value) + 1)
            tokens += [*pair.value, self._eos]
        return tokens[: level.length], [at for at in supervised if at < level.length]

    def _among_prose(self, pairs: list[_Pair], prose_tokens: float) -> list[_Pair | list[int]]:
        """The needles in their order, at random places among sentences of about `prose_tokens` tokens."""
        sentences: list[list[int]] = []
        while sum(map(len, sentences)) < prose_tokens:
            sentences.append(self.rng.choice(self._sentences))
        places = sorted(self.rng.randint(0, len(sentences)) for _ in pairs)
        mixed: list[_Pair | list[int]] = list(sentences)
        for place, pair in sorted(zip(places, pairs, strict=True), key=lambda both: both[0], reverse=True):
            mixed.insert(place, pair)
        return mixed

    def _pairs(self, count: int) -> list[_Pair]:
        return [
            _Pair(self._key(key), self._encode(f" {value}"))
            for key, value in zip(
                prose.draw_keys(self.rng, count, reserved=False),
                prose.draw_numbers(self.rng, count, 7, reserved=False),
                strict=True,
            )
        ]

    def _key(self, key: str) -> list[int]:
        adjective, noun = key.split("-")
        return self._adjectives[adjective] + self._nouns[noun]


@dataclass(frozen=True)
class _Pair:
    key: list[int]
    value: list[int]


def _split(tokens: list[int], *slots: list[int]) -> list[list[int]]:
    """Cut `tokens` at every occurrence of each slot, in order; raises ValueError if a slot never occurs."""
    pieces: list[list[int]] = [[]]
    at = found = 0
    while at < len(tokens):
        slot = next((s for s in slots if tokens[at : at + len(s)] == s), None)
        if slot is None:
            pieces[-1].append(tokens[at])
            at += 1
        else:
            pieces.append([])
            at += len(slot)
            found += 1
    if found < len(slots):
        raise ValueError(f"the tokenizer joins a key or value with its neighbours: found {found} of {len(slots)} slots")
    return pieces
