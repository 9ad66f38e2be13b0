"""Eviction from the text: what stays is read again without what was dropped, at every step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from vorn.records import BadInput, ContractWork, Fixture
from vorn.settings import choice

if TYPE_CHECKING:
    from vorn.cells import CellSpec
    from vorn.kv.capture import Prefill
    from vorn.kv.reforward import Reforwarded
    from vorn.kv.units import Unit
    from vorn.models.prompts import Prompt
    from vorn.work import Measured, Work

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reforward:
    """The vorn-mat paper's released harness: no cache is pruned; kept tokens are read again without the dropped ones.

    Before each token, once the active tokens, the generated ones included, exceed the budget, the policy scores them as
    they are now and some are dropped for good. There is one set for all layers and heads: scores of policies that have
    several are averaged, as they are for units. Cells are decoded one by one; the prompt is read once for all of them.
    Source: vorn-mat 2589773, local_exec.py; see `vorn.kv.reforward`.

    Attributes:
        cached: `auto`: states stored when the kept tokens were read again serve until the next dropping, where that is
            exact, which is in float32 for every model but Nemotron-H. False: each step reads all active tokens.
    """

    cached: str | bool

    def __post_init__(self) -> None:
        choice("contract.reforward.cached", self.cached, ("auto", False))

    @property
    def scores_prompt(self) -> bool:
        """The first dropping is scored on the shared prefill."""
        return True

    @property
    def is_batched(self) -> bool:
        """No: they decode one by one."""
        return False

    def check(self, cell: CellSpec) -> None:
        """Raises BadInput for a cell that needs a cache of its own, or of which nothing would ever be dropped."""
        if cell.allocation_config:
            raise BadInput(
                f"policy={cell.policy} with allocation={cell.allocation} under contract={cell.contract}: tokens leave "
                "the text, so that all layers and heads keep the same; leave the policy out, or give allocation=uniform"
            )
        if cell.is_compact:
            raise BadInput(
                f"policy={cell.policy} under contract={cell.contract}: it gives the entries of a cache new positions, "
                "and tokens that are read again keep theirs; leave the policy out, or choose sink_recent"
            )
        if cell.budget == "100%":
            raise BadInput(
                f"policy={cell.policy} at budget=100% under contract={cell.contract}: tokens are dropped when they "
                "exceed the budget, so that all of the prompt would stay; lower the budget, or leave the policy out"
            )

    def budgeted_tokens(self, fixture: Fixture, prompt: Prompt) -> int:
        """All of the prompt; tokens that are generated later count towards the same budget."""
        return len(prompt.input_ids)

    def release(self) -> None:
        """Nothing is held."""

    def measure(self, work: Work) -> list[Measured]:
        """The cells one after another. A failure is an error of its own cell alone.

        Raises: BadInput if the model's attention cannot read texts with gaps.
        """
        from vorn.kv.reforward import check_attention

        check_attention(work.model)
        read = work.prompt_prefill()
        units: dict[Unit, list[int]] = {}  # each segmented once for all of its cells
        return [self._cell(work, read, cell_id, units) for cell_id in work.cells]

    def _cell(self, work: Work, read: Prefill, cell_id: str, units: dict[Unit, list[int]]) -> Measured:
        from vorn.memory import is_out_of_memory
        from vorn.work import Measured, free_memory

        start = perf_counter()
        try:
            return _measured(work, read, cell_id, self._decode(work, read, cell_id, units))
        except Exception as error:
            message, is_short = f"{type(error).__name__}: {error}", is_out_of_memory(error)
            _LOG.debug("fixture %s failed in %s", work.item.fixture.fixture_id, cell_id, exc_info=True)
        free_memory(work.model.device)  # after the handler: its traceback holds the tensors of the failed cell
        cell, tokens = work.cells[cell_id], len(work.item.prompt.input_ids)
        return Measured(
            cell=cell,
            budget_tokens=cell.resolve_budget(tokens),
            error=message,
            is_short=is_short,
            kept_tokens=0.0,
            evidence_kept=None,
            prefill_s=read.seconds,
            decode_s=0.0,
            batch_rows=1,
            kv_bytes=0,
            contract_work=ContractWork(seconds=perf_counter() - start),
        )

    def _decode(self, work: Work, read: Prefill, cell_id: str, units: dict[Unit, list[int]]) -> Reforwarded:
        from vorn.kv.greedy import Greedy
        from vorn.kv.reforward import ReforwardCell, is_cached, reforward

        policy, prompt = work.policies[cell_id], work.item.prompt
        if policy.unit not in units:
            units[policy.unit] = policy.unit(prompt.text, prompt.offsets)
        budget = work.cells[cell_id].resolve_budget(len(prompt.input_ids))
        sinks, recent = work.cells[cell_id].resolve_guards(budget)
        return reforward(
            work.model,
            read,
            prompt.input_ids,
            ReforwardCell(policy, budget, sinks, recent, units[policy.unit]),
            Greedy(work.max_new_tokens, work.eos_ids, work.tokenizer.pad_token_id),
            text=work.item.fixture.prompt,
            cached=is_cached(self.cached, work.model.dtype),
            chunk_tokens=work.settings.chunk_tokens,
            answer=work.item.answer_ids,
        )


def _measured(work: Work, read: Prefill, cell_id: str, done: Reforwarded) -> Measured:
    """What is kept is the mean over the choices of a token."""
    from vorn.work import Measured

    cell, choices = work.cells[cell_id], len(done.active)
    evidence = set(work.item.prompt.evidence)
    seen = sum(len(evidence.intersection(active)) for active in done.active)
    return Measured(
        cell=cell,
        budget_tokens=cell.resolve_budget(len(work.item.prompt.input_ids)),
        token_ids=done.token_ids,
        error=done.error,
        answer_nll=done.answer_nll,
        kept_tokens=sum(map(len, done.active)) / choices,
        evidence_kept=seen / len(evidence) / choices if evidence else None,
        prefill_s=read.seconds,
        prune_s=done.score_s,
        decode_s=0.0,
        batch_rows=1,
        kv_bytes=round(sum(read.cache.bytes_of(len(active)) for active in done.active) / choices),
        contract_work=ContractWork(
            seconds=done.seconds - done.score_s,
            forwards=done.forwards,
            read_tokens=done.forward_tokens,
            evictions=done.evictions,
        ),
    )
