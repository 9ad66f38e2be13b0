"""Between prefill and the first decoded token, gives each cell of the panel what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter

from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.cells import CellSpec
from vorn.evaluation import Evaluation
from vorn.kv.capture import Prefill, drain
from vorn.kv.policy import CellPolicy
from vorn.kv.signals import Signal
from vorn.kv.units import Unit
from vorn.models.prompts import Prompt
from vorn.module import EvictionModule
from vorn.work import Pruned


class KVPruning(Callback):
    """Has the signals that cells score captured, and prunes after a prefill."""

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
            if cell.policy_config
        }
        self._needs: dict[str, frozenset[Signal]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Declare the needed signals; raises BadInput if a policy's parameter does not fit the model."""
        module = _eviction(pl_module)
        self._needs = {cell_id: policy.needs(module.shape) for cell_id, policy in self._policies.items()}
        module.policies = self._policies
        module.needs.append(self.needs)
        module.after_prefill.append(self.prune)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Undo `setup`."""
        module = _eviction(pl_module)
        module.after_prefill.remove(self.prune)
        module.needs.remove(self.needs)
        module.policies = {}

    def needs(self, cell_ids: Sequence[str]) -> frozenset[Signal]:
        """What the policies of these cells score: a cell that is measured already costs no capture."""
        return frozenset[Signal]().union(*(self._needs.get(cell_id, frozenset()) for cell_id in cell_ids))

    def prune(self, cells: Mapping[str, CellSpec], prefill: Prefill, text: Prompt) -> list[Pruned]:
        """What each cell keeps of a text that was read, in their order."""
        units: dict[Unit, list[int]] = {}  # each segmented once for all of its cells
        return [self._one(cell_id, cell, prefill, text, units) for cell_id, cell in cells.items()]

    def _one(
        self, cell_id: str, cell: CellSpec, prefill: Prefill, text: Prompt, units: dict[Unit, list[int]]
    ) -> Pruned:
        budget = cell.resolve_budget(prefill.signals.prompt_tokens)
        if cell_id not in self._policies:
            return Pruned(cell, budget, kept=None, prune_s=0.0)
        policy, device = self._policies[cell_id], prefill.signals.device
        drain(device)
        start = perf_counter()
        sinks, recent = cell.resolve_guards(budget)
        try:
            if policy.unit not in units:
                units[policy.unit] = policy.unit(text.text, text.offsets)
            what = prefill.signals, units[policy.unit], budget
            kept = policy.keep(*what, sinks=sinks, recent=recent)
        except ValueError as error:
            # One cell's failure on one fixture (NaN scores, guards that a percentage cannot hold) is no other cell's.
            return Pruned(cell, budget, kept=None, prune_s=0.0, error=f"{type(error).__name__}: {error}")
        drain(device)
        hold = partial(policy.hold, *what, sinks=sinks, recent=recent)
        return Pruned(cell, budget, kept, perf_counter() - start, hold=hold)


def _eviction(module: LightningModule) -> EvictionModule:
    if not isinstance(module, EvictionModule):
        raise TypeError(f"KVPruning works on an EvictionModule, not on {type(module).__name__}")
    return module
