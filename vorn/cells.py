"""One cell of a panel, as configured: its texts, its identity, and what it resolves to for a fixture. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vorn.kv.units import UnitRule
from vorn.records import REFERENCE, digest
from vorn.settings import percentage, share


class Guards(NamedTuple):
    """Positions that are never dropped: the first `sinks` and the last `recent` tokens of the prompt."""

    sinks: int
    recent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """One thing under comparison, as configured; nothing in it depends on a model or a fixture.

    The texts (`params`, `unit`, `guards`, `contract`, `label`) depend on this cell and the defaults in conf/ alone,
    not on what else the panel holds, so that a cell reads the same in every ledger.
    """

    label: str  # `vorn(layer=3)/sentence/64`, with guards and contract appended where they are not the defaults
    policy: str  # name; the contract's where no policy chooses
    policy_config: Mapping[str, Any]  # `_target_` and resolved parameters; {} where no policy chooses
    params: str  # the parameters that differ from the policy file's, and the panel's allocation: "layer=3"
    allocation: str  # how the budget is spread over layers and heads: "pyramid"; "" if evenly
    allocation_config: Mapping[str, Any]  # `_target_` and resolved parameters; {} if evenly
    is_compact: bool  # kept entries get new positions inside the cache
    has_decode_rule: bool  # whether the policy can go on evicting while it decodes
    unit: str  # with its settings that differ from conf's: "sentence(pool=mean)"; "" for the reference
    unit_config: Mapping[str, Any]  # `_target_`; {} for the reference
    unit_rule: UnitRule  # means nothing for single tokens and for the reference
    guards: str  # "matched", "matched(recent=8)", "published"; "" for the reference
    sinks: int | str  # tokens, or a percentage of the budget
    recent: int | str
    contract: str  # "prefill_once"; "" for the reference, in which nothing is evicted
    contract_config: Mapping[str, Any]  # `_target_` and settings of what measures it; the reference's too
    first_token: str  # "refeed" or "prefill"; "" where the contract leaves no choice
    budget: str  # "64" tokens or "25%" of the prompt; "" for the reference
    identity: Mapping[str, Any]  # all that makes it this cell within an evaluation, resolved
    repeats: Mapping[str, Any] | None = None  # identity of the cell that this one repeats (A/A)

    @property
    def is_reference(self) -> bool:
        """Whether nothing is evicted."""
        return self.policy == REFERENCE

    @property
    def is_replica(self) -> bool:
        """Whether it repeats another cell (A/A)."""
        return self.repeats is not None

    def cell_id(self, evaluation_id: str) -> str:
        """Hash of the evaluation and of everything that makes this cell."""
        return digest([evaluation_id, self.identity])

    def replica_of(self, evaluation_id: str) -> str:
        """Id of the cell that this one repeats; "" if it repeats none."""
        return "" if self.repeats is None else digest([evaluation_id, self.repeats])

    def resolve_budget(self, prompt_tokens: int) -> int:
        """Tokens kept per layer and KV head, of those that the contract counts, as all of the prompt's.

        A percentage is floored and keeps at least one token.
        """
        if self.is_reference:
            return prompt_tokens
        return max(1, share(self.budget, prompt_tokens)) if percentage(self.budget) else int(self.budget)

    def resolve_guards(self, budget_tokens: int) -> Guards:
        """The guards in tokens; whether the budget holds them is `vorn.settings.check_guards_fit`'s question.

        Under refeed the last prompt token is fed again, so it is in the cache whatever the guards say, and counts.
        """
        sinks, recent = (share(n, budget_tokens) if isinstance(n, str) else n for n in (self.sinks, self.recent))
        return Guards(sinks, max(recent, int(self.first_token == "refeed" and not self.is_reference)))
