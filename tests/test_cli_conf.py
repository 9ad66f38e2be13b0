"""Every yaml file of conf/ by glob: it composes, plans a panel, and names things that exist."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from composing import CONF, ROOT, changed_to, composed
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vorn.choices import default_options
from vorn.panel import plan_panel

# What stands under hydra/ needs a launcher plugin, which is the user's choice; sweep/ is W&B's.
FILES = [path for path in sorted(CONF.glob("*/**/*.yaml")) if path.relative_to(CONF).parts[0] not in ("hydra", "sweep")]
AXES = ("policy", "allocation", "unit", "guards", "contract")
RESUME = ("snapshot_policy", "workload", "placement", "cost", "engine", "pool", "verdict")  # of experiment=warm_resume
RESUME_FILES = [path for path in FILES if path.parent.name in RESUME]
OURS = ("vorn", "callbacks", "tasks")


def ident(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


def plain(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path))


def targets(node: Any) -> list[str]:
    """All `_target_` values of plain YAML data."""
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return []


@pytest.mark.parametrize("path", [path for path in FILES if path not in RESUME_FILES], ids=ident)
def test_every_option_composes_and_plans(path: Path) -> None:
    group, option = path.parent.relative_to(CONF).as_posix(), path.stem
    given = [f"{group}=[{option}]" if group in AXES else f"{group}={option}"]
    own = (plain(path) or {}).get(option)
    if isinstance(own, dict) and "contracts" in own:
        given.append(f"contract=[{own['contracts'][0]}]")
    cfg = composed(*given)
    chosen: Any = OmegaConf.to_container(cfg)
    for key in [key for key, value in (chosen.get(group) or {}).items() if value == "???"]:
        cfg = changed_to(cfg, f"{group}.{key}=somewhere")
    plan = plan_panel(cfg)
    assert plan.reference.label == "full"
    if group in AXES and option not in ("full", "all", "uniform"):
        # Units, which all heads keep, make a cell without an allocation over heads.
        plan = plan if group != "allocation" else plan_panel(composed(*given, "unit=[token]"))
        assert {getattr(cell, group).partition("(")[0] for cell in plan.pruned} == {option}


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in AXES], ids=ident)
def test_an_option_of_an_axis_holds_one_key_its_name(path: Path) -> None:
    content = plain(path)
    assert list(content) == (["defaults"] if "defaults" in content else [path.stem])


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=ident)
def test_an_experiment_overrides_the_defaults_and_the_command_line_overrides_it(path: Path) -> None:
    content, base = plain(path), composed()
    own = {key: value for key, value in content.items() if key not in ("defaults", *AXES, *RESUME, "stats")}
    got = composed(f"experiment={path.stem}")
    for key, value in own.items():
        is_group = isinstance(value, dict)
        assert ({name: got[key][name] for name in value} if is_group else got[key]) == value
    assert any(got[key] != base[key] for key in got)
    assert composed(f"experiment={path.stem}", "budget=[99]", "limit=7").budget == [99]


def test_all_selects_every_policy_that_evicts() -> None:
    files = {path.stem: plain(path).get(path.stem, {}) for path in (CONF / "policy").glob("*.yaml")}
    names = {name for name, own in files.items() if "contracts" not in own}
    names -= {"all", "full", "step_query_mass"}  # which is last_query_mass where a contract scores once
    assert set(composed("policy=all").policy) == names
    assert set(default_options("policy")) < names


def test_no_logger_means_null() -> None:
    assert composed("logger=none").logger is None
    assert composed("experiment=smoke", "logger=csv").logger._target_.endswith("CSVLogger")


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_every_target_of_this_project_exists(path: Path) -> None:
    """Read from the source, so that no class needs torch to be found."""
    for target in targets(plain(path)):
        module, _, name = target.rpartition(".")
        if module.split(".")[0] in OURS:
            tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}, target


@pytest.mark.integration
@pytest.mark.parametrize("policy", ["all"])
def test_every_policy_and_unit_instantiates_from_its_cell(policy: str) -> None:
    plan = plan_panel(
        composed(f"policy=[{policy}]", "unit=[token,word,sentence,adaptive]", "guards=[matched,none,published]")
    )
    for cell in plan.pruned:
        scorer = instantiate(cell.policy_config)
        assert {name: getattr(scorer, name) for name in cell.policy_config if name != "_target_"} == {
            name: value for name, value in cell.policy_config.items() if name != "_target_"
        }
        assert instantiate(cell.unit_config)("One. Two.", [(0, 4), (5, 9)]) in ([0, 0], [0, 1])
