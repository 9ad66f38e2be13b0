"""What a contract is given of one fixture, what it can have done with it, and what it says of each cell."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vorn.cells import CellSpec
from vorn.data import WorkItem
from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoded, Decoding, decode
from vorn.kv.hold import Hold, Trigger
from vorn.kv.policy import CellPolicy
from vorn.kv.retention import Kept, keep_all
from vorn.kv.signals import Signal, fixture_seed
from vorn.models.prompts import Prompt
from vorn.records import ContractWork


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How prompts are read and continued, and under which names the outcomes are recorded."""

    evaluation_id: str
    model: str
    task: str
    grade: str
    max_new_tokens: int
    max_cells: int
    max_bytes: int
    chunk_tokens: int | None


class MakeHold(Protocol):
    """How a cell goes on evicting; its policy must have a decode rule."""

    def __call__(self, *, trigger: Trigger) -> Hold:
        """At the given times."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """What one cell keeps of one prompt; `kept` is None for the reference, and if `error` says why there is none.

    `hold` says how it goes on evicting while it decodes, given when; None where `kept` is.
    """

    cell: CellSpec
    budget_tokens: int
    kept: Kept | None
    prune_s: float
    error: str | None = None
    hold: MakeHold | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a contract found for one cell; the fields that `Observation` has as well mean what they mean there."""

    cell: CellSpec
    budget_tokens: int
    token_ids: tuple[int, ...] = ()  # generated, without the end-of-sequence token
    error: str | None = None
    is_short: bool = False  # whether `error` is that memory ran out: the cell is measured again if less can be tried
    kept_tokens: float
    evidence_kept: float | None
    prefill_s: float
    prune_s: float = 0.0
    decode_s: float
    batch_rows: int
    kv_bytes: int
    answer_nll: float | None = None
    contract_work: ContractWork | None = None
    kept: Kept | None = None  # of the prompt's first tokens; those behind it are all read. None: nothing to be shown


# Which signals the prefill must capture for cells, by id; and what each of them keeps of a text that was read.
Needs = Callable[[Sequence[str]], frozenset[Signal]]
Prune = Callable[[Mapping[str, CellSpec], Prefill, Prompt], Sequence[Pruned]]


