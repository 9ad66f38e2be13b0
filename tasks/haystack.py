"""Haystacks: RULER's repeated noise, and essays that the user brings or that are invented here."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from tasks import prose
from vorn.records import BadInput

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
INVENTED = "invented"
_INVENTED_SENTENCES = 4000


@dataclass(frozen=True)
class Essay:
    """A text as words, repeated as often as needed, that can be cut after any word and opened between sentences."""

    words: tuple[str, ...]

    @cached_property
    def starts(self) -> list[int]:
        """Indices of the words that begin a sentence: the first, and those after a word that ends with . ! or ?"""
        ends = (word.rstrip("\"')]”’").endswith((".", "!", "?")) for word in self.words[:-1])  # noqa: RUF001
        return [0, *(index for index, ended in enumerate(ends, start=1) if ended)]

    @cached_property
    def pieces(self) -> list[str]:
        """What each word adds to the text."""
        return [" " + word for word in self.words]

    @cached_property
    def sentence_pieces(self) -> list[str]:
        """What each sentence adds to the text."""
        return [" " + " ".join(self.words[first:last]) for first, last in pairwise([*self.starts, len(self.words)])]

    def words_of(self, sentences: int) -> int:
        """Number of words of the first `sentences` sentences."""
        return self.starts[sentences] if sentences < len(self.starts) else len(self.words)

    def sentences(self, count: int) -> int:
        """Number of sentences among the first `count` words; the last may be cut."""
        return bisect_left(self.starts, count)

    def cut(self, first: int, last: int, count: int) -> str:
        """Sentences `first` to `last`, the latter excluded, of the first `count` words."""
        stop = self.starts[last] if last < len(self.starts) else count
        return " ".join(self.words[self.starts[first] : min(stop, count)]) if first < last else ""


@cache
def read_essay(source: str, words: int) -> Essay:
    """The first `words` words of an essay, repeated if it has fewer.

    Args:
        source: a text file, a JSON file with the key `text` (as RULER's download script writes it), or `invented`:
            prose that ships here.
        words: how many are needed.
    Raises: BadInput if there is no such file or no text in it.
    """
    found = _invented() if source == INVENTED else tuple(_read(Path(source)).split())
    if not found:
        raise BadInput(f"task.essay={source!r} holds no words; give a file with text")
    return Essay((found * (words // len(found) + 1))[:words])


def check_essay(source: str | None, needed_by: str) -> str:
    """The source of an essay; raises BadInput if none was named."""
    if not isinstance(source, str) or not source:
        raise BadInput(
            f"task.essay={source!r}: {needed_by} hides its needles in essays, which do not ship here; give "
            f"task.essay=FILE (text, or JSON with the key text), or task.essay={INVENTED} for invented prose, which is "
            "not what was published"
        )
    return source


def spread(rng: random.Random, needles: int, sentences: int) -> list[int]:
    """Before which sentences the needles stand, ascending: depths are drawn from 40 between 0 and 100 %, as RULER's.

    Source: RULER c3f5e3b, scripts/data/synthetic/niah.py.
    """
    depths = rng.sample([round(step * 100 / 39) for step in range(40)], needles)
    return sorted(sentences * depth // 100 for depth in depths)


def among(rng: random.Random, needles: int, lines: int) -> list[int]:
    """Before which of `lines` lines the needles stand: different ones, ascending."""
    return sorted(rng.sample(range(lines), needles))


def with_inserted(lines: Sequence[str], places: Sequence[int], inserted: Sequence[str]) -> list[tuple[str, bool]]:
    """The lines with the inserted ones at their places; the flag says which are inserted."""
    found: list[tuple[str, bool]] = []
    done = 0
    for place, text in zip(places, inserted, strict=True):
        found += [(line, False) for line in lines[done:place]]
        found.append((text, True))
        done = place
    return found + [(line, False) for line in lines[done:]]


def _read(path: Path) -> str:
    if not path.is_file():
        raise BadInput(
            f"task.essay={str(path)!r} is no file; give a text file, a JSON file with the key text, or invented"
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return text
    value = json.loads(text)
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise BadInput(f"task.essay={str(path)!r} is JSON without the key text; give an object whose text is a string")
    return str(value["text"])


def _invented() -> tuple[str, ...]:
    rng = random.Random("essay")
    return tuple(" ".join(prose.sentence(rng) for _ in range(_INVENTED_SENTENCES)).split())
