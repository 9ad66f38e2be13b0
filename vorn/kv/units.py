"""What is kept or dropped whole: each prompt token's unit, from the prompt's text and the tokens' offsets. No torch."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from vorn.records import BadInput

Offsets = Sequence[tuple[int, int]]  # (start, end) characters of each token in the text, end exclusive

FITS = ("prefix", "drop_lowest")
POOLS = ("max", "mean", "topk_mean")
SPLITS = ("rules", "marks", "sentencex")

_WORD = re.compile(r"\S+")
# A run of terminators with the quotes and brackets that close it, standing before white space or at the end. Full-width
# terminators need no space after them; a line break ends a sentence with or without a terminator.
_STOP = re.compile(r"(?P<marks>[.!?…]+)[\"'”’»)\]}*_]*(?=\s|$)|[。！？]+[」』”’）]*|\n+")  # noqa: RUF001
_MARK = re.compile(r"[.!?\n]")
_LAST_WORD = re.compile(r"[^\s(\[{\"'“‘]+$")  # noqa: RUF001
_DOTTED = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # "e.g", "U.S", "J": letters with dots between them
_TITLES = re.compile(
    r"dr|mr|mrs|ms|prof|sr|jr|st|rev|gen|col|sgt|capt|lt|hon|vs|cf|al|approx|dept|est|inc|ltd", re.IGNORECASE
)
_BEFORE_NUMBER = re.compile(r"nos?|figs?|eqs?|sec|ch|vol|pp?|art", re.IGNORECASE)  # "No. 5", but "No. I won't."
_NEXT = re.compile(r"[ \t]*([^ \t\n])")
_VISIBLE = re.compile(r"\S")


@dataclass(frozen=True)
class UnitRule:
    """How ranked units become kept tokens; without effect on token units.

    Attributes:
        fill: spend what whole units leave of the budget on the best remaining single tokens.
        fit: `prefix` protects the guard tokens and ranks their units like any other; `drop_lowest` keeps every unit
            that touches a guard whole, as the vorn-mat paper's harness does. Both keep the longest prefix of the
            ranked units that fits, which is the same as dropping the lowest units until the rest fits.
        pool: score of a unit from its tokens' scores: `max`, `mean`, or `topk_mean`, the mean of its `top_k` best.
        top_k: tokens that `topk_mean` averages; all of them in a shorter unit.
    """

    fill: bool
    fit: str
    pool: str
    top_k: int

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise BadInput(f"unit.fit={self.fit!r}: legal values are {', '.join(FITS)}; choose one of them")
        if self.pool not in POOLS:
            raise BadInput(f"unit.pool={self.pool!r}: legal values are {', '.join(POOLS)}; choose one of them")
        if self.top_k < 1:
            raise BadInput(f"unit.top_k={self.top_k!r}: must be at least 1 token; raise unit.top_k")


class Unit(Protocol):
    """A segmentation of the prompt.

    Attributes:
        shared: one set for all layers and heads; others rank per layer and head.
        only_if_peaked: whole units where the best of them stands out more than the best token does, else tokens.
    """

    shared: ClassVar[bool]
    only_if_peaked: ClassVar[bool]

    def __call__(self, text: str, offsets: Offsets) -> list[int]:
        """Unit id of every token: starts at 0, never falls, rises by at most 1."""


@dataclass(frozen=True)
class Tokens:
    """Every token is its own unit, and may be kept in one layer or head and dropped in another."""

    shared: ClassVar[bool] = False
    only_if_peaked: ClassVar[bool] = False

    def __call__(self, text: str, offsets: Offsets) -> list[int]:
        """Unit id of every token: its position."""
        return list(range(len(offsets)))


@dataclass(frozen=True)
class Words:
    """Words between white space; the space before a word belongs to it, that at the end of the text to the last one.

    Tokens without text (special tokens with empty offsets) join the unit before them, at the start the first unit.
    """

    shared: ClassVar[bool] = True
    only_if_peaked: ClassVar[bool] = False

    def __call__(self, text: str, offsets: Offsets) -> list[int]:
        """Unit id of every token. Raises BadInput if offsets go backwards or leave the text."""
        ends = [match.end() for match in _WORD.finditer(text)]
        return _assign(text, offsets, ends[:-1])


@dataclass(frozen=True)
class Sentences:
    """Sentences; white space after a sentence belongs to it.

    Tokens without text (special tokens with empty offsets) join the unit before them, at the start the first unit.

    Attributes:
        split: where sentences end.
            `rules`: after . ! ? (with closing quotes or brackets) before white space, or at a line break; but a full
            stop within a number or word ("3.14", "v1.2"), after an initial or dotted abbreviation ("J.", "e.g."),
            after a title ("Dr.") or before a number ("No. 5") ends nothing.
            `marks`: at every . ! ? and line break, wherever it stands, as in the vorn-mat paper's harness.
            `sentencex`: where Wikimedia's segmenter of that name says, by its rules for English.
    """

    split: str

    shared: ClassVar[bool] = True
    only_if_peaked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise BadInput(f"unit.split={self.split!r}: legal values are {', '.join(SPLITS)}; choose one of them")

    def __call__(self, text: str, offsets: Offsets) -> list[int]:
        """Unit id of every token. Raises BadInput if offsets go backwards or leave the text."""
        starts = (_VISIBLE.search(text, end) for end in _ENDS[self.split](text))
        first = len(text) - len(text.lstrip())  # white space before the first sentence belongs to it
        return _assign(text, offsets, sorted({start.start() for start in starts if start and start.start() > first}))


@dataclass(frozen=True)
class Adaptive(Sentences):
    """Sentences where their best score stands out more than the best token's does (peak z-score), else single tokens.

    Decided for each prompt and score; pooled as `unit.pool` says. Source: vorn-mat 2589773, live_eviction.py, which
    decides anew at every eviction.
    """

    only_if_peaked: ClassVar[bool] = True


def _rule_ends(text: str) -> list[int]:
    return [match.end() for match in _STOP.finditer(text) if not _is_abbreviation(text, match)]


def _mark_ends(text: str) -> list[int]:
    return [match.end() for match in _MARK.finditer(text)]


def _sentencex_ends(text: str) -> list[int]:
    from sentencex import get_sentence_boundaries

    return [int(boundary["end_index"]) for boundary in get_sentence_boundaries("en", text)]


_ENDS: dict[str, Callable[[str], list[int]]] = {
    "rules": _rule_ends,
    "marks": _mark_ends,
    "sentencex": _sentencex_ends,
}


def _is_abbreviation(text: str, stop: re.Match[str]) -> bool:
    if stop.group("marks") != ".":
        return False
    word = _LAST_WORD.search(text, max(0, stop.start() - 24), stop.start())
    following = _NEXT.match(text, stop.end())
    if word is None or following is None:
        return False
    body = word.group()
    if _DOTTED.fullmatch(body):
        return len(body) > 1 or (body.isupper() and body != "I")
    return bool(_TITLES.fullmatch(body) or (_BEFORE_NUMBER.fullmatch(body) and following.group(1).isdigit()))


def _assign(text: str, offsets: Offsets, boundaries: Sequence[int]) -> list[int]:
    """Dense unit ids: a token belongs where its first visible character lies; `boundaries` open the units after 0."""
    ids: list[int] = []
    previous_place, previous_unit = -1, 0
    for index, (start, end) in enumerate(offsets):
        if not 0 <= start <= end <= len(text):
            raise BadInput(
                f"offsets of token {index} are {(start, end)}, outside the text of {len(text)} characters; "
                "pass the text that was tokenized"
            )
        if start == end:
            ids.append(ids[-1] if ids else 0)
            continue
        visible = _WORD.search(text, start, end)
        place = visible.start() if visible else start
        if place < previous_place:
            raise BadInput(
                f"offsets of token {index} are {(start, end)}, before those of an earlier token; units need a "
                "tokenizer whose offsets never go backwards, use unit=token with this one"
            )
        unit = bisect_right(boundaries, place)
        # Units in which no token starts vanish, so that ids stay dense.
        ids.append(ids[-1] + (unit > previous_unit and previous_place >= 0) if ids else 0)
        previous_place, previous_unit = place, unit
    return ids
