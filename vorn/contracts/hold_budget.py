"""Eviction after the prompt, and again while decoding, so that the budget holds for as long as the model writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from vorn.records import FIRST_TOKENS, BadInput, Fixture
from vorn.settings import choice, whole

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.kv.hold import Trigger
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work

TRIGGERS = ("step", "sentence")
_SENTENCE_ENDS = (".", "!", "?")


@dataclass(frozen=True)
class HoldBudget:
    """Scores and prunes after the whole prompt, then holds the budget by each policy's own decode rule.

    Attributes:
        first_token: as under `prefill_once`.
        trigger: `step`: evict after every token. `sentence`: after a token whose text ends in . ! or ?, and after any
            other as soon as the cache exceeds its budget by more than `overflow_percent`.
        overflow_percent: of the budget, rounded down to whole entries; without effect on trigger=step.
    """

    first_token: str
    trigger: str
    overflow_percent: int

    def __post_init__(self) -> None:
        choice("decode.first_token", self.first_token, FIRST_TOKENS)
        choice("contract.hold_budget.trigger", self.trigger, TRIGGERS)
        whole("contract.hold_budget.overflow_percent", self.overflow_percent, 0)

    @property
    def idle_settings(self) -> tuple[str, ...]:
        """The overflow, where every token evicts."""
        return ("overflow_percent",) if self.trigger == "step" else ()

    @property
    def scores_prompt(self) -> bool:
        """It does."""
        return True

    @property
    def is_batched(self) -> bool:
        """They do."""
        return True

    def check(self, cell: CellSpec) -> None:
        """Refuses policies that have no decode rule, and allocations, which have none for decoded entries."""
        if not cell.has_decode_rule:
            raise BadInput(
                f"policy={cell.policy} under contract={cell.contract}: it prunes the prompt only, and has no rule for "
                "what goes while decoding; leave it out, or choose contract=prefill_once"
            )
        if cell.allocation:
            raise BadInput(
                f"allocation={cell.allocation} under contract={cell.contract}: it spreads the prompt's entries, and "
                "nothing says how it spreads decoded ones; choose allocation=uniform, or contract=prefill_once"
            )

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """All of the prompt."""
        return len(prompt.input_ids)

    def release(self) -> None:
        """Nothing is held."""

    def measure(self, work: Work) -> list[Measured]:
        """All cells of one prefill, decoded together."""
        read = work.prompt_prefill()
        pruned = work.prune(read, work.item.prompt)
        return work.decode(read, pruned, first_token=self.first_token, trigger=self._trigger(work))

    def _trigger(self, work: Work) -> Trigger:
        from vorn.kv.hold import EveryStep, SentenceEnd

        if self.trigger == "step":
            return EveryStep()

        @cache
        def ends_sentence(token: int) -> bool:
            return str(work.tokenizer.decode([token])).rstrip().endswith(_SENTENCE_ENDS)

        return SentenceEnd(ends_sentence, self.overflow_percent)
