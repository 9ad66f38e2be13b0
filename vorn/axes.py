"""Reading the axes of a panel from the configuration: units, guards, contracts, budgets. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vorn import choices
from vorn.cells import Guards
from vorn.contracts import idle_settings, make_contracts
from vorn.kv.units import FITS, POOLS, SPLITS, UnitRule
from vorn.records import BadInput, digest
from vorn.settings import (
    budget_text,
    choice,
    expand,
    guard,
    refuse_twice,
    resolved,
    text,
    whole,
)


class Unit(NamedTuple):
    """A unit with one rule; `identity` holds only the settings that mean something for it."""

    text: str
    config: dict[str, Any]
    rule: UnitRule
    identity: dict[str, Any]


class GuardRule(NamedTuple):
    """How many tokens are guarded, or that each policy says so itself."""

    text: str
    name: str
    sinks: int | str | None  # None: the policy's own
    recent: int | str | None


class ContractRule(NamedTuple):
    """When eviction happens, with one value for each setting; `config` has `_target_` and the settings."""

    text: str
    name: str
    config: dict[str, Any]

    @property
    def first_token(self) -> str:
        """Where the first token comes from; "" if the contract leaves no choice."""
        return str(self.config.get("first_token", ""))

    @property
    def identity(self) -> list[Any]:
        """Its name and settings, as cells are identified by them."""
        own = {name: value for name, value in self.config.items() if name not in ("_target_", "first_token")}
        return [self.name, *([self.first_token] if self.first_token else []), *([own] if own else [])]


def entries(cfg: DictConfig, group: str, settings: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The selected options of an axis; the other keys of its node must be `settings`."""
    node = resolved(cfg.get(group))
    selected = {name: value for name, value in node.items() if isinstance(value, Mapping)}
    known = choices.options(group, choices.conf_dirs())
    for name, value in node.items():
        if name in known and name not in selected:
            raise BadInput(f"{group}.{name}={value!r} is not legal: {name} is a {group}; select it with {group}={name}")
        if name not in selected and name not in settings:
            raise choices.unknown(f"{group} setting", name, settings or known)
    if not selected:
        raise BadInput(f"{group} selects nothing; name at least one of: {', '.join(sorted(known))}")
    return {name: dict(value) for name, value in selected.items()}


def file_defaults(cfg: DictConfig, group: str, name: str) -> dict[str, Any] | None:
    """What the option's own file says, its interpolations resolved in `cfg`; None if it has no file."""
    path = choices.options(group, choices.conf_dirs()).get(name)
    body = choices.load(path).get(name) if path else None
    if body is None:
        return None
    context = deepcopy(cfg)
    OmegaConf.set_struct(context, False)
    OmegaConf.set_readonly(context, False)
    if group not in context:
        context[group] = {}
    context[group][name] = body
    return resolved(context[group][name])


def read_units(cfg: DictConfig) -> list[Unit]:
    """The selected units, one per combination of the settings that apply to it.

    Raises: BadInput for a setting out of range, and for a list of values of which no selected unit sees a difference.
    """
    names = ("split", *(setting.name for setting in fields(UnitRule)))
    defaults = choices.raw(choices.primary().unit)
    shared = {name: value for name, value in resolved(cfg.unit).items() if name in names}
    combinations = [_checked_unit_settings(combination) for combination in expand("unit", shared)]
    found: dict[str, Unit] = {}
    for name, entry in entries(cfg, "unit", names).items():
        if set(entry) != {"_target_", "settings"} or not set(entry["settings"]) <= set(names):
            raise BadInput(f"unit.{name}={entry} is not legal; give _target_, and settings out of {list(names)}")
        for settings in combinations:
            rule = UnitRule(**{n: value for n, value in settings.items() if n != "split"})
            used = {n: settings[n] for n in entry["settings"] if n != "top_k" or rule.pool == "topk_mean"}
            config = {"_target_": entry["_target_"]} | {n: value for n, value in used.items() if n == "split"}
            changed = ",".join(f"{n}={text(value)}" for n, value in used.items() if value != defaults[n])
            label = f"{name}({changed})" if changed else name
            found.setdefault(label, Unit(label, config, rule, {"name": name, **config, **used}))
    for setting, values in shared.items():
        _refuse_idle_axis(f"unit.{setting}", values, [unit.identity.get(setting) for unit in found.values()])
    return list(found.values())


def _refuse_idle_axis(field: str, asked: object, used: list[Any]) -> None:
    """Raise BadInput if a list of values makes fewer cells than it names, because what is selected ignores it."""
    if isinstance(asked, list) and len(set(used) - {None}) < len(asked) > 1:
        listed = ",".join(text(value) for value in asked)
        raise BadInput(f"{field}=[{listed}] has no effect on what is selected; give one value, or select what uses it")


