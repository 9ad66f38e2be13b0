"""Eviction once, after the context and before the question: what a cache must be good for that serves any question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vorn.contracts import tokens_of_context
from vorn.records import ContractWork, Fixture

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.kv.capture import Prefill
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work


_REASON = "contract=context_once evicts between context and question and needs at least one token of each"


@dataclass(eq=False)
class ContextOnce:
    """Scores and prunes after the context; the question runs over the pruned cache, then decoding goes on.

    Signals come from the context alone. Budget and guards count its tokens; the question's entries come on top. The
    prefill of a context is kept for the next fixture, which shares it if its context is the same text in the same
    tokens; policies that draw are seeded by the context, so that it does not matter which question came first.
    """

    _held: tuple[Prompt, Prefill] | None = field(default=None, init=False)

    @property
    def scores_prompt(self) -> bool:
        """No: cells are scored on the context."""
        return False

    @property
    def is_batched(self) -> bool:
        """They do."""
        return True

    def check(self, cell: CellSpec) -> None:
        """Nothing: every policy can be pruned once."""

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """Those of the context. Raises BadInput if the fixture has no context, or no question."""
        return tokens_of_context(fixture, prompt, reason=_REASON)

    def release(self) -> None:
        """Forget the context that was read last."""
        self._held = None

    def measure(self, work: Work) -> list[Measured]:
        """All cells of one context, decoded together behind the question."""
        prompt = work.item.prompt
        context = prompt.context()
        read, is_reused = self._read(context, work)
        question = prompt.input_ids[prompt.context_tokens :]
        spent = ContractWork(read_tokens=len(question), prefill_is_reused=is_reused)
        found = work.decode(read, work.prune(read, context), first_token="prefill", question=question)
        return [replace(one, contract_work=spent) for one in found]

    def _read(self, context: Prompt, work: Work) -> tuple[Prefill, bool]:
        """The context's prefill, and whether it is an earlier fixture's."""
        wanted = work.needs(list(work.cells))
        if self._held is not None:
            known, read = self._held
            if (known.text, known.input_ids) == (context.text, context.input_ids) and wanted <= set(read.signals):
                return replace(read, signals=replace(read.signals, evidence=context.evidence)), True
        self._held = None  # before the next context is read, so that two of them never take up memory
        read = work.read(context, wanted, seed_text=context.text)
        self._held = context, read
        return read, False
