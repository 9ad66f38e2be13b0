"""Under which circumstances a run measures: the manifest of its ledger segments. Imports no torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import node, python_version
from typing import Any

from vorn.processes import Rank
from vorn.records import Manifest

_PACKAGES = ("vorn", "torch", "transformers", "tokenizers", "lightning", "hydra-core", "wandb", "scipy", "numpy")


def make_manifest(
    evaluation_id: str, config: Mapping[str, Any], *, dtype: str, device: str, fixtures: int | None = None
) -> Manifest:
    """The manifest of this process, now. `config`: the resolved configuration; `fixtures`: see `Manifest`."""
    return Manifest(
        evaluation_id=evaluation_id,
        created=datetime.now(UTC).isoformat(),
        host=node(),
        pid=os.getpid(),
        rank=Rank.of(os.environ).rank,
        config=config,
        versions={"python": python_version()} | {name: version(name) for name in _PACKAGES},
        dtype=dtype,
        device=device,
        git_revision=_git_revision(),
        fixtures=fixtures,
    )


def _git_revision() -> str | None:
    """Revision of the checkout this runs from, "+dirty" with uncommitted changes; None without git."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
