"""Grading rules against expected values worked out by hand from RULER's definition."""

from __future__ import annotations

import pytest

from vorn.grading import GRADES, grade
from vorn.records import BadInput


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


@pytest.mark.parametrize("rule", ["ruler_all@1", "ruler_any@1"])
def test_control_characters_become_newlines_before_grading(rule):
    graded = grade(rule, "\x00 12\x0734\t\x1f ", ["12\n34"])
    assert graded.answer_graded == "12\n34"
    assert graded.outcome == 1.0
    assert grade(rule, "12\x0734", ["1234"]).outcome == 0.0


def test_unknown_rule_names_near_matches():
    with pytest.raises(
        BadInput, match=r"grade='ruler_all@2'.*did you mean ruler_all@1.*legal: ruler_all@1, ruler_any@1"
    ):
        grade("ruler_all@2", "x", ["x"])


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
