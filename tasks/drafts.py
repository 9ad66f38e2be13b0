"""What generated tasks share: prompts that know where their evidence stands, and how fixtures are made of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from tasks.fitting import Lengths
from vorn.records import Axes, BadInput, Fixture

PREFIX_TURNS = ("assistant", "user", "none")


class Writing:
    """A text that grows, and the spans of it that are evidence."""

    def __init__(self, text: str = "") -> None:
        self._parts = [text]
        self.length = len(text)
        self.evidence: list[tuple[int, int]] = []

    def add(self, text: str, evidence: bool = False) -> None:
        """Append `text`; as evidence, a reader needs it to answer."""
        if evidence:
            self.evidence.append((self.length, self.length + len(text)))
        self._parts.append(text)
        self.length += len(text)

    @property
    def text(self) -> str:
        """All that was added."""
        return "".join(self._parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One prompt before it is known in whose turn the beginning of its answer stands."""

    context: Writing
    question: str
    prefix: str  # the beginning of the answer; "" for none
    answers: tuple[str, ...]
    cluster: str = ""
    axes: Axes | None = None
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)

    def fixture(self, fixture_id: str, turn: str) -> Fixture:
        """The fixture, with the prefix in the turn of `turn`, see `PREFIX_TURNS`."""
        context = self.context.text
        return Fixture(
            fixture_id=fixture_id,
            prompt=context + self.question + (self.prefix if turn == "user" else ""),
            answer_prefix=self.prefix if turn == "assistant" else "",
            question_start=len(context),
            answers=self.answers,
            evidence=tuple(self.context.evidence),
            cluster=self.cluster,
            axes=self.axes,
            metadata={**self.metadata, "answer_prefix_turn": turn if self.prefix else "none"},
        )


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Settings of every generated task, and what follows from them.

    Iterating yields fixtures in a fixed order: fixture i depends on name, `seed`, i and the tokenizer alone, so that a
    longer run begins with the fixtures of a shorter one.

    Attributes:
        name: begins the fixtures' ids.
        grade: rule of `vorn.grading` for the completions.
        max_new_tokens: completions end there, if not before.
        sequence_tokens: most tokens of rendered prompt and completion together; the prompt is as long as fits.
        answer_prefix: where the beginning of the answer stands: `assistant`, after the assistant's header of a chat
            template; `user`, at the end of the user's turn; `none`, nowhere. Without a chat template the first two are
            the same text.
        fixtures: how many a run takes unless its `limit` says otherwise; there is no end to them.
        seed: changes every fixture.
        count_tokens: length in tokens of (prompt, answer prefix) as the model reads them.
    """

    name: str
    grade: str
    max_new_tokens: int
    sequence_tokens: int
    answer_prefix: str
    fixtures: int
    seed: int
    count_tokens: Callable[[str, str], int]

    length_setting: ClassVar[str] = "sequence_tokens"  # what a user sets `sequence_tokens` by, for messages

    def __post_init__(self) -> None:
        check_whole(self, "fixtures", 1, 10**9)
        check_whole(self, "max_new_tokens", 1, 10**9)
        check_whole(self, "sequence_tokens", 2, 10**9)
        check_choice(self, "answer_prefix", PREFIX_TURNS)

    def __iter__(self) -> Iterator[Fixture]:
        return map(self.fixture, itertools.count())

    def fixture(self, index: int) -> Fixture:
        """Fixture number `index`; raises BadInput if `sequence_tokens` cannot hold it."""
        return self.draft(index).fixture(f"{self.name}/seed{self.seed}/{index}", self.answer_prefix)

    def draft(self, index: int) -> Draft:
        """The prompt of fixture `index`; a task that orders its fixtures in another way has an `__iter__` instead."""
        raise NotImplementedError

    def rng(self, index: int, what: str = "") -> random.Random:
        """The generator of fixture `index`; another `what` gives independent numbers."""
        return random.Random(f"{self.name}/{self.seed}/{index}/{what}")

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a rendered prompt."""
        return self.sequence_tokens - self.max_new_tokens

    @cached_property
    def lengths(self) -> Lengths:
        """Of pieces of text."""
        return Lengths(self.count_tokens)

    def fitted(self, make: Callable[[int], Draft], pieces: Sequence[str], least: int = 0) -> Draft:
        """The draft with as many pieces as fit; raises BadInput if `least` do not.

        Args:
            make: the draft with so many pieces.
            pieces: text that each piece adds to it.
            least: fewest pieces that are legal.
        """

        def tokens(count: int) -> int:
            made = make(count).fixture("", self.answer_prefix)
            return self.count_tokens(made.prompt, made.answer_prefix)

        count = self.lengths.fit(self.prompt_tokens, tokens, pieces, least)
        if count is None:
            raise BadInput(
                f"task.{self.length_setting}={self.sequence_tokens} of {self.name} cannot hold its shortest prompt and "
                f"max_new_tokens={self.max_new_tokens}; raise it to >= {tokens(least) + self.max_new_tokens}"
            )
        return make(count)


def check_whole(task: object, field: str, low: int, high: int) -> None:
    """Raise BadInput unless the task's `field` is a whole number from `low` to `high`."""
    check_number(field, getattr(task, field), low, high)


def check_number(field: str, value: object, low: int, high: int) -> None:
    """Raise BadInput unless `value`, or one of those, of the task's `field` is a whole number from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise BadInput(f"task.{field}={value!r}: legal values are whole numbers from {low} to {high}; choose one")


def check_choice(task: object, field: str, legal: Sequence[str]) -> None:
    """Raise BadInput unless the task's `field` is one of `legal`."""
    value = getattr(task, field)
    if value not in legal:
        raise BadInput(f"task.{field}={value!r}: legal values are {', '.join(legal)}; choose one")
