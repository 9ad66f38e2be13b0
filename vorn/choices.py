"""What the configuration offers: groups, options, keys, as the yaml files say it; and errors with near matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vorn.records import BadInput

# Groups of which a panel takes several options: of KV-cache eviction, and of snapshot eviction.
FOR_WANDB = "sweep"  # the one folder in conf/ that holds no group: its files are for `wandb sweep`
AXES = ("policy", "allocation", "unit", "guards", "contract", "snapshot_policy", "workload")


def unknown(what: str, name: str, options: Iterable[str], hint: str = "") -> BadInput:
    """The error for a name that is none of `options`: near matches first, then all of them."""
    available = sorted(set(options))
    near = " or ".join(repr(option) for option in get_close_matches(name, available, n=2))
    parts = [
        f"Unknown {what} {name!r}.",
        f"Did you mean {near}?" if near else "",
        f"Available: {', '.join(available)}.",
    ]
    return BadInput(" ".join(part for part in [*parts, hint] if part))


def conf_dirs(extra: Iterable[Path] = ()) -> list[Path]:
    """Folders that hold config groups: `extra`, then the running Hydra job's, then the project's own."""
    dirs = list(extra)
    if HydraConfig.initialized():
        dirs += [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
    return list(dict.fromkeys([*dirs, Path(str(files("conf")))]))


def groups(dirs: Iterable[Path]) -> set[str]:
    """Names of the config groups: subfolders that hold a yaml file."""
    return {path.parent.name for folder in dirs for path in folder.glob("*/*.yaml")} - {FOR_WANDB}


def options(group: str, dirs: Iterable[Path]) -> dict[str, Path]:
    """Option names of a group with their files; the first folder that has one wins."""
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in sorted((folder / group).rglob("*.yaml")):
            found.setdefault(path.relative_to(folder / group).with_suffix("").as_posix(), path)
    return found


def members(group: str, option: str, dirs: Iterable[Path]) -> set[str] | None:
    """Keys that an option of a group sets, those of the options that it begins with among them.

    None if that cannot be told from the files alone: the option stands elsewhere, or what it begins with does.
    """
    dirs = list(dirs)
    path = options(group, dirs).get(option)
    if path is None or path.read_text().startswith("# @package"):
        return None
    body = raw(load(path))
    found = set(body) - {"defaults"}
    for entry in body.get("defaults", []):
        if not isinstance(entry, str) or entry.startswith("/"):
            return None
        base, at, package = entry.partition("@")
        own = {package.split(".")[0]} if at else set() if base == "_self_" else members(group, base, dirs)
        if own is None:
            return None
        found |= own
    return found


def load(path: Path) -> DictConfig:
    """One yaml file, uncomposed. Raises BadInput if it holds no mapping."""
    loaded = OmegaConf.load(path)
    if not isinstance(loaded, DictConfig):
        raise BadInput(f"{path} holds a list: a config file must hold a mapping")
    return loaded


def raw(node: Any) -> dict[str, Any]:
    """A config node's content with interpolations as text; {} for anything but a mapping."""
    content = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    return {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}


@cache
def primary() -> DictConfig:
    """The project's conf/config.yaml, uncomposed and read-only: defaults, and the default option of every group."""
    config = load(Path(str(files("conf"))) / "config.yaml")
    OmegaConf.set_readonly(config, True)
    return config


def top_level_keys(dirs: Iterable[Path]) -> set[str]:
    """Keys that may stand first in an override: those of config.yaml, the groups, and Hydra's own."""
    return {key for key in raw(primary()) if key != "defaults"} | groups(dirs) | {"hydra"}


def default_options(group: str) -> tuple[str, ...]:
    """The options of `group` that config.yaml selects."""
    for entry in raw(primary())["defaults"]:
        if isinstance(entry, Mapping) and group in entry:
            chosen = entry[group]
            return tuple(chosen) if isinstance(chosen, list) else (str(chosen),)
    return ()
