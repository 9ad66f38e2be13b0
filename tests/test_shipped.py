"""The checkpoint that ships, through the main job's own path: it retrieves, and eviction can make it fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.composing import ROOT, composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel

pytestmark = pytest.mark.integration
FOLDER = ROOT / "vorn" / "models" / "pocket" / "llama"


def test_it_is_small_and_safe_to_load() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    assert json.loads((FOLDER / "config.json").read_text())["model_type"] == "llama"


def test_it_ships_with_the_tokenizer_that_the_script_makes(pocket_tokenizer: object, tmp_path: Path) -> None:
    pocket_tokenizer.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    made, shipped = (json.loads((folder / "tokenizer.json").read_text()) for folder in (tmp_path, FOLDER))
    assert made["model"] == shipped["model"]
    assert made["pre_tokenizer"] == shipped["pre_tokenizer"]


def test_it_retrieves_what_it_never_saw_and_loses_what_is_evicted(tmp_path: Path) -> None:
    from vorn import run

    cfg = composed(
        "logger=none", "limit=40", "seed=7", "policy=[random]", "unit=[token]", "budget=[25%]", f"ledger_dir={tmp_path}"
    )
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
    (ledger,) = (path for path in tmp_path.iterdir() if path.name != "out")
    hits = {"full": 0, "random/token/25%": 0}
    for seen in read_ledger(ledger).observations:
        hits[seen.cell] += seen.outcome == 1.0
    assert hits["full"] >= 37
    assert hits["random/token/25%"] < 20
