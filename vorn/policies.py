"""Reading policies and allocations from the configuration: one value for each parameter. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vorn import choices
from vorn.axes import entries, file_defaults
from vorn.cells import Guards
from vorn.records import BadInput
from vorn.settings import choice, expand, guard, percentage, text

EVERY_LAYER = "all"  # of a parameter called `layer`: one cell for each
_FIXED = ("unit", "guards", "budget")
# Keys of a policy's file that belong to what its name means.
_NATURE = ("allocation", "positions", "fixed", "contracts", "decode_rule")
_NO_PARAMETERS = ("published_guards", *_NATURE)


class Allocation(NamedTuple):
    """How budgets are spread; `config` is empty if evenly, `is_per_head` if a set shared by all heads ignores it."""

    text: str
    config: dict[str, Any]
    is_per_head: bool


EVEN = Allocation("", {}, False)


class Policy(NamedTuple):
    """A policy with one value for each parameter.

    Attributes:
        published: guards of its publication, `sinks` and `recent`.
        allocation: its own, which is part of what its name means; None: the panel's.
        is_compact: kept entries get new positions, 0 upwards, inside the cache.
        has_decode_rule: whether it goes on evicting while it decodes, where the contract does.
        fixed: the one unit, guards and budget with which it makes sense; {} for those of the panel.
        contracts: those under which it means something; () for all.
    """

    name: str
    config: dict[str, Any]
    params: str
    published: Mapping[str, Any] | None
    allocation: Allocation | None
    is_compact: bool
    has_decode_rule: bool
    fixed: Mapping[str, Any]
    contracts: tuple[str, ...]


def read_policies(cfg: DictConfig, layers: int | None) -> list[Policy]:
    """The selected policies, one per combination of parameter values; the reference, if named, is left out.

    Args:
        cfg: the composed configuration.
        layers: of the model; None if not known yet, which leaves `layer=all` as it is.
    Raises: BadInput for an entry that is no policy, an unknown parameter, or one of the wrong type.
    """
    found = []
    for name, entry in entries(cfg, "policy").items():
        if entry == {"reference": True}:
            continue
        published = entry.pop("published_guards", None)
        defaults = file_defaults(cfg, "policy", name)
        own = {k: v for k, v in (defaults or {"_target_": entry.get("_target_")}).items() if k not in _NO_PARAMETERS}
        if not isinstance(entry.get("_target_"), str):
            raise BadInput(
                f"policy.{name}={entry} has no _target_ and is no policy; select it with policy={name} if it has a "
                f"file, or leave its parameters out"
            )
        nature = {key: _unchanged(name, key, entry.pop(key, None), defaults) for key in _NATURE}
        allocation = _by_name(cfg, name, nature["allocation"]) if nature["allocation"] else None
        choice(f"policy.{name}.positions", nature["positions"], (None, "compact"))
        choice(f"policy.{name}.decode_rule", nature["decode_rule"], (None, True))
        has_rule = nature["decode_rule"] is not None
        is_compact = nature["positions"] is not None
        # New positions need one set for all layers and heads, which an allocation would take apart.
        allocation = EVEN if is_compact and allocation is None else allocation
        for config in _combinations(name, entry, own if defaults is not None else None, layers):
            params = ",".join(f"{k}={text(v)}" for k, v in config.items() if k not in own or v != own[k])
            found.append(
                Policy(
                    name, config, params, published, allocation, is_compact, has_rule, nature["fixed"] or {},
                    tuple(nature["contracts"] or ()),
                )
            )  # fmt: skip
    return found


def _unchanged(name: str, key: str, value: Any, defaults: Mapping[str, Any] | None) -> Any:
    if defaults is not None and value != defaults.get(key):
        raise BadInput(
            f"policy.{name}.{key}={value!r}: belongs to what {name!r} means, so {defaults.get(key)!r} is legal; "
            "leave it out, or select a policy without it"
        )
    return value


def _combinations(
    name: str, entry: dict[str, Any], own: Mapping[str, Any] | None, layers: int | None
) -> list[dict[str, Any]]:
    """One mapping per combination of parameter values, each of the type that its default in `own` has."""
    for key in entry:
        if own is not None and key not in own:
            raise choices.unknown(f"parameter of policy {name!r}:", key, [k for k in own if k != "_target_"])
    if "layer" in entry:
        entry = entry | {"layer": _layers(entry["layer"], layers)}
    return [
        {key: _typed(f"policy.{name}.{key}", value, own) for key, value in config.items()}
        for config in expand(f"policy.{name}", entry)
    ]


def _layers(asked: Any, layers: int | None) -> Any:
    """`asked` with percentages in canonical text and, once the model is known, `all` as its layers' numbers."""
    values = [percentage(value) or value for value in (asked if isinstance(asked, list) else [asked])]
    if layers is not None and EVERY_LAYER in values:
        at = values.index(EVERY_LAYER)
        values[at : at + 1] = range(layers)
    return values if isinstance(asked, list) or len(values) > 1 else values[0]


