"""What a grading rule makes of a completion, and what rules share. Pure Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vorn.records import BadInput

_THINKING = re.compile(r"<(think|thinking)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THINKING = re.compile(r".*</(think|thinking)>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What a rule made of a completion."""

    outcome: float  # in [0, 1]; 1.0 is a hit
    answer_graded: str  # the text that was compared with the answers


def without_thinking(completion: str) -> str:
    """The completion without its thinking blocks, `<think>` or `<thinking>`.

    A block that was not closed ends with the completion. Where a chat template has opened the block, the completion
    holds only its end, and everything before that is thinking.
    """
    return _END_OF_THINKING.sub("", _THINKING.sub("", completion))


def check_answers(answers: Sequence[str]) -> None:
    """Raises BadInput unless there is at least one answer, and none is empty."""
    if isinstance(answers, str) or not answers or not all(answers):
        raise BadInput(
            f"answers={answers!r} cannot be graded: legal is a list of at least one non-empty string; "
            "repair the task that built the fixture"
        )


def best(measure: Callable[[str, str], float], text: str, answers: Sequence[str]) -> Graded:
    """The best that `measure` says of the text beside one of the answers."""
    check_answers(answers)
    return Graded(outcome=max(measure(text, answer) for answer in answers), answer_graded=text)
