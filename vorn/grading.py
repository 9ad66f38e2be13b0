"""Grading rules: from a completion and the accepted answers to an outcome, versioned by name. Pure Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vorn import longbench, metrics
from vorn.graded import Graded, best, check_answers, without_thinking
from vorn.records import BadInput

_CONTROL = re.compile(r"[\x00-\x1f]")
_THINK = re.compile(r"<think\b[^>]*>.*?(</think\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_STRAY_THINK = re.compile(r"</think\s*>", re.IGNORECASE)


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
    check_answers(answers)
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


def ruler_all_2(completion: str, answers: Sequence[str]) -> Graded:
    """`ruler_all@1` of the completion without its thinking blocks."""
    return ruler_all(without_thinking(completion), answers)


def ruler_any_2(completion: str, answers: Sequence[str]) -> Graded:
    """`ruler_any@1` of the completion without its thinking blocks."""
    return ruler_any(without_thinking(completion), answers)


def squad_em(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if the completion equals an answer in SQuAD 1.1's normalisation, otherwise 0.0; thinking blocks left out."""
    return best(metrics.exact_match, without_thinking(completion).strip(), answers)


def squad_f1(completion: str, answers: Sequence[str]) -> Graded:
    """Best word F1 with an answer, SQuAD 1.1's and LongBench's; thinking blocks left out."""
    return best(metrics.token_f1, without_thinking(completion).strip(), answers)


def number(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if one of the numbers of the completion equals an answer, otherwise 0.0; thinking blocks left out.

    Numbers are compared as such: "1,234" is 1234 and not 234. Raises BadInput for an answer that is not one number.
    """
    text = without_thinking(completion).strip()
    check_answers(answers)
    wanted = []
    for answer in answers:
        found = metrics.numbers(answer)
        if len(found) != 1:
            raise BadInput(f"answer={answer!r} has {len(found)} numbers; grade number@1 needs one; use another grade")
        wanted += found
    return Graded(outcome=float(any(one in wanted for one in metrics.numbers(text))), answer_graded=text)


def _of_answers(rule: Callable[[str, Sequence[str]], Graded]) -> Rule:
    return lambda completion, answers, choices: rule(completion, answers)


Rule = Callable[[str, Sequence[str], Sequence[str]], Graded]  # of completion, answers and choices

_OF_ANSWERS: Mapping[str, Callable[[str, Sequence[str]], Graded]] = MappingProxyType(
    {
        "ruler_all@1": ruler_all,
        "ruler_any@1": ruler_any,
        "vorn_mat_v1@1": vorn_mat_v1,
        "vorn_mat_v2@1": vorn_mat_v2,
        "ruler_all@2": ruler_all_2,
        "ruler_any@2": ruler_any_2,
        "squad_em@1": squad_em,
        "squad_f1@1": squad_f1,
        "number@1": number,
        "longbench_f1_line@1": longbench.f1_line,
        "longbench_rouge_l@1": longbench.rouge_l,
        "longbench_rouge_l_line@1": longbench.rouge_l_line,
        "longbench_count@1": longbench.count,
        "longbench_retrieval@1": longbench.retrieval,
        "longbench_code@1": longbench.code,
        "longbench_f1_zh@1": longbench.f1_zh,
        "longbench_rouge_l_zh@1": longbench.rouge_l_zh,
        "longbench_retrieval_zh@1": longbench.retrieval_zh,
    }
)
GRADES: Mapping[str, Rule] = MappingProxyType(
    {
        **{name: _of_answers(rule) for name, rule in _OF_ANSWERS.items()},
        "longbench_class_line@1": longbench.class_line,
    }
)


def grade(rule: str, completion: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Graded:
    """Outcome of a completion under the rule of that name and version.

    Args:
        rule: a key of `GRADES`, "ruler_all@1".
        completion: raw model output.
        answers: accepted answers; at least one, none of them empty.
        choices: all texts that are answers to questions of its kind, where the rule looks for the others too.
    Raises: BadInput for an unknown rule, for no answers, and for an empty answer (it would occur in any text).
    """
    check_rule(rule)
    return GRADES[rule](completion, answers, choices)


def check_rule(rule: str) -> None:
    """Raise BadInput unless there is a rule of that name and version."""
    if rule not in GRADES:
        near = difflib.get_close_matches(rule, GRADES, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadInput(f"grade={rule!r} is unknown; {hint}legal: {', '.join(sorted(GRADES))}; set the task's grade")


def _found(completion: str, answers: Sequence[str]) -> tuple[str, list[bool]]:
    check_answers(answers)
    text = _CONTROL.sub("\n", completion).strip()
    lowered = text.lower()
    return text, [answer.lower() in lowered for answer in answers]