def _typed(field: str, value: object, own: Mapping[str, Any] | None) -> object:
    """The value, of its default's type; null stands for an optional whole number, texts may be given as numbers."""
    key = field.rpartition(".")[2]
    if own is None or key not in own:
        return value
    default = own[key]
    wanted = int if default is None else type(default)
    is_place = key == "layer" and isinstance(value, str) and (value == EVERY_LAYER or percentage(value) is not None)
    if wanted is str and type(value) is int:
        return str(value)
    fits = type(value) is wanted or (wanted is float and type(value) is int) or (value is None and default is None)
    if not fits and not is_place:
        legal = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[wanted]
        more = ", a percentage of the model's layers, all" if key == "layer" else ""
        raise BadInput(f"{field}={value!r} is not legal; give {legal}{more}{' or null' if default is None else ''}")
    return value


def own_guards(policy: Policy) -> tuple[int | str, int | str]:
    """The guards (sinks, recent) of the policy's own publication; a text may name the parameter that gives them.

    Raises: BadInput if its file names none.
    """
    own = policy.published
    if not isinstance(own, Mapping) or set(own) != set(Guards._fields):
        raise BadInput(
            f"policy.{policy.name}.published_guards={own} cannot serve guards=published; give sinks and recent there, "
            f"or choose guards=matched or guards=none"
        )
    values = {key: policy.config.get(own[key], own[key]) for key in Guards._fields}
    sinks, recent = (guard(f"policy.{policy.name}.published_guards.{key}", values[key]) for key in Guards._fields)
    return sinks, recent


def read_allocations(cfg: DictConfig) -> list[Allocation]:
    """The selected allocations, one per combination of parameter values. Raises BadInput for an unknown parameter."""
    found = []
    for name, entry in entries(cfg, "allocation").items():
        usual = file_defaults(cfg, "allocation", name)
        for key in entry:
            if usual is not None and key not in usual:
                raise choices.unknown(f"parameter of allocation {name!r}:", key, [k for k in usual if k[0] != "_"])
        found += [_allocation(name, values, usual or {}) for values in expand(f"allocation.{name}", entry)]
    return found


def _by_name(cfg: DictConfig, policy: str, name: str) -> Allocation:
    usual = file_defaults(cfg, "allocation", name)
    if usual is None:
        raise BadInput(f"policy.{policy}.allocation={name!r} has no file in conf/allocation; name one that has")
    return _allocation(name, usual, usual)


def _allocation(name: str, values: Mapping[str, Any], usual: Mapping[str, Any]) -> Allocation:
    if not values:
        return EVEN
    changed = ",".join(f"{key}={text(value)}" for key, value in values.items() if value != usual.get(key))
    config = {key: value for key, value in values.items() if key != "per_head"}
    return Allocation(f"{name}({changed})" if changed else name, config, bool(values["per_head"]))


def as_fixed(cfg: DictConfig, policy: Policy) -> DictConfig:
    """The configuration as if the policy's own unit, guards and budget had been selected, at their defaults."""
    if not policy.fixed:
        return cfg
    if set(policy.fixed) != set(_FIXED):
        raise BadInput(f"policy.{policy.name}.fixed={dict(policy.fixed)} is not legal; give {', '.join(_FIXED)}")
    own = deepcopy(cfg)
    OmegaConf.set_struct(own, False)
    OmegaConf.set_readonly(own, False)
    for group in ("unit", "guards"):
        name = policy.fixed[group]
        own[group] = {**choices.raw(choices.primary()[group]), name: file_defaults(cfg, group, name)}
    own.budget = policy.fixed["budget"]
    return own
