"""Losses by what became of the evidence. Oracle: every fixture judged by itself, in plain loops; scipy's intervals."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest
from factories import make_config, make_contents, make_manifest, make_observation
from rich.console import Console
from scipy.stats import binomtest

from vorn.records import Observation
from vorn.report import Report, build_report, print_report, write_report
from vorn.report.markdown import render
from vorn.report.words import loss_sentences

HEADER = (
    "cell_id,cell,model,task,threshold,n,hits,lost,evicted,kept_missed,evicted_share,evicted_low,evicted_high,leaked,"
    "leaked_share,leaked_low,leaked_high,ci_method,kept_where_lost,kept_where_hit,ceiling,lost_in_reach,"
    "lost_out_of_reach,without,leaked_without,leaked_by_choice"
)
CELLS = {
    "full": {"policy": "full"},
    "tova": {"policy": "tova"},
    "h2o": {"policy": "h2o", "guards": "none"},
    "evidence_keep": {"policy": "evidence_keep"},
    "evidence_drop": {"policy": "evidence_drop", "guards": "none", "budget": "100%"},
}


def seen(cell: str, index: int, outcome: float | None, kept: float | None, **changes) -> Observation:
    error = "broke" if outcome is None else None
    own = CELLS[cell] | changes
    return make_observation(
        fixture_id=f"f{index}", fixture_index=index, outcome=outcome, evidence_kept=kept, error=error, **own
    )


def panel(seed: int, fixtures: int = 60) -> list[Observation]:
    """Every kind of fixture: errors, fractions, no evidence, the threshold itself, and fixtures that a cell lacks."""
    draw = random.Random(seed)
    found = []
    for index in range(fixtures):
        has_evidence = draw.random() < 0.9
        for cell in CELLS:
            if draw.random() < 0.05:
                continue
            kept = 1.0 if cell == "full" else draw.choice([0.0, 0.3, 0.5, 0.9])
            found.append(seen(cell, index, draw.choice([1.0, 1.0, 0.0, 0.5, None]), kept if has_evidence else None))
    draw.shuffle(found)
    return found


def report_of(observations: list[Observation], **stats) -> Report:
    manifest = make_manifest(config=make_config(**stats))
    return build_report(make_contents(*observations, manifests=(manifest,)))


@pytest.mark.parametrize("seed", range(3))
def test_every_fixture_is_counted_where_it_belongs(seed):
    observations = panel(seed)
    rows = {row.cell.split("/")[0]: row for row in report_of(observations).losses}
    assert set(rows) == {"tova", "h2o", "evidence_keep", "evidence_drop"}
    for name, row in rows.items():
        counts = dict.fromkeys(("lost", "evicted", "hits", "leaked", "in", "out", "without", "choice"), 0)
        for index in range(60):
            at = {one.policy: one for one in observations if one.fixture_index == index}
            if name not in at or "full" not in at or at["full"].outcome != 1.0:
                continue
            one = at[name]
            if one.outcome is None or one.evidence_kept is None:
                continue
            is_hit, is_gone = one.outcome == 1.0, one.evidence_kept in (0.0, 0.3)
            counts["hits" if is_hit else "lost"] += 1
            counts["evicted"] += is_gone and not is_hit
            counts["leaked"] += is_gone and is_hit
            oracle = at.get("evidence_keep")
            if not is_hit and oracle and oracle.outcome is not None:
                counts["in" if oracle.outcome == 1.0 else "out"] += 1
            oracle = at.get("evidence_drop")
            if is_hit and is_gone and oracle and oracle.outcome is not None:
                counts["without" if oracle.outcome == 1.0 else "choice"] += 1
        got = (row.lost, row.evicted, row.hits, row.leaked)
        assert got == (counts["lost"], counts["evicted"], counts["hits"], counts["leaked"])
        assert (row.n, row.kept_missed) == (row.lost + row.hits, row.lost - row.evicted)
        # The ceiling has the guards of tova alone; an oracle is not held against itself.
        ceiling = (counts["in"], counts["out"]) if name == "tova" else (None, None)
        assert (row.lost_in_reach, row.lost_out_of_reach) == ceiling
        assert row.ceiling == ("evidence_keep/token/64" if name == "tova" else "")
        dropped = (None, None) if name == "evidence_drop" else (counts["without"], counts["choice"])
        assert (row.leaked_without, row.leaked_by_choice) == dropped
        for count, n, low, high in (
            (row.evicted, row.lost, row.evicted_low, row.evicted_high),
            (row.leaked, row.hits, row.leaked_low, row.leaked_high),
        ):
            want = binomtest(count, n).proportion_ci(0.95, "wilson")
            assert (low, high) == pytest.approx((want.low, want.high), abs=1e-12)


def worked() -> list[Observation]:
    """Of 8 fixtures that full hits, tova loses 5, 3 of them evicted; of its 3 hits 2 are without evidence."""
    outcomes = {
        "full": "111111110",
        "tova": "000001111",
        "evidence_keep": "110x11111",
        "evidence_drop": "000000100",
    }
    kept = {"tova": (0.0, 0.49, 0.2, 0.5, 1.0, 0.0, 0.1, 0.8, 0.0), "evidence_keep": (1.0,) * 9}
    marks = {"1": 1.0, "0": 0.0, "x": None}
    return [
        seen(cell, index, marks[mark], kept.get(cell, (float(cell == "full"),) * 9)[index])
        for cell, line in outcomes.items()
        for index, mark in enumerate(line)
    ]


def test_a_worked_example_reads_as_it_was_made():
    report = report_of(worked())
    tova = next(row for row in report.losses if row.cell.startswith("tova"))
    assert (tova.n, tova.lost, tova.evicted, tova.kept_missed, tova.hits, tova.leaked) == (8, 5, 3, 2, 3, 2)
    assert (tova.lost_in_reach, tova.lost_out_of_reach) == (3, 1)
    assert (tova.leaked_without, tova.leaked_by_choice) == (1, 1)
    assert (tova.kept_where_lost, tova.kept_where_hit) == pytest.approx((2.19 / 5, 0.3))
    lost, leaked = loss_sentences([tova])
    assert lost == (
        "5 fixtures that full hits are lost by 1 cell together: 3 evicted (less than 50 % of the evidence's entries "
        "kept), 2 kept but missed; evidence_keep hits 3 of 4 at the same setting"
    )
    assert leaked == (
        "2 of their 3 hits leaked: the evidence was evicted, and the answer is right; evidence_drop hits 1 of 2"
    )
    text = render(report)
    assert "| tova/token/64 | 8 | 5 | 3 | 60% (23 to 88) | 2 | 3 of 4 | 3 | 2 | 67% (21 to 94) | 1 of 2 |" in text
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=200, color_system=None))
    assert "Losses, by what became of the evidence: losses.csv has every cell" in stream.getvalue()


def test_a_run_that_may_stop_has_confidence_sequences():
    still, open_end = (
        next(row for row in report_of(worked(), **stats).losses if row.cell.startswith("tova"))
        for stats in ({}, {"stop": "sequential"})
    )
    assert (still.ci_method, open_end.ci_method) == ("wilson", "confidence_sequence")
    assert open_end.evicted_low < still.evicted_low < still.evicted_high < open_end.evicted_high


def test_without_evidence_or_a_reference_there_is_nothing_to_split(tmp_path: Path):
    report = report_of([seen("full", 0, 1.0, None), seen("tova", 0, 0.0, None)])
    assert report.losses == []
    assert report_of([seen("tova", 0, 0.0, 0.0)]).losses == []
    write_report(report, tmp_path)
    assert not (tmp_path / "losses.csv").exists()
    assert "Losses" not in render(report)


def test_the_table_has_the_documented_columns(tmp_path: Path):
    report = report_of(worked())
    write_report(report, tmp_path)
    text = (tmp_path / "losses.csv").read_text()
    assert text.splitlines()[0] == HEADER
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["cell"] for row in rows] == [row.cell for row in report.losses]
    assert (rows[0]["lost_in_reach"], rows[-1]["lost_in_reach"]) == ("3", "")
