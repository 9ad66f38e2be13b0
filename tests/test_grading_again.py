"""Regrading: what another rule makes of recorded completions, fixture by fixture."""

from __future__ import annotations

from dataclasses import fields

import pytest
from factories import make_contents, make_observation

from vorn.grading import GRADES
from vorn.records import BadInput, Observation
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


@pytest.mark.parametrize("rule", [rule for rule in GRADES if not rule.startswith("longbench_retrieval")])
def test_grading_twice_by_a_rule_changes_nothing_the_second_time(rule: str) -> None:
    contents = make_contents(seen("a", "It is 12345", 1.0), seen("b", "<think>x", 0.5), seen("c", "", None))
    once = regrade(contents, rule)
    assert regrade(once.contents, rule).changes == ()


def test_what_cannot_be_graded_is_named() -> None:
    contents = make_contents(make_observation(answers=("Oslo",), fixture_id="f7"))
    with pytest.raises(BadInput, match=r"fixture 'f7' of task 'niah' cannot be graded again: .* has 0 numbers"):
        regrade(contents, "number@1")
    with pytest.raises(BadInput, match=r"grade='ruler@1' is unknown"):
        regrade(contents, "ruler@1")
