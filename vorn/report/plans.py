"""Which plan a report follows: the one its ledger recorded, however the runs differed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib.resources import files
from typing import Any, NamedTuple

from vorn.records import BadInput, Manifest
from vorn.stats import TestPlan


class Resolved(NamedTuple):
    """A plan, and what a reader must know of where it comes from."""

    plan: TestPlan
    notes: tuple[str, ...]


def resolve_plan(
    manifests: Sequence[Manifest], given: TestPlan | None = None, changes: Mapping[str, Any] | None = None
) -> Resolved:
    """The plan of one evaluation.

    The given one, else the latest that was recorded, else the packaged defaults; then `changes`. Optional stopping
    cannot be undone: if any run could stop early, the plan is sequential, whatever was asked.

    Args:
        manifests: of the evaluation's segments, by time.
        given: takes the place of what was recorded.
        changes: fields of the plan to replace.
    Raises: BadInput for a changed plan that is not legal.
    """
    recorded, notes = _recorded(manifests)
    plan = given or (recorded[-1] if recorded else packaged_plan())
    if given is None and not recorded:
        notes.append("no run recorded what it tests: the defaults of this version are used")
    elif given is None and (differing := _differing(recorded)):
        notes.append(f"the runs recorded different plans ({differing}): the latest is used")
    sequential = next((one.stop for one in recorded if one.is_sequential), None)
    wanted = dict(changes or {})
    if sequential and not plan.is_sequential:
        notes.append("an earlier run could stop early, which cannot be undone: only anytime-valid statements are made")
    if sequential and (wanted.get("split") or plan.split):
        notes.append("split=select is not carried out, because a run could stop early")
    if sequential:
        wanted |= {"stop": sequential, "split": None}
    return Resolved(replace(plan, **wanted), tuple(notes))


def _recorded(manifests: Sequence[Manifest]) -> tuple[list[TestPlan], list[str]]:
    """The plans that can be carried out, in order, and what must be said of others: a report never fails by them."""
    plans, notes = [], []
    for one in manifests:
        if "stats" in one.config:
            try:
                plans.append(TestPlan.from_config(one.config["stats"]))
            except BadInput as error:
                notes.append(f"a run recorded a plan that cannot be carried out ({error}): it is left out")
    return plans, list(dict.fromkeys(notes))


def packaged_plan() -> TestPlan:
    """The defaults: the `stats` group of the packaged configuration."""
    from omegaconf import OmegaConf  # late: most reports find their plan in the ledger

    config: Any = OmegaConf.load(str(files("conf") / "config.yaml"))
    if "stats" not in config:
        raise BadInput("conf/config.yaml has no group stats: legal is the packaged file; install the package anew")
    settings: Any = OmegaConf.to_container(config.stats, resolve=True)
    return TestPlan.from_config(settings)


def _differing(plans: Sequence[TestPlan]) -> str:
    """Fields in which recorded plans differ, with their values in order: "alpha 0.05 then 0.1"; "" if in none."""
    parts = []
    for field in fields(TestPlan):
        values = list(dict.fromkeys(getattr(plan, field.name) for plan in plans))
        if len(values) > 1:
            parts.append(f"{field.name} {' then '.join(map(_spelled, values))}")
    return ", ".join(parts)


def _spelled(value: Any) -> str:
    """As a user writes it in a configuration."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_spelled, value))}]"
    return "null" if value is None else str(value)
