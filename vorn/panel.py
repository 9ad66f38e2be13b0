"""From the configuration to the cells of a panel. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from hydra.utils import get_class
from omegaconf import DictConfig

from vorn.axes import ContractRule, GuardRule, Unit, read_budgets, read_contracts, read_guards, read_units
from vorn.cells import CellSpec
from vorn.choices import default_options
from vorn.contracts import make_contracts, takes_policies
from vorn.kv.units import UnitRule
from vorn.policies import (
    EVEN,
    EVERY_LAYER,
    Allocation,
    Policy,
    as_fixed,
    own_guards,
    read_allocations,
    read_policies,
)
from vorn.records import REFERENCE, BadInput
from vorn.settings import check_guards_fit, check_settings, percentage, resolved
from vorn.stats import TestPlan

_OF_REFERENCE = "vorn.contracts.prefill_once.PrefillOnce"  # it decodes on the prefill of the whole prompt


@dataclass(frozen=True, slots=True)
class PanelPlan:
    """The cells of a panel: the reference first, then policy, allocation, unit, guards, contract, budget as written.

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

    @property
    def is_open(self) -> bool:
        """Whether a cell stands for one per layer, of a model that is not known yet."""
        return any(cell.policy_config.get("layer") == EVERY_LAYER for cell in self.pruned)


def plan_panel(cfg: DictConfig, layers: int | None = None) -> PanelPlan:
    """Validate the configuration and expand its axes into cells.

    Args:
        cfg: the composed configuration.
        layers: of the model; None while it is not known, which leaves `layer=all` a single, open cell.
    Raises: BadInput for the first mistake, naming field, value, what is legal and the remedy.
    """
    check_settings(cfg)
    policies, axes = read_policies(cfg, layers), _Axes.read(cfg)
    contracts, allocations = read_contracts(cfg), read_allocations(cfg)
    chosen = [rule for rule in contracts if takes_policies(*make_contracts([rule.config]))]
    pruned = [
        cell
        for policy in policies
        for cell in _cells(policy, allocations, _Axes.read(as_fixed(cfg, policy)) if policy.fixed else axes, chosen)
    ]
    alone = product([rule for rule in contracts if rule not in chosen], axes.budgets)
    pruned += [_without_policy(rule, budget, axes.units[0].rule) for rule, budget in alone]
    _refuse_idle_allocation(allocations, pruned)
    first_tokens = sorted({contract.first_token for contract in contracts if contract.first_token})
    if len(first_tokens) > 1:
        raise BadInput(
            f"first_token={','.join(first_tokens)}: the cells of a panel share their reference, so one value is legal; "
            "give one, or one job each: -m fuse=false decode.first_token=refeed,prefill"
        )
    reference = _reference(axes.units[0].rule, first_tokens[0] if first_tokens else str(cfg.decode.first_token))
    cells = (reference, *pruned, *_replicas(cfg.aa, pruned))
    for cell, contract in zip(cells, make_contracts(cell.contract_config for cell in cells), strict=True):
        contract.check(cell)
    labels = [cell.label for cell in cells]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(f"two different cells would both be called {label!r}; leave one of them out")
    return PanelPlan(cells, TestPlan.from_config(resolved(cfg.stats)))


class _Axes(NamedTuple):
    """What every policy of a panel is crossed with."""

    units: list[Unit]
    guards: list[GuardRule]
    budgets: list[str]

    @classmethod
    def read(cls, cfg: DictConfig) -> _Axes:
        return cls(read_units(cfg), read_guards(cfg), read_budgets(cfg))


def _cells(
    policy: Policy, allocations: Sequence[Allocation], axes: _Axes, contracts: Sequence[ContractRule]
) -> list[CellSpec]:
    """The cells of one policy. An allocation over heads makes none for units that keep one set for all heads."""
    for contract in contracts:
        if policy.contracts and contract.name not in policy.contracts:
            raise BadInput(
                f"policy={policy.name} under contract={contract.text}: it means something under "
                f"{', '.join(policy.contracts)} alone; select that alone, or leave the policy out"
            )
    spread = []
    for allocation, unit in product([policy.allocation] if policy.allocation else allocations, axes.units):
        if not (allocation.is_per_head and _is_shared(unit)):
            spread.append((allocation, unit))
        elif policy.allocation is None and EVEN not in allocations:
            spread.append((EVEN, unit))
    if not spread:
        asked = ",".join(unit.text for unit in axes.units)
        raise BadInput(
            f"policy={policy.name} spreads its budget over heads, but unit={asked} "
            "keeps one set for all heads; add unit=token, or leave the policy out"
        )
    hidden = (*default_options("guards"), *default_options("contract"))
    return [
        _cell(policy, allocation, unit, rule, contract, budget, hidden)
        for (allocation, unit), rule, contract, budget in product(spread, axes.guards, contracts, axes.budgets)
    ]


