"""LongBench's grading rules (arXiv:2308.14508), as functions of a completion and the accepted answers. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence

from vorn import chinese, metrics
from vorn.graded import Graded, best, check_answers, without_thinking
from vorn.records import BadInput


def f1_line(completion: str, answers: Sequence[str]) -> Graded:
    """`squad_f1@1` of the first line, as LongBench grades triviaqa."""
    return best(metrics.token_f1, _first_line(completion), answers)


def rouge_l(completion: str, answers: Sequence[str]) -> Graded:
    """Best ROUGE-L with an answer, see `metrics.rouge_l`; thinking blocks left out."""
    return best(metrics.rouge_l, without_thinking(completion), answers)


def rouge_l_line(completion: str, answers: Sequence[str]) -> Graded:
    """ROUGE-L of the first line, as LongBench grades samsum."""
    return best(metrics.rouge_l, _first_line(completion), answers)


def count(completion: str, answers: Sequence[str]) -> Graded:
    """Share of the completion's numbers that are the answer; thinking blocks left out."""
    return best(metrics.share_of_numbers, without_thinking(completion), answers)


def retrieval(completion: str, answers: Sequence[str]) -> Graded:
    """Share of the completion's numbers that are the 7 of the answer "Paragraph 7"; thinking blocks left out.

    Raises: BadInput for an answer of another form.
    """
    return _paragraph("Paragraph ", "longbench_retrieval@1", completion, answers)


def code(completion: str, answers: Sequence[str]) -> Graded:
    """Similarity of the first line of code with the answer, see `metrics.code_similarity`; thinking blocks left out."""
    return best(metrics.code_similarity, without_thinking(completion), answers)


def retrieval_zh(completion: str, answers: Sequence[str]) -> Graded:
    """`longbench_retrieval@1` for the answer "段落7". Raises: BadInput for an answer of another form."""
    return _paragraph("段落", "longbench_retrieval_zh@1", completion, answers)


def f1_zh(completion: str, answers: Sequence[str]) -> Graded:
    """Best word F1 with an answer, see `chinese.token_f1`; thinking blocks left out."""
    return best(chinese.token_f1, without_thinking(completion).strip(), answers)


def rouge_l_zh(completion: str, answers: Sequence[str]) -> Graded:
    """Best ROUGE-L with an answer, see `chinese.rouge_l`; thinking blocks left out."""
    return best(chinese.rouge_l, without_thinking(completion), answers)


def class_line(completion: str, answers: Sequence[str], choices: Sequence[str]) -> Graded:
    """1 / the number of classes that the first line names, if the answer is among them, see `metrics.class_share`.

    As LongBench grades trec and lsht; thinking blocks left out. Raises: BadInput without classes.
    """
    check_answers(answers)
    if not choices:
        raise BadInput(
            "choices=[]: grade longbench_class_line@1 needs the classes that a completion may name; give LongBench's "
            "all_classes, or choices in a file of your own, or use another grade"
        )
    return best(lambda text, answer: metrics.class_share(text, answer, choices), _first_line(completion), answers)


def _paragraph(word: str, rule: str, completion: str, answers: Sequence[str]) -> Graded:
    check_answers(answers)
    wanted = [metrics.paragraph_number(answer, word) for answer in answers]
    if None in wanted:
        raise BadInput(f"answers={list(answers)!r}: grade {rule} needs {word + '7'!r}; use another grade")
    return best(metrics.share_of_numbers, without_thinking(completion), [str(one) for one in wanted])


def _first_line(completion: str) -> str:
    return without_thinking(completion).lstrip("\n").split("\n")[0]
