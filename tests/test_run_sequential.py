"""Runs that look after every fixture: they stop early, resume where they stopped, and report what that allows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.composing import composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Observation

pytestmark = pytest.mark.integration
SMALL = (
    "logger=none", "limit=40", "task.context_tokens=220", "task.keys=4", "budget=[48]", "policy=[random]",
    "unit=[token]", "stats.stop=sequential", "stats.families=[vs_full]",
)  # fmt: skip

Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """`python launch.py OVERRIDES` on the shipped model, in this process; returns the exit code."""

    def run(*overrides: str) -> int:
        from vorn import run

        cfg = composed(*SMALL, f"ledger_dir={tmp_path / 'ledgers'}", *overrides)
        return run.evaluate(cfg, plan_panel(cfg), tmp_path / "out")

    return run


def observations(tmp_path: Path) -> tuple[Observation, ...]:
    (folder,) = (tmp_path / "ledgers").iterdir()
    return read_ledger(folder).observations


def fixtures(tmp_path: Path, cell: str) -> list[int]:
    return [one.fixture_index for one in observations(tmp_path) if one.cell == cell]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_stops_when_its_comparison_is_settled(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate() == 0
    looked_at = fixtures(tmp_path, "full")
    assert looked_at == fixtures(tmp_path, "random/token/48") == list(range(len(looked_at)))
    assert 7 <= len(looked_at) < 20
    assert f"stopped after {len(looked_at)} of 40 fixtures" in capsys.readouterr().out
    (pair,) = table(tmp_path / "out" / "pairs.csv")
    assert pair["test"] == "e_value"
    assert float(pair["p_holm"]) <= 0.05
    monkeypatch.setattr("vorn.models.checkpoint.Checkpoint.load", lambda *_, **__: pytest.fail("weights were loaded"))
    assert evaluate() == 0
    assert fixtures(tmp_path, "full") == looked_at


def test_a_wider_panel_takes_a_stopped_run_up_again(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    first = observations(tmp_path)
    evaluate("policy=[random,sink_recent]")
    assert set(first) < set(observations(tmp_path))
    places = {cell: fixtures(tmp_path, cell) for cell in ("full", "random/token/48", "sink_recent/token/48")}
    for seen in places.values():
        assert sorted(seen) == list(range(len(seen)))
    assert len(places["full"]) >= max(map(len, places.values()))


def test_what_was_stopped_early_stays_sequential(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    evaluate("stats.stop=null", "limit=25")
    assert fixtures(tmp_path, "full") == list(range(25))
    (pair,) = table(tmp_path / "out" / "pairs.csv")
    assert pair["test"] == "e_value"


def test_a_cell_measured_twice_gives_the_noise_floor(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate("stats.stop=null", "aa=true", "limit=4")
    twins = [[one.completion for one in observations(tmp_path) if one.cell == f"random/token/48{end}"]
             for end in ("", " (A/A)")]  # fmt: skip
    assert len(twins[0]) == 4
    assert twins[0] == twins[1]
    (original,) = {one.cell_id for one in observations(tmp_path) if one.cell == "random/token/48"}
    assert {one.replica_of for one in observations(tmp_path)} == {"", original}
    cells = [row["cell"] for row in table(tmp_path / "out" / "cells.csv")]
    assert cells == ["full", "random/token/48", "random/token/48 (A/A)"]
    (pair,) = table(tmp_path / "out" / "pairs.csv")
    (floor,) = table(tmp_path / "out" / "noise_floor.csv")
    assert (floor["n"], floor["flips"]) == ("4", "0")
    assert (pair["above_noise"] == "True") == (abs(float(pair["difference"])) > float(floor["limit"]))


def test_an_aa_cell_needs_a_cell_to_repeat() -> None:
    with pytest.raises(BadInput, match="aa=true repeats a pruned cell that is decoded together"):
        plan_panel(composed("policy=[full]", "aa=true"))
    with pytest.raises(BadInput, match="aa=true repeats a pruned cell that is decoded together"):
        plan_panel(composed("policy=[vorn]", "contract=[reforward]", "aa=true"))


def test_an_aa_cell_repeats_what_decodes_with_others() -> None:
    plan = plan_panel(
        composed("policy=[vorn]", "unit=[token]", "budget=[64]", "contract=[reforward,hold_budget]", "aa=true")
    )
    (again,) = [cell for cell in plan.cells if cell.is_replica]
    assert again.contract == "hold_budget"
