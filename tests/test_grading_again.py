"""Regrading: what another rule makes of recorded completions, fixture by fixture."""

from __future__ import annotations

from dataclasses import fields

import pytest
from factories import make_contents, make_observation

from vorn.grading import GRADES
from vorn.records import BadInput, Observation, Resume
from vorn.regrade import regrade


def seen(fixture: str, completion: str, outcome: float | None, **changes: object) -> Observation:
    error = "OOM" if outcome is None else None
    return make_observation(
        fixture_id=fixture, completion=completion, outcome=outcome, error=error, answers=("12345",), **changes
    )


def test_changes_are_listed_fixture_by_fixture_and_everything_else_stays() -> None:
    observations = (
        seen("same hit", "12345", 1.0),
        seen("thought", "<think>12345</think> 777", 1.0),
        seen("failed", "", None),
        seen("other cell", "<think>12345", 1.0, policy="h2o"),
        seen("same miss", "1", 0.0),
    )
    contents = make_contents(*observations)
    again = regrade(contents, "ruler_all@2")
    assert [(one.fixture_id, one.cell, one.rule_before, one.before, one.now) for one in again.changes] == [
        ("thought", "tova/token/64", "ruler_all@1", 1.0, 0.0),
        ("other cell", "h2o/token/64", "ruler_all@1", 1.0, 0.0),
    ]
    assert (again.rule, again.graded) == ("ruler_all@2", 4)
    assert [one.outcome for one in again.contents.observations] == [1.0, 0.0, None, 0.0, 0.0]
    assert {one.grade for one in again.contents.observations} == {"ruler_all@2"}
    assert again.contents.observations[1].answer_graded == "777"
    assert again.contents.observations[2].error == "OOM"
    for before, now in zip(contents.observations, again.contents.observations, strict=True):
        untouched = {field.name for field in fields(before)} - {"grade", "outcome", "answer_graded"}
        assert all(getattr(before, name) == getattr(now, name) for name in untouched)
    assert (again.contents.manifests, again.contents.looks) == (contents.manifests, contents.looks)
    assert contents.observations[1].outcome == 1.0


RESUME = Resume(
    matched_tokens=90, anchor_tokens=50, replay_tokens=40, recomputed_tokens=50, ttft_s=1.0, ttft_law="measured",
    kv_without_state=False, evictions=1, protection_fired=None, protection_saturated=None, logit_difference=None,
    greedy_equal=None,
)  # fmt: skip
ANSWERS = {"longbench_retrieval@1": "Paragraph 7", "longbench_retrieval_zh@1": "段落7"}


@pytest.mark.parametrize("rule", GRADES)
def test_every_rule_grades_every_kind_of_outcome_and_the_second_time_nothing_changes(rule: str) -> None:
    """From what is recorded alone: a hit, a miss, a fraction, an error, and a resume, which has no completion."""
    answer = ANSWERS.get(rule, "12345")
    kinds: list[tuple[str, float | None, str | None]] = [
        (answer, 1.0, None), ("It is Oslo", 0.0, None), ("<think>x", 0.5, None), ("", None, "OOM"),
    ]  # fmt: skip
    observations = [
        make_observation(
            fixture_id=str(n),
            completion=said,
            outcome=outcome,
            error=error,
            answers=(answer,),
            choices=(answer, "Oslo"),
        )
        for n, (said, outcome, error) in enumerate(kinds)
    ]
    observations.append(
        make_observation(fixture_id="resumed", grade="token_hit@1", outcome=0.25, answers=(), resume=RESUME)
    )
    once = regrade(make_contents(*observations), rule)
    assert once.graded == 3
    outcomes = [one.outcome for one in once.contents.observations]
    assert outcomes == [pytest.approx(1.0, abs=1e-7), 0.0, 0.0, None, 0.25]
    assert [one.grade == rule for one in once.contents.observations] == [True] * 4 + [False]
    assert regrade(once.contents, rule).changes == ()


def test_what_cannot_be_graded_is_named() -> None:
    contents = make_contents(make_observation(answers=("Oslo",), fixture_id="f7"))
    with pytest.raises(BadInput, match=r"fixture 'f7' of task 'niah' cannot be graded again: .* has 0 numbers"):
        regrade(contents, "number@1")
    with pytest.raises(BadInput, match=r"fixture 'f7' .* cannot be graded again: choices=\[\]: grade longbench_class"):
        regrade(contents, "longbench_class_line@1")
    with pytest.raises(BadInput, match=r"grade='ruler@1' is unknown"):
        regrade(contents, "ruler@1")
