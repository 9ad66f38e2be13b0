"""Following ledgers while they grow. Oracle: the report on the same ledgers, and worked lines."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_config, make_manifest, make_observation, make_panel, resume_cell, run_cell
from rich.console import Console

from vorn.ledger import LedgerWriter, read_ledger
from vorn.report import build_report
from vorn.report.__main__ import main
from vorn.report.watch import Watch, watch


def writer(folder: Path, limit: int | None = 4) -> LedgerWriter:
    config = make_config() | {"limit": limit}
    return LedgerWriter(folder, lambda: make_manifest(evaluation_id=folder.name, config=config))


def test_what_lands_is_counted_once_and_an_outcome_takes_the_place_of_an_error(tmp_path: Path) -> None:
    state = Watch([tmp_path / "ledgers"])
    assert not state.update()
    assert state.lines() == [f"waiting for {tmp_path / 'ledgers'}"]
    one = writer(tmp_path / "ledgers" / "e0")
    one.append(run_cell("1x", policy="full") + run_cell("0h"))
    assert state.update()
    assert state.lines() == ["pocket, niah: 2/4 fixtures, full 100% tova 0%, 1 error"]
    assert not state.update()
    again = writer(tmp_path / "ledgers" / "e0", limit=8)
    again.append(run_cell("00", policy="full") + run_cell(" 1"))
    assert state.update()
    assert state.lines() == ["pocket, niah: 2/8 fixtures, full 50% tova 0%"]
    one.append([replace(seen, fixture_id="f9") for seen in run_cell("1")])
    other = writer(tmp_path / "ledgers" / "e1", limit=10**9)
    other.append([make_observation(evaluation_id="e1", model="large", outcome=None, error="broke")])
    state.update()
    assert state.lines() == [
        "pocket, niah: 3/8 fixtures, full 50% tova 33%",
        "large, niah: 1 fixture, no outcome yet, 1 error",
    ]


def test_no_plan_is_named_where_more_was_measured_than_any_run_asked_for(tmp_path: Path) -> None:
    """Two runs with different seeds: each asks for its own two resumes, then its own two fixtures."""
    state = Watch([tmp_path])
    for seed, said in (("a", "simulated, w: 2/2 resumes, "), ("b", "simulated, w: 4 resumes, ")):
        one = LedgerWriter(tmp_path / "e0", lambda: make_manifest(fixtures=2))
        one.append(resume_cell("lru", {f"w/{seed}": [1.0, 2.0]}))
        one.close()
        state.update()
        assert state.lines()[0].startswith(said)
    writer(tmp_path / "e1", limit=2).append([replace(one, evaluation_id="e1") for one in run_cell("101")])
    state.update()
    assert state.lines()[1].startswith("pocket, niah: 3 fixtures, ")


def test_resumes_are_counted_against_those_that_were_asked_for_and_shown_by_token_hit(tmp_path: Path) -> None:
    """The configuration's task, which has 100 fixtures, is another job's; worked lines."""
    times = {"i0": [1.0, 2.0], "i1": [3.0]}
    cells = [*resume_cell("full", times, outcome=0.9), *resume_cell("lru", times, outcome=0.25)]
    for name, planned in (("e0", 6), ("e1", None)):
        folder = tmp_path / name
        made = make_manifest(evaluation_id=name, fixtures=planned)
        one = LedgerWriter(folder, lambda made=made: made)  # type: ignore[misc]
        one.append([replace(seen, evaluation_id=name) for seen in cells])
        one.close()
    state = Watch([tmp_path])
    state.update()
    assert state.lines() == [
        "simulated, w: 3/6 resumes, token hit full 90% lru 25%",
        "simulated, w: 3 resumes, token hit full 90% lru 25%",
    ]
    stream = io.StringIO()
    Console(file=stream, width=100, color_system=None).print(state.table())
    text = stream.getvalue()
    assert re.search(r"cell +resumes +token hit +errors", text)
    assert re.search(r"lru/8 +3 +25%", text)
    assert "rate" not in text


def test_the_terminal_shows_what_the_report_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [*make_panel(), *run_cell("1hx0", policy="knorm")]
    writer(tmp_path / "e0").append(seen)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=60, color_system=None)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("vorn.report.watch.sleep", nap)
    watch([tmp_path], console)
    assert naps == [1.0, 1.0]
    rows = [line.split() for line in stream.getvalue().splitlines()]
    for cell in build_report(read_ledger(tmp_path / "e0")).cells:
        want = [cell.cell, str(cell.n), str(cell.hits), f"{cell.hit_rate:.0%}", f"{cell.mean_outcome:.1%}"]
        assert rows.count([*want, *([str(cell.n_errors)] if cell.n_errors else [])]) >= 2


@pytest.mark.integration
def test_without_a_terminal_there_are_lines_and_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vorn.report", "--watch", "--interval", "0.05", str(tmp_path / "ledgers")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = [process.stdout.readline()]
        one = writer(tmp_path / "ledgers" / "e0")
        for number in range(2):
            time.sleep(0.2)  # looks that find nothing new show nothing
            one.append([make_observation(fixture_id=f"f{number}")])
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
    assert (process.returncode, rest) == (0, "")
    assert lines == [
        f"waiting for {tmp_path / 'ledgers'}\n",
        "pocket, niah: 1/4 fixtures, tova 100%\n",
        "pocket, niah: 2/4 fixtures, tova 100%\n",
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--watch", "--alpha", "0.1"], "--watch writes no report: --alpha cannot stand beside it"),
        (["--watch", "--out", "x", "--quiet"], "--watch writes no report: --out, --quiet cannot"),
        (["--interval", "2"], "--interval=2.0 is for --watch"),
        (["--watch", "--interval", "0"], "--interval=0.0: legal are seconds > 0"),
        (["--watch"], "is no folder; legal is an evaluation's folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file"), *flags]) == 1
    assert message in capsys.readouterr().err
