"""One cell of a campaign, as configured: a policy with its pool. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate

from vorn.records import digest
from vorn.snapshots.index import Capacity, Order
from vorn.snapshots.policies.lru import Lru
from vorn.snapshots.simulate import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCell:
    """One thing under comparison on one workload. The texts are those that a record holds."""

    label: str  # `tail_pin(k=4)/16`, with the order of removal behind it where it is not the default
    policy: str  # "full" for the reference: a pool without limit
    policy_config: Mapping[str, Any]  # `_target_` and parameters; {} for the reference
    params: str  # parameters that differ from the policy's file
    unit: str  # "slots" or "bytes"; "" for the reference
    budget: str  # how many of them; "" for the reference
    order: Order
    snapshot_bytes: int

    @property
    def is_reference(self) -> bool:
        """Whether nothing is evicted."""
        return not self.policy_config

    def cell_id(self, evaluation_id: str) -> str:
        """Hash of the evaluation and of everything that makes this cell."""
        own: dict[str, Any] = {
            "policy": [self.policy, dict(self.policy_config)],
            "unit": self.unit,
            "budget": self.budget,
        }
        if not self.is_reference:
            own["order"] = self.order
        if self.unit == "bytes":
            own["snapshot_bytes"] = self.snapshot_bytes
        return digest([evaluation_id, own])

    def pool(self) -> Pool:
        """A description of the pool with the policy's rule. Raises BadInput for a parameter out of range."""
        if self.is_reference:
            return Pool(Lru("winner"), Capacity(), self.order, self.snapshot_bytes)
        size = int(self.budget)
        capacity = Capacity(slots=size) if self.unit == "slots" else Capacity(size_bytes=size)
        return Pool(instantiate(dict(self.policy_config)), capacity, self.order, self.snapshot_bytes)
