"""Composing the project's configuration in tests."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def composed(*overrides: str) -> DictConfig:
    """The configuration of `python launch.py OVERRIDES`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def task_config(name: str, *assignments: str) -> DictConfig:
    """The `task` node of one option of the group, without the rest of the configuration; far quicker to compose."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(f"task/{name}", ["+seed=0"])
    for one in assignments:
        cfg = changed_to(cfg, f"task.{one}")
    return cfg.task


def changed_to(cfg: DictConfig, assignment: str) -> DictConfig:
    """A copy with one value changed, `key=value` as in YAML; far quicker than composing anew."""
    key, _, value = assignment.partition("=")
    copy = deepcopy(cfg)
    OmegaConf.update(copy, key, OmegaConf.create(f"value: {value}").value)
    return copy
