"""Which cells a campaign has: selected policies with their parameters, in pools of each size and order. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from omegaconf import DictConfig

from vorn.choices import conf_dirs, load, options, raw, unknown
from vorn.records import REFERENCE, BadInput
from vorn.settings import choice, expand, refuse_twice, resolved, text, whole
from vorn.snapshots.cells import SnapshotCell
from vorn.snapshots.index import ORDERS


class SelectedPolicy(NamedTuple):
    """A policy with one value of each parameter."""

    name: str
    config: dict[str, Any]  # `_target_` and parameters
    params: str  # those that differ from the policy's file, as `k=4`


def selected_policies(cfg: DictConfig) -> list[SelectedPolicy]:
    """Every policy with every combination of its parameters, the reference left out.

    Raises: BadInput for an entry that is no policy, an unknown parameter, or no policy at all.
    """
    found = []
    for name, entry in resolved(cfg.get("snapshot_policy")).items():
        if entry == {"reference": True}:
            continue
        defaults = option_file("snapshot_policy", name)
        if not isinstance(entry, Mapping) or not isinstance(entry.get("_target_"), str):
            raise BadInput(
                f"snapshot_policy.{name}={entry!r} has no _target_ and is no policy; select it with "
                f"snapshot_policy={name} if it has a file, or leave its parameters out"
            )
        for key in entry:
            if defaults and key not in defaults:
                raise unknown(f"parameter of snapshot_policy {name!r}:", key, [k for k in defaults if k != "_target_"])
        for config in expand(f"snapshot_policy.{name}", entry):
            changed = [f"{key}={text(value)}" for key, value in config.items() if defaults.get(key) != value]
            found.append(SelectedPolicy(name, config, ",".join(changed)))
    if not found:
        raise BadInput(
            f"snapshot_policy selects nothing; name at least one of: {', '.join(known_options('snapshot_policy'))}"
        )
    return found


def make_cells(policies: Sequence[SelectedPolicy], pool: Mapping[str, Any], slots: int) -> tuple[SnapshotCell, ...]:
    """The cells of one workload, the reference first.

    Args:
        policies: with their parameters.
        pool: the group `pool` of the configuration.
        slots: of the workload, where `pool` names no size.
    Raises: BadInput for a pool or a parameter that is not legal, or two cells with one label.
    """
    cells = (_reference(pool), *_cells(policies, pool, slots))
    labels = [cell.label for cell in cells]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two different cells would both be called {label!r}; leave one of them out")
    return cells


def _cells(policies: Sequence[SelectedPolicy], pool: Mapping[str, Any], slots: int) -> Iterator[SnapshotCell]:
    orders = _axis(pool, "order")
    for order in orders:
        choice("pool.order", order, ORDERS)
    unit = "slots" if pool["bytes"] is None else "bytes"
    if unit == "bytes" and pool["slots"] is not None:
        raise BadInput(f"pool.slots={pool['slots']} with pool.bytes={pool['bytes']}: legal is one of the two; drop one")
    budgets = [slots if unit == "slots" and size is None else size for size in _axis(pool, unit)]
    usual = raw(load(options("pool", conf_dirs())["default"]))["order"]
    for (name, config, params), size, order in product(policies, budgets, orders):
        whole(f"pool.{unit}", size, 1)
        label = "/".join([f"{name}({params})" if params else name, str(size), *([] if order == usual else [order])])
        cell = SnapshotCell(
            label=label, policy=name, policy_config=config, params=params, unit=unit, budget=str(size), order=order,
            snapshot_bytes=pool["snapshot_bytes"],
        )  # fmt: skip
        cell.pool()  # a parameter out of range is refused here
        yield cell


def _reference(pool: Mapping[str, Any]) -> SnapshotCell:
    whole("pool.snapshot_bytes", pool["snapshot_bytes"], 1)
    return SnapshotCell(
        label=REFERENCE, policy=REFERENCE, policy_config={}, params="", unit="", budget="", order="stable",
        snapshot_bytes=pool["snapshot_bytes"],
    )  # fmt: skip


def _axis(pool: Mapping[str, Any], name: str) -> list[Any]:
    value = pool[name]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise BadInput(f"pool.{name}=[] is not legal; give one value or a list of values")
    refuse_twice(f"pool.{name}", values)
    return values


def option_file(group: str, name: str) -> dict[str, Any]:
    """What the option's own file says; {} if it has none."""
    path = options(group, conf_dirs()).get(name)
    return raw(load(path)).get(name, {}) if path else {}


def known_options(group: str) -> list[str]:
    """Options of a group, by name."""
    return sorted(options(group, conf_dirs()))