def _is_shared(unit: Unit) -> bool:
    """Whether it keeps one set for all layers and heads."""
    return bool(getattr(get_class(unit.config["_target_"]), "shared", False))


def _refuse_idle_allocation(allocations: Sequence[Allocation], cells: Sequence[CellSpec]) -> None:
    used = {cell.allocation for cell in cells}
    for allocation in allocations:
        if allocation != EVEN and allocation.text not in used:
            raise BadInput(
                f"allocation={allocation.text} has no effect on what is selected: policies with an allocation of their "
                "own keep it, and units kept for all heads alike ignore one over heads; leave it out, or select what "
                "uses it, such as unit=token"
            )


def _cell(
    policy: Policy,
    allocation: Allocation,
    unit: Unit,
    rule: GuardRule,
    contract: ContractRule,
    budget: str,
    hidden: tuple[str, ...],
) -> CellSpec:
    sinks, recent = own_guards(policy) if rule.sinks is None or rule.recent is None else (rule.sinks, rule.recent)
    spread = f"allocation={allocation.text}" if allocation.text and policy.allocation is None else ""
    params = ",".join(part for part in (policy.params, spread) if part)
    name = f"{policy.name}({params})" if params else policy.name
    extras = [part for part in (rule.text, contract.text) if part not in hidden]
    cell = CellSpec(
        label="/".join([name, unit.text, budget, *extras]),
        policy=policy.name,
        policy_config=policy.config,
        params=params,
        allocation=allocation.text,
        allocation_config=allocation.config,
        is_compact=policy.is_compact,
        has_decode_rule=policy.has_decode_rule,
        unit=unit.text,
        unit_config=unit.config,
        unit_rule=unit.rule,
        guards=rule.text,
        sinks=sinks,
        recent=recent,
        contract=contract.text,
        contract_config=contract.config,
        first_token=contract.first_token,
        budget=budget,
        identity={
            "policy": [policy.name, policy.config],
            **({"allocation": allocation.config} if allocation.config else {}),
            **({"positions": "compact"} if policy.is_compact else {}),
            "unit": unit.identity,
            "guards": [rule.name, sinks, recent],
            "contract": contract.identity,
            "budget": budget,
        },
    )
    if not percentage(budget):
        check_guards_fit(int(budget), *cell.resolve_guards(int(budget)))
    return cell


def _replicas(aa: bool, pruned: Sequence[CellSpec]) -> list[CellSpec]:
    """With `aa`, the first pruned cell that decodes with others once more, to do so in another slot of the batch."""
    if not aa:
        return []
    contracts = make_contracts(cell.contract_config for cell in pruned)
    batched = [cell for cell, contract in zip(pruned, contracts, strict=True) if contract.is_batched]
    if not batched:
        raise BadInput(
            "aa=true repeats a pruned cell that is decoded together with others, and this panel has none; add such a "
            "policy and contract, or give aa=false"
        )
    first = batched[0]
    label, identity = f"{first.label} (A/A)", {**first.identity, "replica": 1}
    return [replace(first, label=label, identity=identity, repeats=first.identity)]


def _without_policy(contract: ContractRule, budget: str, rule: UnitRule) -> CellSpec:
    """The cell of a contract that compacts without a policy; it is called by the contract's name."""
    return CellSpec(
        label=f"{contract.text}/{budget}", policy=contract.name, policy_config={}, params="", allocation="",
        allocation_config={}, is_compact=False, has_decode_rule=False, unit="", unit_config={}, unit_rule=rule,
        guards="", sinks=0, recent=0, contract=contract.text, contract_config=contract.config,
        first_token=contract.first_token, budget=budget, identity={"contract": contract.identity, "budget": budget},
    )  # fmt: skip


def _reference(rule: UnitRule, first_token: str) -> CellSpec:
    return CellSpec(
        label=REFERENCE, policy=REFERENCE, policy_config={}, params="", allocation="", allocation_config={},
        is_compact=False, has_decode_rule=False, unit="", unit_config={}, unit_rule=rule, guards="", sinks=0, recent=0,
        contract="",
        contract_config={"_target_": _OF_REFERENCE, "first_token": first_token}, first_token=first_token,
        budget="", identity={"policy": REFERENCE, "first_token": first_token},
    )  # fmt: skip
