"""Grading rules against expected values worked out by hand from the published definitions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vorn import chinese
from vorn.graded import without_thinking
from vorn.grading import GRADES, grade
from vorn.metrics import rouge_l
from vorn.records import BadInput


@pytest.fixture(scope="module", autouse=True)
def _dictionary() -> None:
    """Read it before a property test counts the time."""
    chinese.words("")


@pytest.mark.parametrize(
    ("completion", "answers", "all_of", "any_of"),
    [
        ("The number is 12345.", ["12345"], 1.0, 1.0),
        ("The number is 1234.", ["12345"], 0.0, 0.0),
        ("paris, ROME", ["Paris", "Rome", "Oslo"], 2 / 3, 1.0),
        ("oslo", ["Paris", "Rome", "OSLO", "Bern"], 1 / 4, 1.0),
        ("", ["x"], 0.0, 0.0),
        ("nothing", ["a", "b"], 0.0, 0.0),
    ],
)
def test_hits_are_counted_over_the_answers(completion, answers, all_of, any_of):
    assert grade("ruler_all@1", completion, answers).outcome == pytest.approx(all_of)
    assert grade("ruler_any@1", completion, answers).outcome == any_of


@pytest.mark.parametrize("rule", [rule for rule in GRADES if rule.startswith("ruler")])
def test_control_characters_become_newlines_before_grading(rule):
    graded = grade(rule, "\x00 12\x0734\t\x1f ", ["12\n34"])
    assert graded.answer_graded == "12\n34"
    assert graded.outcome == 1.0
    assert grade(rule, "12\x0734", ["1234"]).outcome == 0.0


def test_unknown_rule_names_near_matches():
    with pytest.raises(
        BadInput, match=r"grade='ruler_all@9'.*did you mean ruler_all@2 or ruler_all@1.*legal: .*ruler_any@1"
    ):
        grade("ruler_all@9", "x", ["x"])


@pytest.mark.parametrize("answers", [[], [""], ["a", ""], "abc"])
@pytest.mark.parametrize("rule", GRADES)
def test_answers_that_cannot_be_graded_are_refused(rule, answers):
    with pytest.raises(BadInput, match=r"answers=.*at least one non-empty string"):
        grade(rule, "abc", answers)


@pytest.mark.parametrize(
    ("completion", "answers", "first", "second"),
    [
        (" 4711\n", ["4711"], 1.0, 1.0),
        ("The number is 4711.", ["4711"], 0.0, 1.0),
        ("It is 47110 or 14711.", ["4711"], 0.0, 0.0),
        ("<think>4711?</think> 4712", ["4711"], 0.0, 0.0),
        ("<think>hm</think>4711</think>", ["4711"], 1.0, 1.0),
        ("so 4711 <THINK >then", ["4711"], 0.0, 1.0),
        ("Delhi,  new", ["delhi, NEW", "x"], 1.0, 1.0),
        ("in Delhi", ["Delhi"], 0.0, 0.0),
        ("4711 in Delhi", ["4711", "Delhi"], 0.0, 0.0),
    ],
)
def test_the_harness_of_vorn_mat_matches_whole_texts_and_later_whole_numbers(completion, answers, first, second):
    assert grade("vorn_mat_v1@1", completion, answers).outcome == first
    assert grade("vorn_mat_v2@1", completion, answers).outcome == second


@pytest.mark.parametrize(
    ("completion", "left"),
    [
        ("no block", "no block"),
        ("<think>123</think> 456", " 456"),
        ("a<think>1</think>b<THINK>2</THINK>c", "abc"),
        ("<thinking>\n1\n2</thinking>3", "3"),
        ("<think>never closed 123", ""),
        ("before <think>never closed", "before "),
        ("opened by the template 123</think> 456", " 456"),
        ("<think>1</think>2</think>3", "3"),
        ("<think>a</thinking>b</think>c", "c"),
        ("1 < 2 and 3 > 2, I think>", "1 < 2 and 3 > 2, I think>"),
        ("<thinker>1</thinker>", "<thinker>1</thinker>"),
    ],
)
def test_thinking_blocks_are_left_out(completion, left):
    assert without_thinking(completion) == left


def test_thinking_counts_under_the_first_rules_only():
    said = "<think>It may be 12345 or 67890.</think> 67890"
    assert grade("ruler_all@1", said, ["12345"]).outcome == 1.0
    for rule in ("ruler_all@2", "ruler_any@2", "number@1", "squad_f1@1", "squad_em@1", "longbench_count@1"):
        assert grade(rule, said, ["12345"]).outcome == 0.0, rule
        assert grade(rule, said, ["67890"]).outcome == 1.0, rule


@pytest.mark.parametrize(
    ("completion", "answers", "f1", "exact"),
    [
        ("the Denver Broncos", ["Denver Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos"], 2 / 3, 0.0),  # precision 1, recall 1/2
        ("the broncos of denver, colorado!", ["Denver Broncos"], 2 * (2 / 4) * 1 / (2 / 4 + 1), 0.0),
        ("well-known", ["well known"], 0.0, 0.0),  # punctuation goes without leaving a space
        ("a the an", ["Oslo"], 0.0, 0.0),
        ("", ["Oslo"], 0.0, 0.0),
        ("Oslo Oslo", ["Oslo"], 2 * (1 / 2) * 1 / (1 / 2 + 1), 0.0),  # a word counts as often as it stands in both
        ("Rome", ["Oslo", "rome."], 1.0, 1.0),
        ("theory", ["ory"], 0.0, 0.0),  # an article is a word of its own
    ],
)
def test_squad_measures(completion, answers, f1, exact):
    assert grade("squad_f1@1", completion, answers).outcome == pytest.approx(f1)
    assert grade("squad_em@1", completion, answers).outcome == exact


@pytest.mark.parametrize(
    ("completion", "answer", "hit"),
    [
        ("It is 1234567.", "1234567", 1.0),
        ("It is 12345678.", "1234567", 0.0),
        ("It is 91234567.", "1234567", 0.0),
        ("It is 1,234,567!", "1234567", 1.0),
        ("It is 1,234,567!", "567", 0.0),
        ("1,2345", "12345", 0.0),
        ("x=42;", "42", 1.0),
        ("42.0", "42", 1.0),
        ("42.5", "42", 0.0),
        ("about -7 degrees", "-7", 1.0),
        ("about -7 degrees", "7", 0.0),
        ("pages 3-7", "7", 1.0),
        ("", "7", 0.0),
    ],
)
def test_numbers_are_compared_whole(completion, answer, hit):
    assert grade("number@1", completion, [answer]).outcome == hit


@pytest.mark.parametrize("answer", ["seven", "7 or 8"])
def test_a_number_rule_needs_numbers(answer):
    with pytest.raises(BadInput, match=r"answer=.* has [02] numbers; grade number@1 needs one"):
        grade("number@1", "7", [answer])


@pytest.mark.parametrize(
    ("rule", "completion", "answers", "outcome"),
    [
        ("longbench_count@1", "There are 12, maybe 13.", ["12"], 1 / 2),
        ("longbench_count@1", "twelve", ["12"], 0.0),
        ("longbench_count@1", "120", ["12"], 0.0),
        ("longbench_retrieval@1", "Paragraph 7", ["Paragraph 7"], 1.0),
        ("longbench_retrieval@1", "Paragraph 7, or 17 or 77", ["Paragraph 7"], 1 / 3),
        ("longbench_code@1", "\n# a comment\n    return x\n    more", ["    return x"], 1.0),
        ("longbench_code@1", "```python\nreturn", ["return"], 1.0),
        ("longbench_code@1", "abcd", ["bcde"], 0.75),  # twice 3 common of 8 characters
        ("longbench_code@1", "# nothing but a comment", ["x"], 0.0),
        ("longbench_f1_line@1", "\nOslo\nBergen", ["Oslo"], 1.0),
        ("longbench_rouge_l_line@1", "\n\nthe cat sat\nand more", ["the cat sat"], 1.0),
    ],
)
def test_longbench_measures(rule, completion, answers, outcome):
    assert grade(rule, completion, answers).outcome == pytest.approx(outcome, abs=1e-7)


def test_retrieval_needs_a_paragraph():
    with pytest.raises(BadInput, match="needs 'Paragraph 7'"):
        grade("longbench_retrieval@1", "7", ["7"])


# Computed with the package rouge 1.0.1, which LongBench uses.
ROUGE = [
    ("the cat sat on the mat", "the cat lay on the mat", 0.7999999950000002),
    ("a b c d. e f g", "a c e. f x g", 0.7692307642603551),
    ("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 0.6153846106508876),
    ("one two three", "three two one", 0.33333332833333337),
    ("no overlap here", "nothing in common", 0.0),
    ("same. same. same.", "same", 0.999999995),
    # Which of several longest common subsequences is taken changes their union.
    ("c a. c d", "a c", 0.39999999520000007),
    ("a d c. a d", "c a", 0.39999999520000007),
    ("b b. b d", "b c a", 0.39999999520000007),
]


@pytest.mark.parametrize(("completion", "answer", "f"), ROUGE)
def test_rouge_l_is_that_of_the_package(completion, answer, f):
    assert rouge_l(completion, answer) == pytest.approx(f, abs=1e-9)


@given(st.lists(st.sampled_from("abcd"), max_size=7), st.lists(st.sampled_from("abcd"), max_size=7))
def test_rouge_l_of_different_words_counts_a_longest_common_subsequence(first, second):
    """Oracle: all subsequences. Words are made different by their place among equal ones, so that none is merged."""
    ours, theirs = ([f"{word}{words[:i].count(word)}" for i, word in enumerate(words)] for words in (first, second))
    subsequences = ({s for n in range(len(w) + 1) for s in itertools.combinations(w, n)} for w in (ours, theirs))
    longest = max(map(len, set.intersection(*subsequences)))
    expected = 2 * longest / (len(ours) + len(theirs)) if longest else 0.0
    assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(expected, abs=1e-7)


ANSWERS = {
    "longbench_retrieval@1": "Paragraph 7",
    "longbench_retrieval_zh@1": "段落7",
    "number@1": "1234",
    "longbench_count@1": "1234",
}


@pytest.mark.parametrize("rule", GRADES)
@given(st.text(max_size=80))
def test_any_completion_is_graded_within_bounds(rule, completion):
    graded = grade(rule, completion, [ANSWERS.get(rule, "Oslo in May")], ["Oslo in May", "Rome"])
    assert 0.0 <= graded.outcome <= 1.0


@pytest.mark.parametrize("rule", GRADES)
def test_the_answer_itself_is_a_hit_and_the_empty_completion_is_none(rule):
    answer = ANSWERS.get(rule, "Oslo in May")
    assert grade(rule, answer, [answer], [answer, "Rome"]).outcome == pytest.approx(1.0, abs=1e-7)
    assert grade(rule, "", [answer], [answer, "Rome"]).outcome == 0.0


@pytest.mark.parametrize("rule", ["ruler_all@1", "ruler_any@1", "ruler_all@2", "ruler_any@2", "number@1"])
@given(st.text(st.characters(exclude_characters="<>"), max_size=40))
def test_saying_the_answer_too_never_lowers_the_outcome(rule, completion):
    before = grade(rule, completion, ["1234", "99"]).outcome
    assert grade(rule, completion + " 1234", ["1234", "99"]).outcome >= max(before, 0.5)
