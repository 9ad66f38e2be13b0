"""LongBench's measures of classes and of Chinese texts, against values worked out by hand or by its own packages."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.composing import ROOT
from vorn import chinese
from vorn.grading import grade
from vorn.records import BadInput


@pytest.fixture(scope="module", autouse=True)
def _dictionary() -> None:
    """Read it before a property test counts the time."""
    chinese.words("")


CLASSES = ("Food", "Date", "Num", "Number", "Number of something", "Sport")


@pytest.mark.parametrize(
    ("completion", "answer", "outcome"),
    [
        ("Date", "Date", 1.0),
        ("Type: Date.", "Date", 1.0),
        ("date", "Date", 0.0),  # case counts
        ("Date or Food", "Date", 1 / 2),
        ("Food, Date, Sport", "Date", 1 / 3),
        ("Sport", "Date", 0.0),
        ("", "Date", 0.0),
        ("\n\nDate\nFood", "Date", 1.0),  # the first line
        ("Food\nDate", "Date", 0.0),
        ("<think>Food</think>Date", "Date", 1.0),
        ("Number", "Number", 1 / 1),  # Num is a part of the answer's name
        # Num is taken out, Number is passed over then and stays: as published.
        ("Number of something", "Number of something", 1 / 2),
        ("Number of something", "Number", 1 / 2),  # the longer class is no part of the answer's name
        ("Colour", "Colour", 0.0),  # no class at all
    ],
)
def test_classes_named_in_the_first_line_share_the_point(completion: str, answer: str, outcome: float) -> None:
    assert grade("longbench_class_line@1", completion, [answer], CLASSES).outcome == outcome


def test_the_best_of_several_answers_counts() -> None:
    assert grade("longbench_class_line@1", "Date", ["Food", "Date"], CLASSES).outcome == 1.0


@given(st.lists(st.sampled_from(CLASSES), max_size=4), st.sampled_from(CLASSES))
def test_naming_the_answer_never_hurts_and_another_class_never_helps(said: list[str], answer: str) -> None:
    def outcome(*more: str) -> float:
        return grade("longbench_class_line@1", "; ".join([*said, *more]), [answer], CLASSES).outcome

    assert outcome(answer) >= outcome()
    for other in set(CLASSES) - {answer}:
        assert outcome(answer, other) <= outcome(answer)


def test_classes_are_needed() -> None:
    with pytest.raises(BadInput, match=r"choices=\[\]: grade longbench_class_line@1 needs the classes"):
        grade("longbench_class_line@1", "Date", ["Date"])


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [("段落7", 1.0), ("是段落7，不是段落17或77", 1 / 3), ("7", 1.0), ("17", 0.0), ("七", 0.0), ("", 0.0)],
)
def test_chinese_paragraphs_are_told_by_their_numbers(completion: str, outcome: float) -> None:
    assert grade("longbench_retrieval_zh@1", completion, ["段落7"]).outcome == pytest.approx(outcome)


@pytest.mark.parametrize("answer", ["Paragraph 7", "7", "段落 7"])
def test_a_chinese_paragraph_is_needed(answer: str) -> None:
    with pytest.raises(BadInput, match="grade longbench_retrieval_zh@1 needs '段落7'; use another grade"):
        grade("longbench_retrieval_zh@1", "7", [answer])


@pytest.mark.parametrize(
    ("completion", "answer", "f1"),
    [
        ("北京。", "北京", 1.0),
        ("GPT 模型", "gpt模型", 1.0),  # case and spaces
        ("人民币57081.86元", "57081.86元", 0.8),  # 人民币 / 5708186 / 元: the point goes, the number stays one word
        ("答案是北京大学", "北京大学", 0.5),  # 答案 / 是 / 北京大学
        ("北京 北京", "北京", 2 / 3),
        ("第三季度", "第 三 季度", 0.0),  # a space parts words
        ("《红楼梦》", "红楼梦", 2 / 3),  # 《 is a word, as published; 》 is punctuation
        ("，。！", "北京", 0.0),
        ("<think>北京</think>上海", "上海", 1.0),
    ],
)
def test_chinese_f1_counts_words(completion: str, answer: str, f1: float) -> None:
    assert grade("longbench_f1_zh@1", completion, [answer, "广州"]).outcome == pytest.approx(f1)


# Computed with the packages rouge 1.0.1 and jieba 0.42.1, which LongBench uses.
ROUGE = [
    ("会议讨论了明年的预算，并决定推迟项目。", "会议决定推迟该项目，并讨论预算。", 0.4545454495867769),
    ("价格是3.5元", "价格为3.5元", 0.7999999950000002),  # two sentences, parted at the point of 3.5
    ("北京是中国的首都", "中国的首都是北京", 0.5999999950000001),
    ("今天 天气\n很好", "今天天气很好", 0.5714285665306124),
    ("。", "预算", 0.0),
    ("预算", "预算", 0.999999995),
    ("...", "预算", 0.0),
]


@pytest.mark.parametrize(("completion", "answer", "f"), ROUGE)
def test_chinese_rouge_l_is_that_of_the_packages(completion: str, answer: str, f: float) -> None:
    assert grade("longbench_rouge_l_zh@1", completion, [answer]).outcome == pytest.approx(f, abs=1e-9)


def test_a_long_chinese_sentence_is_graded() -> None:
    """The package rouge exceeds Python's recursion limit here, and LongBench gives 0."""
    assert grade("longbench_rouge_l_zh@1", "预算 " * 600, ["预算 项目 " * 600]).outcome == pytest.approx(
        2 / 3, abs=1e-7
    )


CITIES = ("北京", "上海", "广州", "深圳")


@given(st.lists(st.sampled_from(CITIES), unique=True), st.lists(st.sampled_from(CITIES), unique=True))
def test_chinese_rouge_l_counts_a_longest_common_subsequence(ours: list[str], theirs: list[str]) -> None:
    """Oracle: all subsequences."""
    subsequences = ({s for n in range(len(w) + 1) for s in itertools.combinations(w, n)} for w in (ours, theirs))
    longest = max(map(len, set.intersection(*subsequences)))
    expected = 2 * longest / (len(ours) + len(theirs)) if longest else 0.0
    assert chinese.rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(expected, abs=1e-7)


def test_without_jieba_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chinese, "_segmenter", chinese._segmenter.__wrapped__)
    monkeypatch.setitem(sys.modules, "jieba", None)
    for rule in ("longbench_f1_zh@1", "longbench_rouge_l_zh@1"):
        with pytest.raises(BadInput, match=r"the package jieba, which is not installed; .*pip install 'vorn\[longb"):
            grade(rule, "", ["北京"])


def test_splitting_words_says_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code = "from vorn.chinese import words; import sys; print(words('北京是首都') == ['北京', '是', '首都'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("True\n", "", [])
