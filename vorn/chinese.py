"""Measures of Chinese texts as LongBench defines them, whose words come from the package jieba. Pure Python."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from functools import cache
from typing import Any

from vorn import metrics
from vorn.records import BadInput

# What LongBench takes for punctuation, by code points: ASCII, full-width forms without the full stop, half-width marks,
# CJK marks without the angle brackets but one, dashes, quotes and dots.
_PUNCTUATION = re.compile(
    "[!-/:-@[-`{-~"
    "\uff01-\uff0d\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff64"
    "\u3001-\u3003\u300b-\u3011\u3014-\u301f\u3030\u303e\u303f"
    "\u2013\u2014\u2018\u2019\u201b-\u201f\u2026\u2027\ufe4f]"
)


def token_f1(completion: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the multiset of words, without punctuation, in lower case.

    Source: LongBench's `qa_f1_zh_score`. Punctuation goes after the text was split, so that it does part words.
    Raises: BadInput if jieba is not installed.
    """
    said, wanted = ([word for word in map(_plain, words(text)) if word] for text in (completion, answer))
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_l(completion: str, answer: str) -> float:
    """`metrics.rouge_l` of the words with spaces between them. Source: LongBench's `rouge_zh_score`.

    A Chinese full stop is a word like others: sentences are split at ASCII ones, also at that of 3.5.
    Raises: BadInput if jieba is not installed.
    """
    return metrics.rouge_l(" ".join(words(completion)), " ".join(words(answer)))


def words(text: str) -> list[str]:
    """The text's words, with punctuation and white space as words of their own."""
    return list(_segmenter().cut(text, cut_all=False))


def _plain(word: str) -> str:
    return "".join(_PUNCTUATION.sub("", word.lower()).split())


@cache
def _segmenter() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own sources, which nobody here can mend
            import jieba
    except ImportError as error:
        raise BadInput(
            "grades of Chinese texts split words with the package jieba, which is not installed; install it: "
            "pip install 'vorn[longbench]'"
        ) from error
    segmenter = jieba.Tokenizer()
    # Left alone it would take its dictionary from a file in the common temporary folder, which anybody may have put
    # there, and say so; reading the dictionary that it came with takes as long, less than a second.
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter
