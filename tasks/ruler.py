"""All of RULER as one evaluation: the members' fixtures in turn, each with its own grade and length of completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from vorn.grading import check_rule
from vorn.records import BadInput, Fixture


class _Task(Protocol):
    name: str
    grade: str
    max_new_tokens: int

    def __iter__(self) -> Iterator[Fixture]: ...


@dataclass(frozen=True, kw_only=True)
class Ruler:
    """Fixture 1 of every member, then fixture 2 of every member, and so on; a member that ends is passed over.

    A fixture is the same, id included, as in a run of its member alone.

    Attributes:
        name: of the whole; a fixture's `task` is the name of its member.
        grade: rule of the members that have no other; every fixture names its own.
        max_new_tokens: the longest completion of a member.
        fixtures: how many a run takes in all unless its `limit` says otherwise.
        members: by name, each a function that makes the task when it is given `count_tokens`.
        sequence_tokens, answer_prefix, essay, squad, hotpotqa, seed: the members' configurations refer to them.
        count_tokens: length in tokens of (prompt, answer prefix) as the model reads them.
    """

    name: str
    grade: str
    max_new_tokens: int
    fixtures: int
    members: Mapping[str, Callable[..., _Task]]
    sequence_tokens: int
    answer_prefix: str
    essay: str | None
    squad: str | None
    hotpotqa: str | None
    seed: int
    count_tokens: Callable[[str, str], int]

    def __iter__(self) -> Iterator[Fixture]:
        tasks = [member(count_tokens=self.count_tokens) for member in self.members.values()]
        for task in tasks:
            check_rule(task.grade)
        longest = max((task.max_new_tokens for task in tasks), default=0)
        if longest != self.max_new_tokens:
            raise BadInput(
                f"task.max_new_tokens={self.max_new_tokens}: legal is that of the member of {self.name} with the "
                f"longest completions, {longest}; give that"
            )
        return _in_turn([_marked(task) for task in tasks])


def _marked(task: _Task) -> Iterator[Fixture]:
    for fixture in task:
        yield replace(fixture, task=task.name, grade=task.grade, max_new_tokens=task.max_new_tokens)


def _in_turn(streams: Iterable[Iterator[Fixture]]) -> Iterator[Fixture]:
    left = list(streams)
    while left:
        for stream in list(left):
            fixture = next(stream, None)
            if fixture is None:
                left.remove(stream)
            else:
                yield fixture
