"""A cell's policy: which scores, ranked in which units, and how units become kept tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vorn.kv.allocation import Allocation
from vorn.kv.hold import Hold, Trigger
from vorn.kv.retention import Kept, retain, shared_scores, units_peak
from vorn.kv.rules import DecodingScorer
from vorn.kv.signals import ModelShape, PrefillSignals, Scorer, Signal
from vorn.kv.units import Unit, UnitRule


@dataclass(frozen=True)
class CellPolicy:
    """What decides a cell's kept positions, apart from budget and guards, which may depend on the prompt's length."""

    scorer: Scorer
    unit: Unit
    rule: UnitRule
    allocation: Allocation | None = None  # None: the same number of entries in every layer and head
    is_compact: bool = False  # kept entries get new positions inside the cache

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Signals that the prefill must capture. Raises BadInput if a parameter does not fit the model."""
        return self.scorer.needs(shape)

    def keep(
        self,
        signals: PrefillSignals,
        unit_ids: Sequence[int],
        budget_tokens: int,
        *,
        sinks: int,
        recent: int,
        is_one_set: bool = False,
    ) -> Kept:
        """Positions kept for one prompt.

        Args:
            signals: of the shared prefill; the scorer's scores are computed once for all cells that share it.
            unit_ids: what `unit` says of the prompt's tokens.
            budget_tokens: entries per layer and KV head in the mean, guards included.
            sinks: first tokens that are always kept.
            recent: last tokens that are always kept.
            is_one_set: the same tokens in all layers and heads, by the mean of their scores, also where single tokens
                are ranked.
        """
        scores = signals.scores(self.scorer)
        if is_one_set:
            scores = shared_scores(scores)[None, None]
        by_unit = self._keeps_units(scores, unit_ids)
        kept = retain(
            scores,
            budget_tokens,
            unit_ids=unit_ids if by_unit else None,
            rule=self.rule,
            sinks=sinks,
            recent=recent,
            allocation=self.allocation,
            layers=signals.shape.caches,
        )
        return replace(kept, is_compact=True) if self.is_compact else kept

    def hold(
        self,
        signals: PrefillSignals,
        unit_ids: Sequence[int],
        budget_tokens: int,
        *,
        sinks: int,
        recent: int,
        trigger: Trigger,
    ) -> Hold:
        """How a cell goes on evicting, whose prompt `keep` has pruned with the same arguments.

        An adaptive unit goes on with what it chose for the prompt.
        """
        units = unit_ids if self._keeps_units(signals.scores(self.scorer), unit_ids) else None
        scorer: DecodingScorer = self.scorer  # type: ignore[assignment]  # its file says decode_rule: true
        return Hold(scorer, budget_tokens, sinks, recent, trigger, units, self.rule)

    def _keeps_units(self, scores: Tensor, unit_ids: Sequence[int]) -> bool:
        return self.unit.shared and (not self.unit.only_if_peaked or units_peak(scores, unit_ids, self.rule))
