"""Which plan a report follows, whatever the runs of its ledger recorded."""

from __future__ import annotations

import pytest
from factories import PLAN, make_manifest

from vorn.records import BadInput
from vorn.report.plans import packaged_plan, resolve_plan
from vorn.stats import FAMILIES, TestPlan


def recorded(*changes):
    return [make_manifest(config={"stats": PLAN | change}) for change in changes]


def test_the_recorded_plan_is_used_without_a_word():
    assert resolve_plan(recorded({"alpha": 0.1}, {"alpha": 0.1})) == (TestPlan.from_config(PLAN | {"alpha": 0.1}), ())


def test_of_different_plans_the_latest_is_used_and_that_is_said():
    plan, (note,) = resolve_plan(recorded({"alpha": 0.1}, {"margin": 0.05}))
    assert (plan.alpha, plan.margin) == (0.05, 0.05)
    assert note == "the runs recorded different plans (alpha 0.1 then 0.05, margin 0.02 then 0.05): the latest is used"


def test_plans_are_told_apart_in_the_words_of_a_configuration():
    _, (note,) = resolve_plan(
        recorded({"families": ["vs_full"]}, {"families": ["vs_full", "policies"], "split": "select"})
    )
    assert "(families [vs_full] then [vs_full,policies], split null then select)" in note


def test_a_ledger_without_a_plan_gets_the_packaged_one():
    plan, (note,) = resolve_plan([make_manifest(config={"seed": 3})])
    assert plan == packaged_plan()
    assert (plan.families, plan.stop, plan.split) == (FAMILIES, None, None)
    assert "no run recorded what it tests" in note
    assert resolve_plan([])[0] == plan


def test_a_given_plan_and_changes_win():
    given = TestPlan.from_config(PLAN | {"alpha": 0.2})
    assert resolve_plan(recorded({"alpha": 0.1}), given) == (given, ())
    plan, notes = resolve_plan(recorded({}), None, {"alpha": 0.01, "split": "select"})
    assert (plan.alpha, plan.split, notes) == (0.01, "select", ())
    with pytest.raises(BadInput, match=r"stats\.alpha=0\.7"):
        resolve_plan(recorded({}), None, {"alpha": 0.7})


@pytest.mark.parametrize("given", [None, TestPlan.from_config(PLAN | {"split": "select"})])
def test_stopping_early_cannot_be_undone(given):
    plan, notes = resolve_plan(recorded({"stop": "sequential"}, {"split": "select"}), given, {"alpha": 0.1})
    assert (plan.stop, plan.split, plan.alpha) == ("sequential", None, 0.1)
    assert any("cannot be undone" in note for note in notes)
    assert any("split=select is not carried out" in note for note in notes)


def test_a_recorded_plan_that_is_not_legal_spoils_no_report():
    plan, notes = resolve_plan(recorded({"alpha": 2}, {"alpha": 0.1}, {"alpha": 2}))
    assert plan == TestPlan.from_config(PLAN | {"alpha": 0.1})
    (note,) = notes
    assert "a run recorded a plan that cannot be carried out (stats.alpha=2 is not legal" in note
    plan, notes = resolve_plan(recorded({"alpha": 2}))
    assert plan == packaged_plan()
    assert len(notes) == 2
