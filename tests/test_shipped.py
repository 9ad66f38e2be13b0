"""The checkpoints that ship, through the main job's own path: they retrieve, and eviction can make them fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.composing import ROOT, composed
from vorn.ledger import read_ledger
from vorn.models.pocket.families import FAMILIES
from vorn.panel import plan_panel

pytestmark = pytest.mark.integration
POCKET = ROOT / "vorn" / "models" / "pocket"
FOLDERS = sorted(path.parent for path in POCKET.glob("*/config.json"))
each_checkpoint = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_family_ships() -> None:
    assert {folder.name for folder in FOLDERS} == set(FAMILIES)


@each_checkpoint
def test_it_is_small_described_and_safe_to_load(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    assert (folder / "README.md").read_text().startswith(f"# pocket_{folder.name}\n")
    assert json.loads((folder / "config.json").read_text())["model_type"] == folder.name


@each_checkpoint
def test_all_ship_with_the_same_tokenizer_which_the_script_makes(
    pocket_tokenizer: object, tmp_path: Path, folder: Path
) -> None:
    pocket_tokenizer.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (FOLDERS[0] / name).read_bytes()
    made, shipped = (json.loads((at / "tokenizer.json").read_text()) for at in (tmp_path, folder))
    assert made["model"] == shipped["model"]
    assert made["pre_tokenizer"] == shipped["pre_tokenizer"]


@each_checkpoint
def test_it_retrieves_what_it_never_saw_and_loses_what_is_evicted(folder: Path, tmp_path: Path) -> None:
    from vorn import run

    panel = ("policy=[random]", "unit=[token]", "budget=[25%]", "limit=12", "seed=7")
    cfg = composed(f"model=pocket_{folder.name}", "logger=none", f"ledger_dir={tmp_path}", *panel)
    assert cfg.model.id == f"pkg://vorn.models.pocket/{folder.name}"
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
    (ledger,) = (path for path in tmp_path.iterdir() if path.name != "out")
    hits = {"full": 0, "random/token/25%": 0}
    for seen in read_ledger(ledger).observations:
        hits[seen.cell] += seen.outcome == 1.0
    assert hits["full"] >= 11
    assert hits["random/token/25%"] < 6
