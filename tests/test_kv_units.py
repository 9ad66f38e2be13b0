from __future__ import annotations

import re
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vorn.kv.units import SPLITS, Adaptive, Offsets, Sentences, Tokens, Unit, Words
from vorn.records import BadInput

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def tokenize(text: str) -> list[tuple[int, int]]:
    """Offsets in the manner of byte-level BPE: a space belongs to what follows it, long words are cut."""
    return [match.span() for match in re.finditer(r" ?\w{1,4}| ?[^\w\s]|\s", text)]


def pieces(unit: Unit, text: str, offsets: Offsets | None = None) -> list[str]:
    """The text of each unit."""
    offsets = tokenize(text) if offsets is None else offsets
    numbered = zip(unit(text, offsets), offsets, strict=True)
    return ["".join(text[a:b] for _, (a, b) in group) for _, group in groupby(numbered, key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("One. Two! Three? Four", ["One.", " Two!", " Three?", " Four"]),
        ("Pi is 3.14. So it is.", ["Pi is 3.14.", " So it is."]),
        ("Use fruit, e.g. apples, i.e. food. Then eat.", ["Use fruit, e.g. apples, i.e. food.", " Then eat."]),
        ("Dr. Smith met J. Doe of Acme Inc. today. Good.", ["Dr. Smith met J. Doe of Acme Inc. today.", " Good."]),
        ('He said "Stop." (Really.) She left.', ['He said "Stop."', " (Really.)", " She left."]),
        ("See No. 5. No. I won't.", ["See No. 5.", " No.", " I won't."]),
        ("It was I. He ran.", ["It was I.", " He ran."]),
        ("a heading\nand text\n\nnew one", ["a heading\n", "and text\n\n", "new one"]),
        ("Wait... what?! No", ["Wait...", " what?!", " No"]),
        ("at v1.2.3 and x.y", ["at v1.2.3 and x.y"]),
        ("终わり。次へ", ["终わり。", "次へ"]),
        ("the magic number for A is: 4417. Then", ["the magic number for A is: 4417.", " Then"]),
        ("no stop", ["no stop"]),
        ("Dr.\nSmith", ["Dr.\n", "Smith"]),
    ],
)
def test_sentences(text: str, want: list[str]) -> None:
    assert pieces(Sentences("rules"), text) == want


@quick
@given(text=st.text(alphabet="ab.\n !?3", min_size=1, max_size=30))
def test_words_are_those_of_split(text: str) -> None:
    got = pieces(Words(), text)
    assert "".join(got) == "".join(text[a:b] for a, b in tokenize(text))
    if text.split():
        assert [piece.strip() for piece in got] == text.split()


@quick
@given(
    text=st.text(alphabet='aB.\n !?3"', min_size=1, max_size=30),
    unit=st.sampled_from([Words(), Tokens(), *map(Sentences, SPLITS)]),
)
def test_ids_start_at_0_and_never_skip(text: str, unit: Unit) -> None:
    ids = unit(text, tokenize(text))
    assert ids[0] == 0
    assert all(after - before in (0, 1) for before, after in pairwise(ids))


def test_words_take_the_space_before_them() -> None:
    assert pieces(Words(), "an apple \n pie ") == ["an", " apple", " \n pie "]


def test_tokens_without_text_join_a_neighbour() -> None:
    offsets = [(0, 0), (0, 0), (0, 3), (3, 7), (7, 7)]  # two at the start, one at the end
    assert Words()("One two", offsets) == [0, 0, 0, 1, 1]
    assert Sentences("rules")("", [(0, 0), (0, 0)]) == [0, 0]


def test_a_token_of_several_words_belongs_to_the_first_and_leaves_no_gap() -> None:
    assert Words()("in the house", [(0, 6), (6, 12)]) == [0, 1]


def test_bytes_of_one_character_stay_together() -> None:
    assert Words()("a é", [(0, 1), (1, 3), (2, 3), (2, 3)]) == [0, 1, 1, 1]


def test_bad_offsets_are_refused() -> None:
    with pytest.raises(BadInput, match=r"offsets of token 1 are \(3, 99\), outside the text of 7 characters"):
        Words()("One two", [(0, 3), (3, 99)])
    with pytest.raises(BadInput, match=r"offsets of token 1 are \(0, 3\), before those of an earlier token"):
        Words()("One two", [(3, 7), (0, 3)])


def test_tokens_are_their_positions() -> None:
    assert Tokens()("One two", [(0, 3), (3, 7), (7, 7)]) == [0, 1, 2]
    assert not Tokens.shared
    assert Words.shared
    assert Sentences.shared


def split_at_marks(text: str) -> list[str]:
    """The vorn-mat harness's spans, character by character."""
    spans, span = [], ""
    for character in text:
        span += character
        if character in ".!?\n":
            spans.append(span.strip())
            span = ""
    return [span for span in (*spans, span.strip()) if span]


@quick
@given(text=st.text(alphabet="ab.\n !?3", min_size=1, max_size=30))
def test_marks_end_a_sentence_wherever_they_stand(text: str) -> None:
    characters = [(place, place + 1) for place in range(len(text))]
    got = pieces(Sentences("marks"), text, characters)
    assert "".join(got) == text
    if text.strip():
        assert [piece.strip() for piece in got] == split_at_marks(text)


def test_splits_differ_where_marks_end_no_sentence() -> None:
    text = "Dr. Smith paid 3.14 today. Then"
    assert pieces(Sentences("rules"), text) == ["Dr. Smith paid 3.14 today.", " Then"]
    assert pieces(Sentences("sentencex"), text) == ["Dr. Smith paid 3.14 today.", " Then"]
    assert pieces(Sentences("marks"), text) == ["Dr.", " Smith paid 3.", "14 today.", " Then"]
    # Its offsets count characters, not bytes.
    assert pieces(Sentences("sentencex"), "A \U0001f600 one. Two") == ["A \U0001f600 one.", " Two"]
    assert pieces(Adaptive("marks"), text) == pieces(Sentences("marks"), text)
    assert Adaptive.only_if_peaked
    assert not any(unit.only_if_peaked for unit in (Tokens, Words, Sentences))
    with pytest.raises(BadInput, match=r"unit.split='words': legal values are rules, marks, sentencex"):
        Sentences("words")
