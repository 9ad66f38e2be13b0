"""Grading rules: from a completion and the accepted answers to an outcome, versioned by name. Pure Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from vorn.records import BadInput

_CONTROL = re.compile(r"[\x00-\x1f]")
_THINK = re.compile(r"<think\b[^>]*>.*?(</think\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_STRAY_THINK = re.compile(r"</think\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What a rule made of a completion."""

    outcome: float  # in [0, 1]; 1.0 is a hit
    answer_graded: str  # the text that was compared with the answers


def ruler_all(completion: str, answers: Sequence[str]) -> Graded:
    """Fraction of the answers that occur in the completion, ignoring case.

    Source: RULER c3f5e3b, scripts/eval/synthetic/constants.py `string_match_all` for one prediction, after the
    clean-up of scripts/eval/evaluate.py (every control character becomes a newline, ends stripped).
    """
    text, found = _found(completion, answers)
    return Graded(outcome=sum(found) / len(found), answer_graded=text)


def ruler_any(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if any of the answers occurs in the completion, ignoring case, otherwise 0.0.

    Source: RULER c3f5e3b, scripts/eval/synthetic/constants.py `string_match_part` for one prediction; clean-up as in
    `ruler_all`.
    """
    text, found = _found(completion, answers)
    return Graded(outcome=float(any(found)), answer_graded=text)


def vorn_mat_v1(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if the completion equals an answer, ignoring case, runs of white space and thinking blocks, otherwise 0.0.

    Source: vorn-mat (DOI 10.5281/zenodo.20519215), its exact match, by which its first results were graded.
    """
    _check_answers(answers)
    text = _STRAY_THINK.sub("", _THINK.sub("", completion)).strip()
    plain = [" ".join(one.lower().split()) for one in (text, *answers)]
    return Graded(outcome=float(plain[0] in plain[1:]), answer_graded=text)


def vorn_mat_v2(completion: str, answers: Sequence[str]) -> Graded:
    """As `vorn_mat_v1`; if all answers are digits, one that stands in the completion as a whole number is a hit too.

    Source: vorn-mat, src/vorn_mat/benchmarks/common.py as of 2026-05-28. Departure: the harness searches for numbers
    in the tasks of RULER called niah_ alone; grade other tasks with `vorn_mat_v1`.
    """
    exact = vorn_mat_v1(completion, answers)
    numbers = [answer.strip() for answer in answers]
    found = all(map(str.isdigit, numbers)) and any(
        re.search(rf"(?<!\d){number}(?!\d)", exact.answer_graded) for number in numbers
    )
    return Graded(outcome=max(exact.outcome, float(found)), answer_graded=exact.answer_graded)


GRADES: Mapping[str, Callable[[str, Sequence[str]], Graded]] = MappingProxyType(
    {
        "ruler_all@1": ruler_all,
        "ruler_any@1": ruler_any,
        "vorn_mat_v1@1": vorn_mat_v1,
        "vorn_mat_v2@1": vorn_mat_v2,
    }
)


def grade(rule: str, completion: str, answers: Sequence[str]) -> Graded:
    """Outcome of a completion under the rule of that name and version.

    Args:
        rule: a key of `GRADES`, "ruler_all@1".
        completion: raw model output.
        answers: accepted answers; at least one, none of them empty.
    Raises: BadInput for an unknown rule, for no answers, and for an empty answer (it would occur in any text).
    """
    check_rule(rule)
    return GRADES[rule](completion, answers)


def check_rule(rule: str) -> None:
    """Raise BadInput unless there is a rule of that name and version."""
    if rule not in GRADES:
        near = difflib.get_close_matches(rule, GRADES, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadInput(f"grade={rule!r} is unknown; {hint}legal: {', '.join(sorted(GRADES))}; set the task's grade")


def _found(completion: str, answers: Sequence[str]) -> tuple[str, list[bool]]:
    _check_answers(answers)
    text = _CONTROL.sub("\n", completion).strip()
    lowered = text.lower()
    return text, [answer.lower() in lowered for answer in answers]


def _check_answers(answers: Sequence[str]) -> None:
    if isinstance(answers, str) or not answers or not all(answers):
        raise BadInput(
            f"answers={answers!r} cannot be graded: legal is a list of at least one non-empty string; "
            "repair the task that built the fixture"
        )
