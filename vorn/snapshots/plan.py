"""From the configuration to a campaign: workloads, each an evaluation with its instances and cells. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vorn.choices import conf_dirs, load, options, raw, unknown
from vorn.records import REFERENCE, BadInput, digest
from vorn.settings import check_given, choice, expand, refuse_twice, resolved, text, whole
from vorn.snapshots.cells import SnapshotCell
from vorn.snapshots.cost import Cost
from vorn.snapshots.index import ORDERS
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance

OTHER_JOB = ("policy", "unit", "guards", "contract", "budget", "model", "task", "outcome", "prefill", "decode", "limit")


@dataclass(frozen=True, kw_only=True)
class WorkloadPlan:
    """One workload under one placement and cost law: an evaluation."""

    task: str  # `strand`, with the sizes that differ from its file
    identity: Mapping[str, Any]  # all that its cells share and that can change an outcome
    instances: tuple[Instance, ...]
    repeats: int  # seeds that drew what an earlier one had drawn: no further evidence, and left out
    cells: tuple[SnapshotCell, ...]  # the reference first

    @property
    def evaluation_id(self) -> str:
        """Hash of the identity."""
        return digest(self.identity)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the matrix says: against which policy, and which rise is no harm."""

    baseline: str
    bound: str  # policy that shows what is possible; "" for none
    margin: float  # share of the mean time to the first token
    seed: int


@dataclass(frozen=True, kw_only=True)
class CampaignPlan:
    """Everything that a run of this configuration measures."""

    workloads: tuple[WorkloadPlan, ...]
    placement: Placement
    cost: Cost
    cost_text: str
    engine: Mapping[str, Any]  # `name`, and what a real model needs
    verdict: Verdict


def plan_campaign(cfg: DictConfig) -> CampaignPlan:
    """Validate the configuration and draw the workloads.

    Raises: BadInput for the first mistake, naming field, value, what is legal and the remedy.
    """
    _refuse_other_job()
    check_given(cfg)
    node = resolved(cfg)
    _refuse_selection(node["stats"])
    placement = Placement(**node["placement"])
    cost: Cost = instantiate(node["cost"], _convert_="all")
    engine = dict(node["engine"])
    policies, verdict = _policies(cfg), _verdict(cfg)
    seeds = range(cfg.seed, cfg.seed + (whole("workload.seeds", node["workload"].pop("seeds", None), 1) or 0))
    workloads = [
        _workload(name, settings, node, policies, placement, seeds)
        for name, entry in node["workload"].items()
        for settings in expand(f"workload.{name}", _plain_lists(name, entry))
    ]
    if not workloads:
        raise BadInput(f"workload selects nothing; name at least one of: {', '.join(_known('workload'))}")
    return CampaignPlan(
        workloads=tuple(workloads),
        placement=placement,
        cost=cost,
        cost_text=_cost_text(node["cost"]),
        engine=engine,
        verdict=verdict,
    )


def _workload(
    name: str,
    settings: dict[str, Any],
    node: Mapping[str, Any],
    policies: list[tuple[str, dict[str, Any], str]],
    placement: Placement,
    seeds: range,
) -> WorkloadPlan:
    slots = whole(f"workload.{name}.slots", settings.pop("slots", None), 1)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    draw = instantiate(settings, _convert_="all")
    task = _label(name, settings)
    instances = _distinct(draw.instance(f"{task}/seed{seed}", seed, placement) for seed in seeds)
    cells = (_reference(node["pool"]), *_cells(policies, node["pool"], slots or 1))
    _refuse_doubles(cells)
    identity = {"workload": [name, settings], "placement": node["placement"], "engine": dict(node["engine"])}
    return WorkloadPlan(
        task=task,
        identity={**identity, **({} if _has_model(node["engine"]) else {"cost": node["cost"]})},
        instances=instances,
        repeats=len(seeds) - len(instances),
        cells=cells,
    )


def _distinct(drawn: Iterator[Instance]) -> tuple[Instance, ...]:
    """Those that differ in more than names: a trace is the same for every seed, as is a workload without spread."""
    found: dict[tuple[object, ...], Instance] = {}
    for instance in drawn:
        found.setdefault(instance.shape, instance)
    return tuple(found.values())


