"""What W&B gets: offline runs are read back, and sweeps expanded as an agent does. Oracle: ledger and report."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from factories import make_observation
from lightning.pytorch.loggers import WandbLogger

from callbacks.wandb_tables import SENT, FixtureTable
from tests.composing import CONF, composed
from tests.offline_runs import OfflineRun
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import ContractWork

SWEEPS = sorted((CONF / "sweep").glob("*.yaml"))


@pytest.fixture
def evaluate(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python launch.py OVERRIDES` in this process, with an offline run of W&B; returns the exit code."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))
    monkeypatch.setenv("WANDB_RUN_GROUP", "a sweep")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)

    wandb = ("logger=wandb", f"logger.save_dir={tmp_path}", "callbacks.fixtures.flush_every=1")

    def run(*overrides: str, logger: tuple[str, ...] = wandb) -> int:
        from vorn import run

        small = ("task.context_tokens=300", "task.keys=4", "budget=[32]", "policy=[random]", "unit=[token]")
        given = (f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}")
        cfg = composed(*small, *given, *logger, *overrides)
        return run.evaluate(cfg, plan_panel(cfg), tmp_path / "out")

    return run


@pytest.mark.integration
def test_an_offline_run_holds_fixtures_cells_pairs_figures_and_files(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("limit=2") == 0
    assert evaluate("limit=3") == 0
    assert "warning" not in capsys.readouterr().err
    first, second = (OfflineRun(path) for path in sorted((tmp_path / "wandb").glob("offline-run-*")))
    assert (first.id, first.group, first.name) == (second.id, second.group, second.name)
    assert (first.group, first.name) == ("a sweep", "pocket_llama, niah_multikey")
    assert (first.config["limit"], second.config["limit"]) == (2, 3)
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = read_ledger(folder).observations
    for run, fixtures in ((first, 2), (second, 3)):
        table = run.table("fixtures")
        at = table["columns"].index
        rows = [(row[at("fixture_index")], row[at("cell")], row[at("completion")]) for row in table["data"]]
        assert rows == [
            (one.fixture_index, one.cell, one.completion)
            for one in sorted(seen, key=lambda one: (one.fixture_index, one.cell != "full"))
            if one.fixture_index < fixtures
        ]
        assert run.summary[SENT] == len(rows) == 2 * fixtures
        assert [len(run.table(name)["data"]) for name in ("cells", "pairs")] == [2, 1]
    cells = list(csv.DictReader((tmp_path / "out" / "cells.csv").read_text().splitlines()))
    for row in cells:
        assert second.summary[f"hit_rate/{row['cell']}"] == float(row["hit_rate"])
        assert second.summary[f"mean_outcome/{row['cell']}"] == float(row["mean_outcome"])
    assert second.summary["mean_outcome"] == float(cells[1]["mean_outcome"])
    assert (second.summary["pairs"], second.summary["real_differences"]) == (1, 0)
    assert second.summary["figures/outcomes/_type"] == "image-file"
    names = [path.name for path in folder.iterdir() if path.suffix in (".jsonl", ".views")]
    assert second.artifacts[f"ledger:ledger-{second.id}"] == sorted(names)
    assert {"cells.csv", "pairs.csv", "report.md", "report.html", "figures/outcomes.png"} < set(
        second.artifacts[f"report:report-{second.id}"]
    )


def note(job: Any, config: dict[str, Any]) -> Any:
    """A logger that cannot be made, and leaves the title of its job where the ledger is."""
    Path(config["ledger_dir"], "made").write_text(job.title)
    raise RuntimeError("no logger")


@pytest.mark.integration
@pytest.mark.parametrize(("rank", "made"), [("0", True), ("1", False)])
def test_of_several_processes_the_first_publishes(
    evaluate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, made: bool
) -> None:
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    (tmp_path / "ledgers").mkdir()
    logger = ("logger=none", "+logger={_target_: tests.test_wandb.note, _partial_: true}")
    assert evaluate("limit=1", logger=logger) == 0
    assert (tmp_path / "ledgers" / "made").exists() == made


class Resumed:
    """A run that the server has had before, with so many rows."""

    resumed = True

    def __init__(self, rows: int) -> None:
        self.summary: dict[str, Any] = {SENT: rows}
        self.rows: list[Any] = []
        self.works: list[str] = []

    def log(self, values: dict[str, Any]) -> None:
        table = values["fixtures"]
        self.rows = [
            (row[table.columns.index("fixture_id")], row[table.columns.index("cell_id")]) for row in table.data
        ]
        self.works = [row[table.columns.index("contract_work")] for row in table.data]


def test_a_resumed_run_goes_on_behind_its_rows_and_waits_for_whole_fixtures() -> None:
    """Cells of other processes land late; a cell that was stopped is waited for no more."""
    first = make_observation(contract_work=ContractWork(seconds=1.5))
    landed = [
        replace(first, fixture_id=f"f{index}", fixture_index=index, cell_id=cell)
        for index, cell in ((0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "b"), (3, "a"), (3, "b"))
    ]
    stopped: set[str] = set()
    run = Resumed(3)
    evaluation: Any = SimpleNamespace(
        listeners=[], loggers=[WandbLogger(experiment=run)], cells=dict.fromkeys("ab"),
        fixtures=[SimpleNamespace(fixture_id=f"f{index}") for index in range(6)],
        measured=lambda: SimpleNamespace(observations=landed), is_active=lambda cell: cell not in stopped,
    )  # fmt: skip
    table = FixtureTable(evaluation, flush_every=2)
    (listen,) = evaluation.listeners
    table.on_exception(None, None, KeyboardInterrupt())
    assert run.rows == [("f1", "b")]
    assert '"seconds":1.5' in run.works[0]  # a column holds texts and numbers, no records
    assert run.summary[SENT] == 4
    listen([replace(landed[4], cell_id="a")])
    table.report()
    assert run.rows[1:] == [("f2", "a"), ("f2", "b"), ("f3", "a"), ("f3", "b")]
    stopped.add("b")
    listen([replace(landed[0], fixture_id="f4")])
    table.on_predict_batch_end(None, None, None, None, 0)
    assert len(run.rows) == 5
    table.on_predict_batch_end(None, None, None, None, 1)
    assert run.rows[5:] == [("f4", "a")]
    assert run.summary[SENT] == 9


def _choices(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter of a sweep, or the ends of its range."""
    if "value" in parameter:
        return [parameter["value"]]
    return list(parameter["values"] if "values" in parameter else (parameter["min"], parameter["max"]))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_agent_s_command_is_one_that_plans_a_panel(path: Path) -> None:
    """The parameters as W&B's own agent writes them, at either end of each."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load(path.read_text())
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    assert sweep["program"] == "launch.py"
    for end in (0, -1):
        values = {name: _choices(one)[end] for name, one in sweep["parameters"].items()}
        given = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
        cfg = composed(*given["args_no_hyphens"])
        assert len(plan_panel(cfg).pruned) >= 1
        assert cfg.logger.mode == "online"
