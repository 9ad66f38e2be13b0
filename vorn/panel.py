"""From the configuration to the cells of a panel, and to the identity of an evaluation. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from omegaconf import DictConfig

from vorn.axes import (
    Contract,
    GuardRule,
    Policy,
    Unit,
    own_guards,
    read_budgets,
    read_contracts,
    read_guards,
    read_policies,
    read_units,
)
from vorn.cells import CellSpec
from vorn.choices import default_options
from vorn.kv.units import UnitRule
from vorn.records import REFERENCE, BadInput
from vorn.settings import check_guards_fit, check_settings, percentage, resolved
from vorn.stats import TestPlan

__all__ = ["CellSpec", "PanelPlan", "evaluation_identity", "plan_panel"]


@dataclass(frozen=True, slots=True)
class PanelPlan:
    """The cells of a panel in order: the reference first, then policy, unit, guards, contract, budget as written.

    An A/A cell, which repeats the first pruned one, comes last.
    """

    cells: tuple[CellSpec, ...]
    tests: TestPlan

    @property
    def reference(self) -> CellSpec:
        """The cell in which nothing is evicted."""
        return self.cells[0]

    @property
    def pruned(self) -> tuple[CellSpec, ...]:
        """The other cells."""
        return self.cells[1:]


def evaluation_identity(cfg: DictConfig, *, weights_digest: str, dtype: str) -> dict[str, Any]:
    """All that the cells of a panel share and that can change an outcome.

    Args:
        cfg: the composed configuration.
        weights_digest: hash of the model's weights and tokenizer; its name and place are no part of the identity, so
            that a checkpoint may be moved.
        dtype: the dtype the model really runs in; `model.dtype=auto` differs between machines.
    Returns: a JSON-ready mapping. How many fixtures are asked for is no part of it, so that a run can be extended.
    """
    model = resolved(cfg.model)
    fields = ("attn_implementation", "chat_template")
    task = {key: value for key, value in resolved(cfg.task).items() if key != "fixtures"}
    return {"model": {f: model[f] for f in fields} | {"weights": weights_digest, "dtype": dtype}, "task": task}


def plan_panel(cfg: DictConfig) -> PanelPlan:
    """Validate the configuration and expand its axes into cells.

    Raises: BadInput for the first mistake, naming field, value, what is legal and the remedy.
    """
    check_settings(cfg)
    policies, units, guards = read_policies(cfg), read_units(cfg), read_guards(cfg)
    contracts, budgets = read_contracts(cfg), read_budgets(cfg)
    hidden = (*default_options("guards"), *default_options("contract"))
    pruned = [
        _cell(policy, unit, rule, contract, budget, hidden)
        for policy, unit, rule, contract, budget in product(policies, units, guards, contracts, budgets)
    ]
    first_tokens = sorted({contract.first_token for contract in contracts})
    if len(first_tokens) > 1:
        raise BadInput(
            f"first_token={','.join(first_tokens)}: the cells of a panel share their reference, so one value is legal; "
            "give one, or one job each: -m fuse=false decode.first_token=refeed,prefill"
        )
    cells = (_reference(units[0].rule, contracts[0].first_token), *pruned, *_replicas(cfg.aa, pruned))
    labels = [cell.label for cell in cells]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two different cells would both be called {label!r}; leave one of them out")
    return PanelPlan(cells, TestPlan.from_config(resolved(cfg.stats)))


def _cell(
    policy: Policy, unit: Unit, rule: GuardRule, contract: Contract, budget: str, hidden: tuple[str, ...]
) -> CellSpec:
    sinks, recent = own_guards(policy) if rule.sinks is None or rule.recent is None else (rule.sinks, rule.recent)
    name = f"{policy.name}({policy.params})" if policy.params else policy.name
    extras = [part for part in (rule.text, contract.text) if part not in hidden]
    cell = CellSpec(
        label="/".join([name, unit.text, budget, *extras]),
        policy=policy.name,
        policy_config=policy.config,
        params=policy.params,
        unit=unit.text,
        unit_config=unit.config,
        unit_rule=unit.rule,
        guards=rule.text,
        sinks=sinks,
        recent=recent,
        contract=contract.text,
        first_token=contract.first_token,
        budget=budget,
        identity={
            "policy": [policy.name, policy.config],
            "unit": unit.identity,
            "guards": [rule.name, sinks, recent],
            "contract": [contract.name, contract.first_token],
            "budget": budget,
        },
    )
    if not percentage(budget):
        check_guards_fit(int(budget), *cell.resolve_guards(int(budget)))
    return cell


def _replicas(aa: bool, pruned: Sequence[CellSpec]) -> list[CellSpec]:
    """With `aa`, the first pruned cell once more, to be decoded in another slot of the batch."""
    if not aa:
        return []
    if not pruned:
        raise BadInput("aa=true repeats a pruned cell and this panel has none; name a policy, or give aa=false")
    first = pruned[0]
    label, identity = f"{first.label} (A/A)", {**first.identity, "replica": 1}
    return [replace(first, label=label, identity=identity, repeats=first.identity)]


def _reference(rule: UnitRule, first_token: str) -> CellSpec:
    return CellSpec(
        label=REFERENCE, policy=REFERENCE, policy_config={}, params="", unit="", unit_config={}, unit_rule=rule,
        guards="", sinks=0, recent=0, contract="", first_token=first_token, budget="",
        identity={"policy": REFERENCE, "first_token": first_token},
    )  # fmt: skip
