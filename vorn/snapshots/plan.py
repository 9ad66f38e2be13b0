"""From the configuration to a campaign: workloads, each an evaluation with its instances and cells. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vorn.choices import unknown
from vorn.records import BadInput, digest
from vorn.settings import check_given, expand, resolved, text, whole
from vorn.snapshots.cells import SnapshotCell
from vorn.snapshots.cost import Cost
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Instance
from vorn.snapshots.selected import SelectedPolicy, known_options, make_cells, option_file, selected_policies
from vorn.stats import TestPlan

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
    placement = Placement(**node["placement"])
    cost: Cost = instantiate(node["cost"], _convert_="all")
    engine = dict(node["engine"])
    policies, verdict = selected_policies(cfg), _verdict(cfg)
    _check_stats(TestPlan.from_config(node["stats"]))
    seeds = range(cfg.seed, cfg.seed + (whole("workload.seeds", node["workload"].pop("seeds", None), 1) or 0))
    workloads = [
        _workload(name, settings, node, policies, placement, seeds)
        for name, entry in node["workload"].items()
        for settings in expand(f"workload.{name}", _plain_lists(name, entry))
    ]
    if not workloads:
        raise BadInput(f"workload selects nothing; name at least one of: {', '.join(known_options('workload'))}")
    return CampaignPlan(
        workloads=tuple(workloads),
        placement=placement,
        cost=cost,
        cost_text=_cost_text(node["cost"]),
        engine=engine,
        verdict=verdict,
    )


def _check_stats(plan: TestPlan) -> None:
    """Refuse what means nothing for resumes: the matrix judges every cell on all of them, and when all are there."""
    if plan.split is not None:
        raise BadInput(
            f"stats.split={plan.split}: legal for snapshots is null, since the matrix tests every cell on all resumes; "
            "leave it out, and confirm a parameter chosen here on fresh instances (another seed)"
        )
    if plan.is_sequential:
        raise BadInput(
            f"stats.stop={plan.stop} with run=warm_resume: looking after each resume is legal for independent fixtures "
            "only, and those of one workload instance share its pool; leave stats.stop out"
        )


def _workload(
    name: str,
    settings: dict[str, Any],
    node: Mapping[str, Any],
    policies: list[SelectedPolicy],
    placement: Placement,
    seeds: range,
) -> WorkloadPlan:
    slots = whole(f"workload.{name}.slots", settings.pop("slots", None), 1)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    draw = instantiate(settings, _convert_="all")
    task = _label(name, settings)
    instances = _distinct(draw.instance(f"{task}/seed{seed}", seed, placement) for seed in seeds)
    cells = make_cells(policies, node["pool"], slots or 1)
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


def _has_model(engine: Mapping[str, Any]) -> bool:
    return "_target_" in engine


def _plain_lists(name: str, entry: object) -> dict[str, Any]:
    """The settings, those whose default is a list as one value: elsewhere a list is an axis."""
    if not isinstance(entry, Mapping) or "_target_" not in entry:
        raise BadInput(f"workload.{name}={entry!r} is no workload; select one with workload={name} if it has a file")
    defaults = option_file("workload", name)
    legal = {key for key in defaults if key != "_target_"}
    for key in entry:
        if defaults and key not in defaults:
            raise unknown(f"setting of workload {name!r}:", str(key), legal)
    return {
        str(key): tuple(value) if isinstance(defaults.get(key), list) and isinstance(value, list) else value
        for key, value in entry.items()
    }


def _verdict(cfg: DictConfig) -> Verdict:
    node = resolved(cfg.verdict)
    baseline, margin = node["baseline"], node["margin"]
    if not isinstance(margin, float) or not 0.0 <= margin < 1.0:
        raise BadInput(f"verdict.margin={margin!r} is not legal; give a share >= 0 and < 1: 0.05 is 5 %")
    selected = [name for name, entry in resolved(cfg.snapshot_policy).items() if entry != {"reference": True}]
    if baseline not in selected:
        raise unknown("verdict.baseline:", str(baseline), selected, "It must be one of the selected policies.")
    bound = node["bound"]
    if bound is not None and bound not in [*selected, *known_options("snapshot_policy")]:
        raise unknown(
            "verdict.bound:", str(bound), [*selected, *known_options("snapshot_policy")], "Or give null for none."
        )
    return Verdict(
        baseline=baseline, bound=bound or "", margin=margin, seed=whole("verdict.seed", node["seed"], 0) or 0
    )


def _label(name: str, settings: Mapping[str, Any]) -> str:
    """The workload with its settings that differ from its file."""
    defaults = option_file("workload", name)
    changed = [f"{key}={text(value)}" for key, value in settings.items() if defaults and defaults.get(key) != value]
    return f"{name}({','.join(changed)})" if changed else name


def _cost_text(node: Mapping[str, Any]) -> str:
    """For example `Affine(base_s=0.43,per_token_s=0.0012)`."""
    numbers = ",".join(f"{key}={text(value)}" for key, value in node.items() if key != "_target_")
    return f"{str(node['_target_']).rpartition('.')[2]}({numbers})"
