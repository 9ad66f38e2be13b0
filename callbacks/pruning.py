"""Between prefill and the first decoded token, gives each cell of the panel what it keeps."""

from __future__ import annotations

from time import perf_counter

from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.data import WorkItem
from vorn.evaluation import Evaluation
from vorn.kv.capture import Prefill, drain
from vorn.kv.policy import CellPolicy
from vorn.kv.signals import Signal
from vorn.kv.units import Unit
from vorn.module import EvictionModule, Pruned


class KVPruning(Callback):
    """Has the panel's signals captured, and prunes after the prefill."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: whose cells are pruned; each policy is built from its configuration here."""
        self._policies = {
            cell_id: CellPolicy(
                instantiate(cell.policy_config),
                instantiate(cell.unit_config),
                cell.unit_rule,
                instantiate(cell.allocation_config) if cell.allocation_config else None,
                cell.is_compact,
            )
            for cell_id, cell in evaluation.cells.items()
            if not cell.is_reference
        }
        self._needs: dict[str, frozenset[Signal]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Declare the needed signals; raises BadInput if a policy's parameter does not fit the model."""
        module = _eviction(pl_module)
        self._needs = {cell_id: policy.needs(module.shape) for cell_id, policy in self._policies.items()}
        module.needs.append(self.needs)
        module.after_prefill.append(self.prune)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Undo `setup`."""
        module = _eviction(pl_module)
        module.after_prefill.remove(self.prune)
        module.needs.remove(self.needs)

    def needs(self, item: WorkItem) -> frozenset[Signal]:
        """What the policies of the item's cells score: a cell that is measured already costs no capture."""
        return frozenset[Signal]().union(*(self._needs.get(cell_id, frozenset()) for cell_id in item.cell_ids))

    def prune(self, module: EvictionModule, prefill: Prefill, item: WorkItem) -> list[Pruned]:
        """What each cell of the item keeps, in the item's order."""
        units: dict[Unit, list[int]] = {}  # each segmented once for all of its cells
        return [self._one(module, item, cell_id, prefill, units) for cell_id in item.cell_ids]

    def _one(
        self, module: EvictionModule, item: WorkItem, cell_id: str, prefill: Prefill, units: dict[Unit, list[int]]
    ) -> Pruned:
        cell, tokens = module.cells[cell_id], prefill.signals.prompt_tokens
        budget = cell.resolve_budget(tokens)
        if cell_id not in self._policies:
            return Pruned(cell, budget, kept=None, prune_s=0.0)
        policy, device = self._policies[cell_id], prefill.signals.device
        drain(device)
        start = perf_counter()
        sinks, recent = cell.resolve_guards(budget)
        try:
            if policy.unit not in units:
                units[policy.unit] = policy.unit(item.prompt.text, item.prompt.offsets)
            kept = policy.keep(prefill.signals, units[policy.unit], budget, sinks=sinks, recent=recent)
        except ValueError as error:
            # One cell's failure on one fixture (NaN scores, guards that a percentage cannot hold) is no other cell's.
            return Pruned(cell, budget, kept=None, prune_s=0.0, error=f"{type(error).__name__}: {error}")
        drain(device)
        return Pruned(cell, budget, kept, perf_counter() - start)


def _eviction(module: LightningModule) -> EvictionModule:
    if not isinstance(module, EvictionModule):
        raise TypeError(f"KVPruning works on an EvictionModule, not on {type(module).__name__}")
    return module
