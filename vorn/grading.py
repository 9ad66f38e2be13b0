"""Grading rules: from a completion and the accepted answers to an outcome, versioned by name. Pure Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from vorn import chinese, metrics
from vorn.records import BadInput

_CONTROL = re.compile(r"[\x00-\x1f]")
_THINK = re.compile(r"<think\b[^>]*>.*?(</think\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_STRAY_THINK = re.compile(r"</think\s*>", re.IGNORECASE)
_THINKING = re.compile(r"<(think|thinking)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THINKING = re.compile(r".*</(think|thinking)>", re.DOTALL | re.IGNORECASE)


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
    _check(answers)
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


def without_thinking(completion: str) -> str:
    """The completion without its thinking blocks, `<think>` or `<thinking>`.

    A block that was not closed ends with the completion. Where a chat template has opened the block, the completion
    holds only its end, and everything before that is thinking.
    """
    return _END_OF_THINKING.sub("", _THINKING.sub("", completion))


def ruler_all_2(completion: str, answers: Sequence[str]) -> Graded:
    """`ruler_all@1` of the completion without its thinking blocks."""
    return ruler_all(without_thinking(completion), answers)


def ruler_any_2(completion: str, answers: Sequence[str]) -> Graded:
    """`ruler_any@1` of the completion without its thinking blocks."""
    return ruler_any(without_thinking(completion), answers)


def squad_em(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if the completion equals an answer in SQuAD 1.1's normalisation, otherwise 0.0; thinking blocks left out."""
    return _best(metrics.exact_match, without_thinking(completion).strip(), answers)


def squad_f1(completion: str, answers: Sequence[str]) -> Graded:
    """Best word F1 with an answer, SQuAD 1.1's and LongBench's; thinking blocks left out."""
    return _best(metrics.token_f1, without_thinking(completion).strip(), answers)


def number(completion: str, answers: Sequence[str]) -> Graded:
    """1.0 if one of the numbers of the completion equals an answer, otherwise 0.0; thinking blocks left out.

    Numbers are compared as such: "1,234" is 1234 and not 234. Raises BadInput for an answer that is not one number.
    """
    text = without_thinking(completion).strip()
    _check(answers)
    wanted = []
    for answer in answers:
        found = metrics.numbers(answer)
        if len(found) != 1:
            raise BadInput(f"answer={answer!r} has {len(found)} numbers; grade number@1 needs one; use another grade")
        wanted += found
    return Graded(outcome=float(any(one in wanted for one in metrics.numbers(text))), answer_graded=text)


def longbench_f1_line(completion: str, answers: Sequence[str]) -> Graded:
    """`squad_f1@1` of the first line, as LongBench grades triviaqa."""
    return _best(metrics.token_f1, _first_line(completion), answers)


def longbench_rouge_l(completion: str, answers: Sequence[str]) -> Graded:
    """Best ROUGE-L with an answer, see `metrics.rouge_l`; thinking blocks left out."""
    return _best(metrics.rouge_l, without_thinking(completion), answers)


def longbench_rouge_l_line(completion: str, answers: Sequence[str]) -> Graded:
    """ROUGE-L of the first line, as LongBench grades samsum."""
    return _best(metrics.rouge_l, _first_line(completion), answers)


def longbench_count(completion: str, answers: Sequence[str]) -> Graded:
    """Share of the completion's numbers that are the answer; thinking blocks left out."""
    return _best(metrics.share_of_numbers, without_thinking(completion), answers)


def longbench_retrieval(completion: str, answers: Sequence[str]) -> Graded:
    """Share of the completion's numbers that are the 7 of the answer "Paragraph 7"; thinking blocks left out.

    Raises: BadInput for an answer of another form.
    """
    return _paragraph("Paragraph ", "longbench_retrieval@1", completion, answers)


def longbench_code(completion: str, answers: Sequence[str]) -> Graded:
    """Similarity of the first line of code with the answer, see `metrics.code_similarity`; thinking blocks left out."""
    return _best(metrics.code_similarity, without_thinking(completion), answers)


def longbench_retrieval_zh(completion: str, answers: Sequence[str]) -> Graded:
    """`longbench_retrieval@1` for the answer "段落7". Raises: BadInput for an answer of another form."""
    return _paragraph("段落", "longbench_retrieval_zh@1", completion, answers)


def longbench_f1_zh(completion: str, answers: Sequence[str]) -> Graded:
    """Best word F1 with an answer, see `chinese.token_f1`; thinking blocks left out."""
    return _best(chinese.token_f1, without_thinking(completion).strip(), answers)


def longbench_rouge_l_zh(completion: str, answers: Sequence[str]) -> Graded:
    """Best ROUGE-L with an answer, see `chinese.rouge_l`; thinking blocks left out."""
    return _best(chinese.rouge_l, without_thinking(completion), answers)


def longbench_class_line(completion: str, answers: Sequence[str], choices: Sequence[str]) -> Graded:
    """1 / the number of classes that the first line names, if the answer is among them, see `metrics.class_share`.

    As LongBench grades trec and lsht; thinking blocks left out. Raises: BadInput without classes.
    """
    _check(answers)
    if not choices:
        raise BadInput(
            "choices=[]: grade longbench_class_line@1 needs the classes that a completion may name; give LongBench's "
            "all_classes, or choices in a file of your own, or use another grade"
        )
    return _best(lambda text, answer: metrics.class_share(text, answer, choices), _first_line(completion), answers)


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
        "longbench_f1_line@1": longbench_f1_line,
        "longbench_rouge_l@1": longbench_rouge_l,
        "longbench_rouge_l_line@1": longbench_rouge_l_line,
        "longbench_count@1": longbench_count,
        "longbench_retrieval@1": longbench_retrieval,
        "longbench_code@1": longbench_code,
        "longbench_f1_zh@1": longbench_f1_zh,
        "longbench_rouge_l_zh@1": longbench_rouge_l_zh,
        "longbench_retrieval_zh@1": longbench_retrieval_zh,
    }
)
GRADES: Mapping[str, Rule] = MappingProxyType(
    {
        **{name: _of_answers(rule) for name, rule in _OF_ANSWERS.items()},
        "longbench_class_line@1": longbench_class_line,
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


def _check(answers: Sequence[str]) -> None:
    if isinstance(answers, str) or not answers or not all(answers):
        raise BadInput(
            f"answers={answers!r} cannot be graded: legal is a list of at least one non-empty string; "
            "repair the task that built the fixture"
        )


def _found(completion: str, answers: Sequence[str]) -> tuple[str, list[bool]]:
    _check(answers)
    text = _CONTROL.sub("\n", completion).strip()
    lowered = text.lower()
    return text, [answer.lower() in lowered for answer in answers]


def _best(measure: Callable[[str, str], float], text: str, answers: Sequence[str]) -> Graded:
    _check(answers)
    return Graded(outcome=max(measure(text, answer) for answer in answers), answer_graded=text)


def _paragraph(word: str, rule: str, completion: str, answers: Sequence[str]) -> Graded:
    _check(answers)
    wanted = [metrics.paragraph_number(answer, word) for answer in answers]
    if None in wanted:
        raise BadInput(f"answers={list(answers)!r}: grade {rule} needs {word + '7'!r}; use another grade")
    return _best(metrics.share_of_numbers, without_thinking(completion), [str(one) for one in wanted])


def _first_line(completion: str) -> str:
    return without_thinking(completion).lstrip("\n").split("\n")[0]
