"""What carries requests out: by a cost law, or with a model. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vorn.snapshots.cost import Cost
from vorn.snapshots.placement import Placement
from vorn.snapshots.requests import Request
from vorn.snapshots.simulate import Pool, Resumed, simulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a request found, and with a model what it gave."""

    resumed: Resumed
    logit_difference: float | None = None  # largest absolute one to a cold prefill
    greedy_equal: bool | None = None
    completion: str = ""  # generated token ids
    problem: str | None = None  # why the outcome does not count: the resume was not exact


class Engine(Protocol):
    """Carries a whole instance out in a pool of its own, which begins empty."""

    @property
    def name(self) -> str:
        """Stands where the records of the main job have the model."""

    @property
    def law(self) -> str:
        """How times are obtained."""

    @property
    def dtype(self) -> str:
        """Of the states; "" without a model."""

    @property
    def device(self) -> str:
        """Where it runs."""

    def run(self, pool: Pool, requests: Sequence[Request]) -> Sequence[Outcome]:
        """One outcome per request."""


@dataclass(frozen=True)
class Simulated:
    """No model."""

    placement: Placement
    cost: Cost
    law: str
    name: str = "simulated"
    dtype: str = ""
    device: str = "cpu"

    def run(self, pool: Pool, requests: Sequence[Request]) -> Sequence[Outcome]:
        """One outcome per request."""
        return [Outcome(resumed=one) for one in simulate(pool, requests, self.placement, self.cost)]
