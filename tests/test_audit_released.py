"""The released results of vorn-mat, recomputed. VORN_ARTIFACTS names the folder with the 36 of its files meant here."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from vorn.audit.build import Audit, audit


@pytest.fixture(scope="module")
def released() -> Audit:
    folder = os.environ.get("VORN_ARTIFACTS")
    if not folder:
        pytest.skip("set VORN_ARTIFACTS to a folder with the released artifacts of vorn-mat")
    return audit([Path(folder)])


def test_the_accounting_of_the_36_files_is_reached_exactly(released):
    totals = released.totals
    assert len(released.files) == 36
    assert (totals.rows, totals.rows_with_observations, totals.observations) == (257, 191, 11_950)
    assert (round(totals.cost_usd, 2), round(totals.duration_h, 2)) == (69.37, 28.33)
    once = released.totals_once
    assert (once.rows, once.rows_with_observations, once.observations) == (238, 172, 10_400)


def test_every_claim_is_read_and_comes_out(released):
    assert released.problems == ()
    tally = Counter((check.what, check.basis, check.agrees) for file in released.files for check in file.checks)
    assert all(agrees for _, _, agrees in tally)
    assert tally["McNemar p", "observations", True] == 123
    assert tally["Fisher p", "counts", True] == 7
    assert tally["Wilson interval", "observations", True] + tally["Wilson interval", "counts", True] == 345
    assert tally["hits", "observations", True] == 244
    assert tally["rate", "observations", True] == 267


def test_p_values_follow_from_the_observations_bit_for_bit(released):
    checks = [check for file in released.files for check in file.checks if check.what == "McNemar p"]
    assert len(checks) == 123
    assert all(check.is_exact and check.basis == "observations" for check in checks)


def test_a_list_of_failures_is_known_as_one(released):
    assert [file.artifact.n_failures for file in released.files if file.artifact.is_failure_list] == [7]


def test_the_two_rules_explain_every_graded_run_but_one(released):
    verdicts = sum((file.verdicts for file in released.files), Counter[str]())
    assert verdicts == {"v1": 106, "v2": 115, "both": 45, "neither": 1}


def test_runs_in_several_places_and_completions_with_two_outcomes_are_found(released):
    same = [group for group in released.repeated if group.is_same_run]
    apart = [group for group in released.repeated if not group.is_same_run]
    assert (len(same), len(apart)) == (79, 34)
    assert sum(bool(group.places[0].row.observations) for group in same) == 66
    assert all(group.is_graded_alike for group in same)
    assert sum(not group.is_graded_alike for group in apart) == 9
    assert len(released.disagreements) == 10
