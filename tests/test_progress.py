"""What a run shows while it goes on. Counts are made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_observation

from callbacks import progress
from callbacks.progress import PanelProgress, ProgressLines


@pytest.fixture
def evaluation() -> Any:
    cells = [SimpleNamespace(policy=name) for name in ("full", "vorn", "vorn", "tova")]
    return SimpleNamespace(specs=cells, listeners=[], model="m", task="t", todo=dict.fromkeys("abcd"))


def land(evaluation: Any, fixture: str, **outcomes: float | None) -> None:
    seen = [
        make_observation(policy=name, fixture_id=fixture, outcome=value, error="x" if value is None else None)
        for name, value in outcomes.items()
    ]
    for listener in evaluation.listeners:
        listener(seen)


def test_lines_come_at_intervals_with_rates_of_all_processes(evaluation, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    lines = ProgressLines(evaluation, interval_s=30)
    lines.on_predict_start(None, None)
    lines.on_predict_batch_start()
    assert capsys.readouterr().out == ""
    for passed, fixture, vorn in ((10, "f0", 1.0), (20, "f1", 0.5), (45, "f2", None)):
        now[0] = 100.0 + passed
        land(evaluation, fixture, full=1.0, vorn=vorn)
        lines.on_predict_batch_start()
    now[0] = 150.0
    land(evaluation, "f3", full=1.0, vorn=1.0)
    lines.on_predict_end(None, None)
    lines.on_predict_end(None, None)
    assert capsys.readouterr().out.splitlines() == [
        "m, t: 1/4 fixtures, full 100% vorn 100%, 0:00:10 passed, about 0:00:30 to go",
        "m, t: 3/4 fixtures, full 100% vorn 50%, 0:00:45 passed, about 0:00:15 to go",
        "m, t: 4/4 fixtures, full 100% vorn 67%, 0:00:50 passed, about 0:00:00 to go",
    ]


def test_hours_are_told(evaluation):
    assert progress._clock(2 * 3600 + 3 * 60 + 4.4) == "2:03:04"


def test_an_aa_cell_counts_in_no_rate(evaluation):
    rates = progress.Rates(evaluation)
    rates.add([make_observation(policy="vorn"), make_observation(policy="vorn", outcome=0.0, replica_of="c")])
    assert rates.text == "vorn 100%"


@pytest.mark.parametrize(
    ("mode", "is_terminal", "kind"),
    [("auto", True, "bar"), ("auto", False, "lines"), ("lines", True, "lines"), ("bar", False, "bar"), ("none", 1, "")],
)
def test_the_mode_chooses_what_is_shown(evaluation, monkeypatch, mode, is_terminal, kind):
    monkeypatch.setattr("sys.stdout.isatty", lambda: bool(is_terminal))
    made = progress.progress(evaluation, mode, 30)
    assert {"bar": PanelProgress, "lines": ProgressLines}.get(kind, type(made)) is type(made)
    assert len(evaluation.listeners) == bool(kind)