def _refuse_other_job() -> None:
    """Refuse overrides that this job would ignore."""
    if not HydraConfig.initialized():
        return
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        top = key.replace("/", ".").split(".")[0]
        if top in OTHER_JOB:
            raise BadInput(
                f"{override}: {top} belongs to the KV-cache job and means nothing for snapshots; leave it out (the "
                "policies here are snapshot_policy, the tasks workload, the budget pool.slots)"
            )


def _refuse_selection(stats: Mapping[str, Any]) -> None:
    """Refuse to choose parameters on one half: the matrix judges every cell on all of its resumes."""
    if stats["split"] is not None:
        raise BadInput(
            f"stats.split={text(stats['split'])}: legal for snapshots is null, since the matrix tests every cell on "
            "all resumes; leave it out, and confirm a parameter chosen here on fresh instances (another seed)"
        )


def _has_model(engine: Mapping[str, Any]) -> bool:
    return "_target_" in engine


def _plain_lists(name: str, entry: object) -> dict[str, Any]:
    """The settings, those whose default is a list as one value: elsewhere a list is an axis."""
    if not isinstance(entry, Mapping) or "_target_" not in entry:
        raise BadInput(f"workload.{name}={entry!r} is no workload; select one with workload={name} if it has a file")
    defaults = _file("workload", name)
    legal = {key for key in defaults if key != "_target_"}
    for key in entry:
        if defaults and key not in defaults:
            raise unknown(f"setting of workload {name!r}:", str(key), legal)
    return {
        str(key): tuple(value) if isinstance(defaults.get(key), list) and isinstance(value, list) else value
        for key, value in entry.items()
    }


def _policies(cfg: DictConfig) -> list[tuple[str, dict[str, Any], str]]:
    """(name, configuration, parameters that differ from the file), the reference left out."""
    found = []
    for name, entry in resolved(cfg.get("snapshot_policy")).items():
        if entry == {"reference": True}:
            continue
        defaults = _file("snapshot_policy", name)
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
            found.append((name, config, ",".join(changed)))
    if not found:
        raise BadInput(f"snapshot_policy selects nothing; name at least one of: {', '.join(_known('snapshot_policy'))}")
    return found


def _cells(
    policies: list[tuple[str, dict[str, Any], str]], pool: Mapping[str, Any], slots: int
) -> Iterator[SnapshotCell]:
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


def _refuse_doubles(cells: tuple[SnapshotCell, ...]) -> None:
    labels = [cell.label for cell in cells]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two different cells would both be called {label!r}; leave one of them out")


def _verdict(cfg: DictConfig) -> Verdict:
    node = resolved(cfg.verdict)
    baseline, margin = node["baseline"], node["margin"]
    if not isinstance(margin, float) or not 0.0 <= margin < 1.0:
        raise BadInput(f"verdict.margin={margin!r} is not legal; give a share >= 0 and < 1: 0.05 is 5 %")
    selected = [name for name, entry in resolved(cfg.snapshot_policy).items() if entry != {"reference": True}]
    if baseline not in selected:
        raise unknown("verdict.baseline:", str(baseline), selected, "It must be one of the selected policies.")
    bound = node["bound"]
    if bound is not None and bound not in [*selected, *_known("snapshot_policy")]:
        raise unknown("verdict.bound:", str(bound), [*selected, *_known("snapshot_policy")], "Or give null for none.")
    return Verdict(
        baseline=baseline, bound=bound or "", margin=margin, seed=whole("verdict.seed", node["seed"], 0) or 0
    )


def _file(group: str, name: str) -> dict[str, Any]:
    """What the option's own file says; {} if it has none."""
    path = options(group, conf_dirs()).get(name)
    return raw(load(path)).get(name, {}) if path else {}


def _known(group: str) -> list[str]:
    return sorted(options(group, conf_dirs()))


def _label(name: str, settings: Mapping[str, Any]) -> str:
    """The workload with its settings that differ from its file."""
    defaults = _file("workload", name)
    changed = [f"{key}={text(value)}" for key, value in settings.items() if defaults and defaults.get(key) != value]
    return f"{name}({','.join(changed)})" if changed else name


def _cost_text(node: Mapping[str, Any]) -> str:
    """For example `Affine(base_s=0.43,per_token_s=0.0012)`."""
    numbers = ",".join(f"{key}={text(value)}" for key, value in node.items() if key != "_target_")
    return f"{str(node['_target_']).rpartition('.')[2]}({numbers})"
