"""Holding a budget while decoding: what a cell needs for it, and when its cache is cut back to the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vorn.kv.rules import DecodingScorer
from vorn.kv.units import UnitRule


class Trigger(Protocol):
    """When a cache that holds more than its budget is cut back to it."""

    def most(self, budget_tokens: int) -> int:
        """Entries that a cache may hold at any time."""

    def is_due(self, token: int, held: int, budget_tokens: int) -> bool:
        """Whether to evict, `token` having been read last and `held` entries being there."""


@dataclass(frozen=True)
class EveryStep:
    """After every token."""

    def most(self, budget_tokens: int) -> int:
        """The budget and the token that was read last."""
        return budget_tokens + 1

    def is_due(self, token: int, held: int, budget_tokens: int) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class SentenceEnd:
    """After a token that ends a sentence, and without one as soon as the budget is exceeded by more than the overflow.

    Source: vorn-mat 2589773, baselines/live_eviction.py, whose cache may exceed its budget by a fifth.

    Attributes:
        ends_sentence: whether a token's text ends in . ! or ?
        overflow_percent: share of the budget, rounded down to whole entries.
    """

    ends_sentence: Callable[[int], bool]
    overflow_percent: int

    def _legal(self, budget_tokens: int) -> int:
        return budget_tokens + budget_tokens * self.overflow_percent // 100

    def most(self, budget_tokens: int) -> int:
        """The budget, the overflow, and the token that was read last."""
        return self._legal(budget_tokens) + 1

    def is_due(self, token: int, held: int, budget_tokens: int) -> bool:
        """At a sentence's end, or when the overflow is used up."""
        return held > self._legal(budget_tokens) or self.ends_sentence(token)


@dataclass(frozen=True, eq=False)
class Hold:
    """How one cell goes on evicting.

    Attributes:
        scorer: of its policy, with a decode rule.
        budget_tokens: entries per layer and KV head, those of decoded tokens included.
        sinks: first tokens that are never dropped.
        recent: last tokens, decoded ones included, that are never dropped.
        trigger: when the budget is enforced.
        unit_ids: unit of every prompt token where units are dropped whole, each decoded token being one of its own;
            None for single tokens.
        rule: for units.
    """

    scorer: DecodingScorer
    budget_tokens: int
    sinks: int
    recent: int
    trigger: Trigger
    unit_ids: Sequence[int] | None
    rule: UnitRule

    def slots(self, prompt_entries: int, room: int) -> int:
        """Slots per layer and KV head for `prompt_entries` kept and `room` decoded tokens: one that is left is reused.

        No more than the trigger lets be there at any time, the refed prompt token's included.
        """
        return min(self.trigger.most(self.budget_tokens), prompt_entries + room)