def _checked_unit_settings(settings: dict[str, Any]) -> dict[str, Any]:
    choice("unit.split", settings["split"], SPLITS)
    choice("unit.fill", settings["fill"], (True, False))
    choice("unit.fit", settings["fit"], FITS)
    choice("unit.pool", settings["pool"], POOLS)
    whole("unit.top_k", settings["top_k"], 1)
    return settings


def read_guards(cfg: DictConfig) -> list[GuardRule]:
    """The selected guards, one per combination of their values. Raises BadInput for values out of range."""
    defaults = choices.primary()
    found = []
    for name, entry in entries(cfg, "guards", Guards._fields).items():
        if entry == {"from_policy": True}:
            found.append(GuardRule(name, name, None, None))
            continue
        if set(entry) != set(Guards._fields):
            raise BadInput(f"guards.{name}={entry} is not legal; give sinks and recent, or from_policy: true")
        usual = file_defaults(defaults, "guards", name) or {}
        for values in expand(f"guards.{name}", entry):
            legal = {key: guard(f"guards.{key}", value) for key, value in values.items()}
            changed = ",".join(f"{key}={text(value)}" for key, value in legal.items() if value != usual.get(key))
            label = f"{name}({changed})" if changed else name
            found.append(GuardRule(label, name, legal["sinks"], legal["recent"]))
    for setting, asked in resolved(cfg.guards).items():
        _refuse_idle_axis(f"guards.{setting}", asked, [getattr(rule, setting, None) for rule in found])
    return found


def read_contracts(cfg: DictConfig) -> list[ContractRule]:
    """The selected contracts, one per combination of the settings that mean something for it.

    A setting without effect stands as the contract's file has it, so that it makes no other cell.
    Raises: BadInput for an unknown setting, and for a value that none of the contracts sees.
    """
    found: dict[str, ContractRule] = {}
    for name, entry in entries(cfg, "contract").items():
        if not isinstance(entry.get("_target_"), str):
            raise BadInput(
                f"contract.{name}={entry} has no _target_ and is no contract; select it with contract={name}"
            )
        own = file_defaults(cfg, "contract", name)
        usual = file_defaults(choices.primary(), "contract", name) or {}
        for key in entry:
            if own is not None and key not in own:
                raise choices.unknown(f"setting of contract {name!r}:", key, [k for k in own if k != "_target_"])
        seen: set[tuple[str, str]] = set()
        for asked in expand(f"contract.{name}", entry):
            idle = idle_settings(*make_contracts([asked]))
            config = {key: usual.get(key, value) if key in idle else value for key, value in asked.items()}
            seen |= {(key, text(value)) for key, value in config.items()}
            changed = ",".join(f"{k}={_shown(v)}" for k, v in config.items() if k != "_target_" and v != usual.get(k))
            label = f"{name}({changed})" if changed else name
            found.setdefault(label, ContractRule(label, name, config))
        _refuse_idle_values(name, entry, seen)
    return list(found.values())


def _refuse_idle_values(contract: str, asked: Mapping[str, Any], seen: set[tuple[str, str]]) -> None:
    """Raise BadInput for a value that has no effect beside any of the values that the other settings were given."""
    for key, values in asked.items():
        unseen = [value for value in _listed(values) if (key, text(value)) not in seen]
        if unseen:
            others = ", ".join(
                f"{other}={' and '.join(map(text, _listed(given)))}"
                for other, given in asked.items()
                if other not in ("_target_", key)
            )
            raise BadInput(
                f"contract.{contract}.{key}={text(unseen[0])} has no effect with {others}; leave it out, or change "
                "what it is given with"
            )


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _shown(value: object) -> str:
    """A setting in a label: a text of several words by its hash, which tells two of them apart; manifests have all."""
    return digest(value, 6) if isinstance(value, str) and not value.replace("%", "").isalnum() else text(value)


def read_budgets(cfg: DictConfig) -> list[str]:
    """The budgets in canonical text, as ordered by the user. Raises BadInput for an illegal, missing or double one."""
    asked = OmegaConf.to_container(cfg.budget) if OmegaConf.is_config(cfg.budget) else [cfg.budget]
    if not isinstance(asked, list) or not asked:
        raise BadInput(f"budget={asked} is not legal; give tokens (64), a percentage (25%), or a list of them")
    budgets = [budget_text(value) for value in asked]
    refuse_twice("budget", budgets)
    return budgets
