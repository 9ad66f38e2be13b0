"""Importing goes one way only: the edges below are the design; the imports are read from the syntax trees.

Imports inside functions are late on purpose (launch.py meets torch only after the configuration was judged) and are
not edges; what a module really loads is tested in a process.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest
from composing import ROOT

PACKAGES = ("vorn", "callbacks", "tasks", "launch", "conf")

# Module or package -> what it may import of this project. The longest entry that fits a module counts for it, and for
# a package itself imports within it are free.
EDGES: dict[str, set[str]] = {
    "vorn": set(),
    "vorn.records": set(),
    "vorn.jsonl": {"vorn.records"},
    "vorn.metrics": set(),
    "vorn.reach": set(),
    "vorn.chinese": {"vorn.records", "vorn.metrics"},
    "vorn.graded": {"vorn.records"},
    "vorn.longbench": {"vorn.records", "vorn.metrics", "vorn.chinese", "vorn.graded"},
    "vorn.grading": {"vorn.records", "vorn.metrics", "vorn.graded", "vorn.longbench"},
    "vorn.appending": {"vorn.records"},
    "vorn.views": {"vorn.records", "vorn.appending"},
    "vorn.segments": {"vorn.records", "vorn.jsonl"},
    "vorn.ledger": {"vorn.records", "vorn.appending", "vorn.jsonl", "vorn.segments"},
    "vorn.regrade": {"vorn.records", "vorn.grading", "vorn.ledger"},
    "vorn.pulse": set(),
    "vorn.claims": {"vorn.records", "vorn.ledger", "vorn.pulse"},
    "vorn.stats": {"vorn.records"},
    "vorn.report": {
        "vorn.records", "vorn.ledger", "vorn.grading", "vorn.stats", "vorn.regrade", "vorn.views",
        "vorn.snapshots.matrix", "vorn.snapshots.parts", "vorn.snapshots.recorded", "vorn.snapshots.sensitivity",
    },
    "vorn.audit": {"vorn.records", "vorn.ledger", "vorn.grading", "vorn.stats", "vorn.segments"},
    "tasks": {"vorn.records", "vorn.grading", "vorn.kv.units", "vorn.reach"},
    "vorn.choices": {"vorn.records"},
    "vorn.fuse": {"vorn.records", "vorn.choices"},
    "vorn.settings": {"vorn.records", "vorn.choices", "vorn.grading"},
    "vorn.cells": {"vorn.records", "vorn.kv.units", "vorn.settings"},
    "vorn.axes": {"vorn.records", "vorn.kv.units", "vorn.settings", "vorn.choices", "vorn.cells", "vorn.contracts"},
    "vorn.policies": {"vorn.records", "vorn.settings", "vorn.choices", "vorn.cells", "vorn.axes"},
    "vorn.contracts": {"vorn.records", "vorn.settings"},
    "vorn.panel": {
        "vorn.records", "vorn.kv.units", "vorn.settings", "vorn.choices", "vorn.cells", "vorn.axes", "vorn.policies",
        "vorn.contracts", "vorn.stats",
    },
    "vorn.identity": {"vorn.settings"},
    "vorn.processes": set(),
    "vorn.sweeps": {"vorn.ledger", "vorn.processes", "vorn.report", "vorn.views"},
    "vorn.cli": {"vorn.records", "vorn.fuse", "vorn.processes", "vorn.sweeps"},
    "vorn.fanout": {"vorn.records", "vorn.panel", "vorn.processes", "vorn.sweeps"},
    "vorn.worker": {"vorn.cli", "vorn.fanout", "vorn.processes"},
    "vorn.kv": set(),
    "vorn.kv.units": {"vorn.records"},
    "vorn.kv.rotary": {"vorn.records"},
    "vorn.kv.signals": {"vorn.records", "vorn.kv.rotary"},
    "vorn.kv.attention": {"vorn.kv.signals"},
    "vorn.kv.entries": {"vorn.records", "vorn.kv.signals"},
    "vorn.kv.rules": {"vorn.kv.signals"},
    "vorn.kv.steps": {"vorn.kv.attention", "vorn.kv.signals"},
    "vorn.kv.hold": {"vorn.kv.rules", "vorn.kv.units"},
    "vorn.kv.scorers": {
        "vorn.records", "vorn.kv.attention", "vorn.kv.signals", "vorn.kv.entries", "vorn.kv.rotary", "vorn.kv.rules",
        "vorn.kv.steps",
    },
    "vorn.kv.allocation": {"vorn.records"},
    "vorn.kv.retention": {"vorn.records", "vorn.kv.units", "vorn.kv.allocation"},
    "vorn.kv.policy": {
        "vorn.records", "vorn.kv.units", "vorn.kv.signals", "vorn.kv.allocation", "vorn.kv.hold", "vorn.kv.retention",
        "vorn.kv.rules",
    },
    "vorn.kv.batching": {"vorn.records", "vorn.kv.hold", "vorn.kv.retention"},
    "vorn.kv.recurrent": set(),
    "vorn.kv.cache": {"vorn.kv.layout", "vorn.kv.recurrent", "vorn.kv.retention"},
    "vorn.kv.buffers": {"vorn.records", "vorn.kv.cache", "vorn.kv.recurrent", "vorn.kv.retention"},
    "vorn.kv.override": {"vorn.records", "vorn.kv.signals"},
    "vorn.kv.layout": {"vorn.records", "vorn.kv.signals"},
    "vorn.kv.capture": {
        "vorn.records", "vorn.kv.signals", "vorn.kv.cache", "vorn.kv.layout", "vorn.kv.override", "vorn.kv.recurrent",
        "vorn.kv.rotary",
    },
    "vorn.kv.probe": {"vorn.records", "vorn.kv.capture", "vorn.kv.layout", "vorn.kv.recurrent"},
    "vorn.kv.compact": {"vorn.records", "vorn.kv.buffers", "vorn.kv.retention", "vorn.kv.rotary"},
    "vorn.kv.ragged": {
        "vorn.kv.batching", "vorn.kv.buffers", "vorn.kv.capture", "vorn.kv.override", "vorn.kv.query",
        "vorn.kv.signals",
    },
    "vorn.kv.query": {"vorn.records", "vorn.kv.signals"},
    "vorn.kv.held": {
        "vorn.kv.batching", "vorn.kv.buffers", "vorn.kv.capture", "vorn.kv.compact", "vorn.kv.hold", "vorn.kv.query",
        "vorn.kv.retention", "vorn.kv.rotary", "vorn.kv.rules",
    },
    "vorn.kv.greedy": set(),
    "vorn.kv.forwards": {
        "vorn.kv.batching", "vorn.kv.buffers", "vorn.kv.capture", "vorn.kv.compact", "vorn.kv.greedy", "vorn.kv.held",
        "vorn.kv.override", "vorn.kv.ragged", "vorn.kv.recurrent", "vorn.kv.rotary",
    },
    "vorn.kv.decode": {
        "vorn.records", "vorn.kv.batching", "vorn.kv.buffers", "vorn.kv.capture", "vorn.kv.compact", "vorn.kv.forwards",
        "vorn.kv.greedy", "vorn.kv.held", "vorn.kv.hold", "vorn.kv.recurrent", "vorn.kv.retention",
    },
    "vorn.kv.reread": {"vorn.kv.capture", "vorn.kv.layout", "vorn.kv.signals", "vorn.kv.steps"},
    "vorn.kv.reforward": {
        "vorn.records", "vorn.kv.capture", "vorn.kv.greedy", "vorn.kv.policy", "vorn.kv.reread", "vorn.kv.signals",
    },
    "vorn.models": {"vorn.records", "vorn.reach"},
    "vorn.models.pocket": {"vorn.records", "vorn.grading", "vorn.models", "tasks"},
    "vorn.data": {"vorn.records", "vorn.claims", "vorn.models", "vorn.kv.units"},
    "vorn.stopping": {"vorn.records", "vorn.stats"},
    "vorn.evaluation": {
        "vorn.records", "vorn.ledger", "vorn.claims", "vorn.report", "vorn.cells", "vorn.panel", "vorn.stats",
        "vorn.stopping",
    },
    "vorn.work": {"vorn.records", "vorn.cells", "vorn.models", "vorn.data", "vorn.kv"},
    "vorn.module": {
        "vorn.records", "vorn.grading", "vorn.cells", "vorn.contracts", "vorn.models", "vorn.data", "vorn.kv",
        "vorn.work", "vorn.memory",
    },
    "vorn.memory": {"vorn.records", "vorn.work"},
    "vorn.bench": {
        "vorn.records", "vorn.kv", "vorn.cells", "vorn.choices", "vorn.data", "vorn.memory", "vorn.models",
        "vorn.module", "vorn.panel", "vorn.work", "callbacks",
    },
    "vorn.bench.ledger": {"vorn.records", "vorn.ledger", "vorn.segments", "vorn.report", "vorn.stats"},
    "vorn.loggers": set(),
    "vorn.hooks": {"vorn.evaluation"},
    "vorn.provenance": {"vorn.records", "vorn.processes"},
    "vorn.quiet": set(),
    "vorn.jobs": {"vorn.fanout", "vorn.panel", "vorn.processes"},
    "vorn.snapshots": {"vorn.records"},
    "vorn.snapshots.paths": {"vorn.records"},
    "vorn.snapshots.minqueue": set(),
    "vorn.snapshots.agetree": set(),
    "vorn.snapshots.entry": {"vorn.snapshots.paths"},
    "vorn.snapshots.evictor": {"vorn.snapshots.entry", "vorn.snapshots.minqueue", "vorn.snapshots.paths"},
    "vorn.snapshots.placement": {"vorn.records", "vorn.snapshots.entry"},
    "vorn.snapshots.cost": {"vorn.records"},
    "vorn.snapshots.requests": {"vorn.records", "vorn.snapshots.paths", "vorn.snapshots.placement"},
    "vorn.snapshots.index": {
        "vorn.records", "vorn.snapshots.entry", "vorn.snapshots.evictor", "vorn.snapshots.paths",
    },
    "vorn.snapshots.simulate": {
        "vorn.snapshots.cost", "vorn.snapshots.evictor", "vorn.snapshots.index", "vorn.snapshots.placement",
        "vorn.snapshots.requests",
    },
    "vorn.snapshots.engine": {
        "vorn.snapshots.cost", "vorn.snapshots.placement", "vorn.snapshots.requests", "vorn.snapshots.simulate",
    },
    "vorn.snapshots.policies": {
        "vorn.records", "vorn.snapshots.paths", "vorn.snapshots.entry", "vorn.snapshots.minqueue",
        "vorn.snapshots.agetree", "vorn.snapshots.evictor",
    },
    "vorn.snapshots.workloads": {
        "vorn.records", "vorn.snapshots.paths", "vorn.snapshots.placement", "vorn.snapshots.requests",
    },
    "vorn.snapshots.matrix": {"vorn.records", "vorn.stats"},
    "vorn.snapshots.parts": {"vorn.snapshots.matrix"},
    "vorn.snapshots.recorded": {"vorn.records", "vorn.ledger", "vorn.snapshots.matrix", "vorn.snapshots.placement"},
    "vorn.snapshots.cells": {
        "vorn.records", "vorn.snapshots.index", "vorn.snapshots.simulate", "vorn.snapshots.policies",
    },
    "vorn.snapshots.selected": {
        "vorn.records", "vorn.choices", "vorn.settings", "vorn.snapshots.cells", "vorn.snapshots.index",
    },
    "vorn.snapshots.plan": {
        "vorn.records", "vorn.choices", "vorn.settings", "vorn.snapshots.cells", "vorn.snapshots.cost",
        "vorn.snapshots.placement", "vorn.snapshots.requests", "vorn.snapshots.selected", "vorn.stats",
    },
    "vorn.snapshots.campaign": {
        "vorn.records", "vorn.ledger", "vorn.snapshots.cells", "vorn.snapshots.plan", "vorn.snapshots.requests",
    },
    "vorn.snapshots.module": {
        "vorn.snapshots.matrix",
        "vorn.records", "vorn.snapshots.campaign", "vorn.snapshots.cells", "vorn.snapshots.engine",
        "vorn.snapshots.requests",
    },
    "vorn.snapshots.run": {
        "vorn.records", "vorn.evaluation", "vorn.hooks", "vorn.loggers", "vorn.processes", "vorn.provenance",
        "vorn.quiet", "vorn.sweeps",
        "vorn.snapshots.campaign", "vorn.snapshots.engine", "vorn.snapshots.module", "vorn.snapshots.plan",
    },
    "vorn.snapshots.bench": {
        "vorn.records", "vorn.snapshots.entry", "vorn.snapshots.evictor", "vorn.snapshots.index",
        "vorn.snapshots.paths", "vorn.snapshots.policies",
    },
    "vorn.snapshots.sensitivity": {
        "vorn.records", "vorn.ledger", "vorn.snapshots.matrix", "vorn.snapshots.recorded",
    },
    "vorn.snapshots.states": {"vorn.records"},
    "vorn.snapshots.tiny": {"vorn.records", "vorn.choices"},
    "vorn.snapshots.material": {"vorn.records"},
    "vorn.snapshots.decay_files": set(),
    "vorn.snapshots.decay": {
        "vorn.records", "vorn.snapshots.decay_files", "vorn.snapshots.material", "vorn.snapshots.states",
        "vorn.snapshots.tiny",
    },
    "vorn.snapshots.window": {
        "vorn.records", "vorn.snapshots.material", "vorn.snapshots.states", "vorn.snapshots.tiny",
    },
    "vorn.snapshots.cold": {
        "vorn.snapshots.engine", "vorn.snapshots.paths", "vorn.snapshots.requests", "vorn.snapshots.simulate",
        "vorn.snapshots.states",
    },
    "vorn.snapshots.executed": {
        "vorn.snapshots.cold",
        "vorn.snapshots.paths", "vorn.snapshots.entry", "vorn.snapshots.index", "vorn.snapshots.placement",
        "vorn.snapshots.requests", "vorn.snapshots.cost", "vorn.snapshots.simulate", "vorn.snapshots.engine",
        "vorn.snapshots.states", "vorn.snapshots.tiny",
    },
    "callbacks": {
        "vorn.records", "vorn.ledger", "vorn.report", "vorn.evaluation", "vorn.cells", "vorn.panel", "vorn.data",
        "vorn.models", "vorn.module", "vorn.work", "vorn.kv", "vorn.loggers", "vorn.snapshots", "vorn.views",
    },
    "vorn.fixtures": {"vorn.records", "vorn.grading", "vorn.settings", "vorn.contracts", "vorn.models", "vorn.panel"},
    "vorn.run": {"vorn", "callbacks", "tasks"},
    "launch": {"vorn.cli"},
    "conf": set(),
}  # fmt: skip

HEAVY = {"torch", "transformers", "lightning", "wandb", "torchmetrics", "tokenizers", "safetensors"}
CONFIGURATION = {"hydra", "omegaconf"}

# Module or package -> third-party packages that it must not import when it is imported.
FORBIDDEN: dict[str, set[str]] = {
    **dict.fromkeys(("vorn", "tasks", "vorn.kv.units"), HEAVY | CONFIGURATION),
    **{
        f"vorn.{name}": HEAVY | CONFIGURATION
        for name in (
            "records",
            "jsonl",
            "metrics",
            "chinese",
            "graded",
            "longbench",
            "reach",
            "grading",
            "appending",
            "views",
            "segments",
            "ledger",
            "regrade",
            "pulse",
            "claims",
            "processes",
            "sweeps",
            "stats",
            "stopping",
            "report",
            "audit",
        )
    },
    **{
        f"vorn.{name}": HEAVY
        for name in (
            "choices",
            "fuse",
            "settings",
            "cells",
            "axes",
            "contracts",
            "policies",
            "panel",
            "identity",
            "cli",
            "fanout",
            "worker",
            "evaluation",
        )
    },
    "launch": HEAVY,
    "vorn.provenance": HEAVY | CONFIGURATION,
    "vorn.quiet": {"wandb", *CONFIGURATION},
    "vorn.jobs": HEAVY,
    "vorn.snapshots": HEAVY | CONFIGURATION,
    **{f"vorn.snapshots.{name}": HEAVY for name in ("cells", "selected", "plan", "campaign")},
    **{f"vorn.snapshots.{name}": {"wandb"} for name in ("module", "run")},
    **{
        f"vorn.snapshots.{name}": {"lightning", "wandb", *CONFIGURATION}
        for name in ("states", "tiny", "material", "cold", "executed", "decay", "window")
    },
    "vorn.kv": {"lightning", "wandb", "torchmetrics", *CONFIGURATION},
    **{
        f"vorn.kv.{name}": {"transformers", "lightning", "wandb", "torchmetrics", *CONFIGURATION}
        for name in (
            "signals",
            "attention",
            "entries",
            "rotary",
            "scorers",
            "allocation",
            "retention",
            "policy",
            "batching",
        )
    },
    "vorn.models": {"lightning", "wandb", "torchmetrics"},
    "vorn.memory": {"lightning", "wandb", *CONFIGURATION},
    "vorn.bench": {"wandb"},
    **{f"vorn.bench.{name}": {"lightning", "wandb", *CONFIGURATION} for name in ("engine", "measures")},
    "vorn.bench.ledger": HEAVY | CONFIGURATION,
    "vorn.data": {"wandb"},
    "vorn.work": {"lightning", "wandb", *CONFIGURATION},
    "vorn.module": {"wandb"},
    "vorn.loggers": {"wandb"},
    "vorn.hooks": {"wandb"},
    "callbacks": set(),
    "vorn.fixtures": {"lightning", "wandb"},
    "vorn.run": set(),
    "conf": HEAVY | CONFIGURATION,
}


def modules() -> dict[str, ast.Module]:
    """Every module of the project with its syntax tree."""
    paths = [ROOT / "launch.py", *(p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py")))]
    found = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(), str(path))
    return found


MODULES = modules()


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """Modules that importing `tree` imports: the bodies of functions and of `if TYPE_CHECKING:` are not entered."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, base] if base else package)
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from ([name if name in MODULES else base for name in names])
        else:
            yield from imported(module, node)


