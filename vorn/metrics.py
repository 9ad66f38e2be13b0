"""Measures that compare a completion with one answer, as their benchmarks define them. Pure Python."""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Digits with thousands separators or without, with or without decimals; a minus sign only where no word ends before it.
_NUMBER = re.compile(r"(?:(?<!\w)-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")


def squad_words(text: str) -> list[str]:
    """Words in lower case without ASCII punctuation and articles.

    Source: the evaluation script of SQuAD 1.1 (arXiv:1606.05250), `normalize_answer`.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(completion: str, answer: str) -> float:
    """1.0 if both have the same words in the same order after SQuAD's normalisation, otherwise 0.0."""
    return float(squad_words(completion) == squad_words(answer))


def token_f1(completion: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the multiset of words, after SQuAD's normalisation.

    Source: SQuAD 1.1's evaluation script; LongBench's `qa_f1_score` is the same.
    """
    said, wanted = squad_words(completion), squad_words(answer)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_l(completion: str, answer: str) -> float:
    """ROUGE-L of summaries as LongBench takes it from the package `rouge` 1.0.1, `rouge-l`, `f`.

    Sentences are split at full stops, words at white space. The union of the longest common subsequences of each
    answer sentence with each completion sentence is counted in different words, over the different words of either
    side; F1 has 1e-8 in its denominator. Departure: a sentence of any length is read, where `rouge` exceeds Python's
    recursion limit and LongBench gives 0.
    """
    said, wanted = _sentences(completion), _sentences(answer)
    if not said or not wanted:
        return 0.0
    found: set[str] = set()
    for ours in wanted:
        for theirs in said:
            found.update(_common_subsequence(ours, theirs))
    precision = len(found) / len({word for words in said for word in words})
    recall = len(found) / len({word for words in wanted for word in words})
    return 2 * precision * recall / (precision + recall + 1e-8)


def code_similarity(completion: str, answer: str) -> float:
    """Similarity of the first line of code, in whole per cent / 100.

    Lines with a backtick, `#` or `//` are passed over. Source: LongBench's `code_sim_score`, whose `fuzz.ratio` of
    fuzzywuzzy without python-Levenshtein is difflib's ratio, rounded.
    """
    lines = completion.lstrip("\n").split("\n")
    first = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if not first or not answer:
        return 0.0
    return round(100 * difflib.SequenceMatcher(None, first, answer).ratio()) / 100


def share_of_numbers(completion: str, number: str) -> float:
    """Share of the runs of digits in the completion that are `number`; 0.0 without any. LongBench's `count_score`."""
    runs = re.findall(r"\d+", completion)
    return runs.count(number) / len(runs) if runs else 0.0


def paragraph_number(answer: str, word: str) -> str | None:
    """The number right behind `word`, as in LongBench's "Paragraph 7" and "段落7", or None."""
    match = re.search(rf"{word}(\d+)", answer)
    return match[1] if match else None


def class_share(completion: str, answer: str, classes: Sequence[str]) -> float:
    """1 / the number of classes that occur in the completion if the answer is one of them, otherwise 0.0.

    A class that is a part of the answer's name does not count. Source: LongBench's `classification_score`, which
    passes over the class that follows one that it has just taken out; kept, since published results have it.
    """
    named = [name for name in classes if name in completion]
    for place in range(len(named)):
        if place < len(named) and named[place] in answer and named[place] != answer:
            del named[place]
    return 1 / len(named) if answer in named else 0.0


def numbers(text: str) -> list[Decimal]:
    """The numbers of a text: "1,234.50" and "1234.5" are the same, and "123" does not occur in "12345"."""
    return [Decimal(found.replace(",", "")) for found in _NUMBER.findall(text)]


def _sentences(text: str) -> list[list[str]]:
    # `rouge` keeps a part of white space only as a sentence whose one word is empty.
    return [part.split() or [""] for part in text.split(".") if part]


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """One longest common subsequence; among several, the one that `rouge` finds."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, ours in enumerate(first, start=1):
        row, above = lengths[i], lengths[i - 1]
        for j, theirs in enumerate(second, start=1):
            row[j] = above[j - 1] + 1 if ours == theirs else max(above[j], row[j - 1])
    i, j, found = len(first), len(second), []
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(first[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
