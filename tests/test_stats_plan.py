"""The plan of a report: what it accepts and what it refuses, with the field's name."""

from __future__ import annotations

import pytest
from factories import PLAN

from vorn.records import BadInput
from vorn.stats import TestPlan, check_independent


def test_a_plan_is_read_as_it_is_written():
    plan = TestPlan.from_config(PLAN | {"families": ["units"], "stop": "sequential", "seed": 4})
    assert (plan.alpha, plan.margin, plan.discordance, plan.families) == (0.05, 0.02, 0.2, ("units",))
    assert (plan.stop, plan.split, plan.seed, plan.is_sequential, plan.level) == ("sequential", None, 4, True, 0.95)
    assert not TestPlan.from_config(PLAN).is_sequential


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.5}, r"stats\.alpha=0\.5 is not legal; give a fraction above 0 and below 0\.5"),
        ({"alpha": 0.0}, r"stats\.alpha=0\.0"),
        ({"alpha": "5%"}, r"stats\.alpha='5%'"),
        ({"alpha": float("nan")}, r"stats\.alpha=nan"),
        ({"margin": 2}, r"stats\.margin=2 is not legal; .* 0\.02 is 2 points"),
        ({"discordance": True}, r"stats\.discordance=True"),
        ({"families": "vs_full"}, r"stats\.families='vs_full' is not legal; give a list"),
        ({"families": ["vs_full", "all"]}, r"stats\.families holds 'all'; legal: vs_full, policies, units"),
        ({"families": []}, r"stats\.families=\[\]: legal is at least one"),
        ({"families": ["units", "units"]}, "each once"),
        ({"stop": "early"}, r"stats\.stop='early' is not legal; give sequential or null"),
        ({"split": True}, r"stats\.split=True is not legal; give select or null"),
        ({"seed": -1}, r"stats\.seed=-1"),
        ({"stop": "sequential", "split": "select"}, r"stats\.stop=sequential with stats\.split=select"),
        ({"alfa": 0.1}, r"stats\.alfa is unknown; did you mean stats\.alpha\?"),
    ],
)
def test_what_is_not_legal_is_refused(change, message):
    with pytest.raises(BadInput, match=message):
        TestPlan.from_config(PLAN | change)


@pytest.mark.parametrize("name", PLAN)
def test_nothing_has_a_default(name):
    with pytest.raises(BadInput, match=rf"stats\.{name} is missing"):
        TestPlan.from_config({key: value for key, value in PLAN.items() if key != name})


def test_clustered_fixtures_are_not_looked_at_early():
    plan = TestPlan.from_config(PLAN | {"stop": "sequential"})
    check_independent(plan, ["", "", "a", "b"])
    check_independent(TestPlan.from_config(PLAN), ["a", "a"])
    with pytest.raises(BadInput, match="several fixtures share cluster 'a'"):
        check_independent(plan, ["", "a", "b", "a"])