def entry(module: str, table: dict[str, set[str]]) -> str:
    """The most specific entry of `table` for a module."""
    fitting = [name for name in table if within(module, name)]
    return max(fitting, key=len) if fitting else ""


def problems(module: str, tree: ast.AST) -> list[str]:
    """What the module imports against the design."""
    place = entry(module, EDGES)
    if place in ("", "vorn") and module != "vorn":
        return [f"{module} has no entry in EDGES: say there what it may import"]
    found = []
    for name in imported(module, tree):
        if name.split(".")[0] in PACKAGES:
            free = within(name, place) and entry(name, EDGES) == place
            if not free and not any(within(name, allowed) for allowed in EDGES[place]):
                found.append(f"{module} must not import {name}")
        elif name.split(".")[0] in FORBIDDEN[entry(module, FORBIDDEN)]:
            found.append(f"{module} must not import {name} when it is imported")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert problems(module, MODULES[module]) == []


def test_the_edges_have_no_cycle() -> None:
    done: set[str] = set()
    while ready := {name for name, edges in EDGES.items() if name not in done and edges - {"vorn", "vorn.kv"} <= done}:
        done |= ready
    assert done == set(EDGES)


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("vorn.stats", "import torch.nn", "vorn.stats must not import torch.nn when it is imported"),
        ("vorn.stats", "try:\n    import hydra\nexcept ImportError:\n    pass", "vorn.stats must not import hydra"),
        ("vorn.stats", "from vorn.report import build", "vorn.stats must not import vorn.report.build"),
        ("vorn.kv.scorers.tova", "from vorn.kv import cache", "must not import vorn.kv.cache"),
        ("vorn.kv.scorers.tova", "from ..cache import gather", "must not import vorn.kv.cache"),
        ("vorn.kv.policy", "class A:\n    import transformers", "must not import transformers"),
        ("vorn.panel", "import launch", "must not import launch"),
        ("vorn.unheard", "import os", "has no entry in EDGES"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, problem: str) -> None:
    assert any(problem in found for found in problems(module, ast.parse(source)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vorn.stats", "def f():\n    import torch"),
        ("vorn.stats", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("vorn.kv.scorers.tova", "from vorn.kv.scorers import h2o"),
        ("vorn.kv.decode", "import transformers"),
    ],
)
def test_a_right_import_is_allowed(module: str, source: str) -> None:
    assert problems(module, ast.parse(source)) == []


def loaded(names: list[str]) -> set[str]:
    """Top-level packages that a fresh process has loaded after importing `names`."""
    code = (
        f"import sys\n{''.join(f'import {n}{chr(10)}' for n in names)}print(*{{m.split('.')[0] for m in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.split())


@pytest.mark.integration
@pytest.mark.parametrize("banned", [HEAVY | CONFIGURATION, HEAVY], ids=["neither torch nor hydra", "no torch"])
def test_light_modules_really_load_nothing_heavy(banned: set[str]) -> None:
    light = [m for m in MODULES if banned <= FORBIDDEN[entry(m, FORBIDDEN)] and not m.endswith("__main__")]
    assert len(light) > 5
    assert loaded(light) & banned == set()