@dataclass(frozen=True, eq=False)
class Work:
    """One fixture, the cells of one contract that lack an outcome for it, and the model.

    Attributes:
        model: in eval mode.
        tokenizer: its own.
        eos_ids: any of them ends a completion.
        settings: how prompts are read and continued.
        item: the fixture as the model reads it, with all the cells that lack an outcome, those of other contracts too.
        cells: of this contract, by id, in the panel's order.
        prompt_prefill: the prefill of the whole prompt, made when it is first asked for, shared by all contracts, with
            the signals of the cells whose contract scores the prompt.
        needs: which signals cells score.
        prune_cells: what each of some cells keeps of a text that was read with these signals.
        policies: of the panel's pruned cells by id, for contracts that choose at several moments.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: frozenset[int]
    settings: Reading
    item: WorkItem
    cells: Mapping[str, CellSpec]
    prompt_prefill: Callable[[], Prefill]
    needs: Needs
    prune_cells: Prune
    policies: Mapping[str, CellPolicy]

    @property
    def max_new_tokens(self) -> int:
        """Tokens to generate at most."""
        return self.item.fixture.max_new_tokens or self.settings.max_new_tokens

    def prune(self, read: Prefill, text: Prompt) -> Sequence[Pruned]:
        """What each cell keeps of `text`, which `read` is the prefill of."""
        return self.prune_cells(self.cells, read, text)

    def read(self, text: Prompt, signals: frozenset[Signal], *, seed_text: str, room: int = 0) -> Prefill:
        """The prefill of a text other than the whole prompt, with room to go on; draws follow `seed_text`."""
        return prefill(
            self.model,
            torch.tensor([text.input_ids], device=self.model.device),
            signals,
            chunk_tokens=self.settings.chunk_tokens,
            room=room,
            seed=fixture_seed(seed_text),
            evidence=text.evidence,
        )

    def decode(
        self,
        read: Prefill,
        pruned: Sequence[Pruned],
        *,
        first_token: str,
        question: tuple[int, ...] = (),
        trigger: Trigger | None = None,
    ) -> list[Measured]:
        """Continues a text from what each cell keeps of it, all cells together; after `question`, if it has one.

        With a trigger each cell holds its budget then.
        """
        alive = [cell for cell in pruned if cell.error is None]
        decoding = decode(
            self.model,
            read,
            [Branch(cell.kept, cell.hold(trigger=trigger) if trigger and cell.hold else None) for cell in alive],
            first_token=first_token,
            last_token=self.item.prompt.input_ids[-1],
            max_new_tokens=self.max_new_tokens,
            eos_ids=self.eos_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_cells=self.settings.max_cells,
            max_bytes=self.settings.max_bytes,
            question=question,
            answer=self.item.answer_ids,
        )
        decoded = dict(zip(map(id, alive), decoding.cells, strict=True))
        return [self._measured(read, cell, decoded.get(id(cell)), decoding, len(question)) for cell in pruned]

    def write(self, read: Prefill, max_new_tokens: int, answer: tuple[int, ...] = ()) -> Decoding:
        """What the model writes behind a text of which nothing is evicted; the prefill is left as it was."""
        return decode(
            self.model,
            read,
            [Branch(None)],
            first_token="prefill",
            last_token=0,  # read by nobody: nothing is fed again, and no other row goes on
            max_new_tokens=max_new_tokens,
            eos_ids=self.eos_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_cells=1,
            max_bytes=self.settings.max_bytes,
            answer=answer,
        )

    def text(self, token_ids: Sequence[int]) -> str:
        """What tokens spell, special ones left out."""
        return spelled(self.tokenizer, token_ids)

    def _measured(
        self, read: Prefill, pruned: Pruned, decoded: Decoded | None, decoding: Decoding, question_tokens: int
    ) -> Measured:
        kept = pruned.kept or keep_all(read.signals.prompt_tokens, read.signals.device)
        return Measured(
            cell=pruned.cell,
            budget_tokens=pruned.budget_tokens,
            token_ids=decoded.token_ids if decoded else (),
            error=pruned.error or (decoded.error if decoded else None),
            kept_tokens=0.0 if pruned.error else kept.mean_tokens + question_tokens,
            evidence_kept=None if pruned.error else self._evidence_kept(kept),
            prefill_s=read.seconds,
            prune_s=pruned.prune_s + (decoded.gather_s if decoded and pruned.kept else 0.0),
            decode_s=decoding.seconds,
            batch_rows=decoded.batch_rows if decoded else 0,
            answer_nll=decoded.answer_nll if decoded else None,
            kv_bytes=0 if pruned.error else read.cache.kv_bytes(kept, question_tokens),
            kept=pruned.kept,
        )

    def _evidence_kept(self, kept: Kept) -> float | None:
        """Fraction of the evidence in the cache: nothing behind the text that was pruned is evicted."""
        evidence = self.item.prompt.evidence
        read = [position for position in evidence if position < kept.prompt_tokens]
        found = len(evidence) - len(read) + len(read) * (kept.share_of(read) or 0.0)
        return found / len(evidence) if evidence else None


def read_prompt(
    model: PreTrainedModel, item: WorkItem, signals: frozenset[Signal], *, room: int, chunk_tokens: int | None
) -> Prefill:
    """The prefill of a fixture's whole prompt, with room for what is generated after it."""
    return prefill(
        model,
        torch.tensor([item.prompt.input_ids], device=model.device),
        signals,
        chunk_tokens=chunk_tokens,
        room=room,
        seed=fixture_seed(item.fixture.fixture_id),
        evidence=item.prompt.evidence,
    )


def spelled(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """What tokens spell, special ones left out."""
    return str(tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def free_memory(device: torch.device) -> None:
    """Give back what a failure left; to be called outside its handler, whose traceback holds its tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
