"""The LightningModule of an evaluation: one prefill per fixture, then every cell decodes from its own cache."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vorn.cells import CellSpec
from vorn.data import WorkItem
from vorn.grading import grade
from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoded, Decoding, decode
from vorn.kv.layout import model_shape
from vorn.kv.retention import Kept, keep_all
from vorn.kv.signals import ModelShape, Signal, fixture_seed
from vorn.records import BadInput, Observation

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pruned:
    """What one cell keeps of one prompt; `kept` is None for the reference, and if `error` says why there is none."""

    cell: CellSpec
    budget_tokens: int
    kept: Kept | None
    prune_s: float
    error: str | None = None


# Between prefill and decoding: what each cell of the work item keeps.
AfterPrefill = Callable[["EvictionModule", Prefill, WorkItem], Sequence[Pruned]]
# Before decoding: told what each cell of the work item keeps.
AfterPruning = Callable[[WorkItem, Sequence[Pruned]], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How prompts are read and continued, and under which names the outcomes are recorded."""

    evaluation_id: str
    model: str
    task: str
    grade: str
    max_new_tokens: int
    first_token: str
    max_cells: int
    max_bytes: int
    chunk_tokens: int | None


class EvictionModule(LightningModule):
    """Predicts work items: `predict_step` returns one observation per cell.

    Lightning has no hook between prefill and decoding, so this module offers one: the functions in `after_prefill` are
    called in order with the prefill, and what they return is decoded; those in `needs` say what an item's prefill must
    capture for them; those in `after_pruning` are told what is kept.
    """

    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        cells: Sequence[CellSpec],
        settings: Reading,
    ) -> None:
        """`model` in eval mode; `eos_ids`: any of them ends a completion; `cells`: the panel's."""
        super().__init__()
        # No submodule of this one: Lightning would move all of a model that is spread over devices onto one.
        object.__setattr__(self, "model", model)
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.cells = {cell.cell_id(settings.evaluation_id): cell for cell in cells}
        self.settings = settings
        self.needs: list[Callable[[WorkItem], frozenset[Signal]]] = []
        self.after_prefill: list[AfterPrefill] = []
        self.after_pruning: list[AfterPruning] = []

    @property
    def shape(self) -> ModelShape:
        """Layers and heads of the model."""
        return model_shape(self.model)

    def predict_step(self, item: WorkItem, batch_idx: int = 0) -> list[Observation]:
        """One observation per cell of the item, in the panel's order; a failure becomes observations with `error`.

        Raises: BadInput if model and settings do not fit, which no other fixture would change.
        """
        _reset_peak(self.model.device)
        try:
            return self._measure(item)
        except BadInput:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            _LOG.debug("fixture %s failed", item.fixture.fixture_id, exc_info=True)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()  # after the handler: its traceback holds the tensors of the failed fixture
        return self._failed(item, message)

    def _measure(self, item: WorkItem) -> list[Observation]:
        settings, ids = self.settings, torch.tensor([item.prompt.input_ids], device=self.model.device)
        max_new_tokens = item.fixture.max_new_tokens or settings.max_new_tokens
        read = prefill(
            self.model,
            ids,
            frozenset[Signal]().union(*(needs(item) for needs in self.needs)),
            chunk_tokens=settings.chunk_tokens,
            room=max_new_tokens,
            seed=fixture_seed(item.fixture.fixture_id),
            evidence=item.prompt.evidence,
        )
        pruned = [cell for hook in self.after_prefill for cell in hook(self, read, item)]
        for told in self.after_pruning:
            told(item, pruned)
        alive = [cell for cell in pruned if cell.error is None]
        decoding = decode(
            self.model,
            read,
            [Branch(cell.kept) for cell in alive],
            first_token=settings.first_token,
            last_token=int(ids[0, -1]),
            max_new_tokens=max_new_tokens,
            eos_ids=self.eos_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_cells=settings.max_cells,
            max_bytes=settings.max_bytes,
        )
        decoded = dict(zip(map(id, alive), decoding.cells, strict=True))
        peak = _peak(self.model.device)
        return [self._observe(item, read, cell, decoded.get(id(cell)), decoding, peak) for cell in pruned]

    def _observe(
        self, item: WorkItem, read: Prefill, pruned: Pruned, decoded: Decoded | None, decoding: Decoding, peak: int
    ) -> Observation:
        kept = pruned.kept or keep_all(read.signals.prompt_tokens, read.signals.device)
        error = pruned.error or (decoded.error if decoded else None)
        completion = self._text(decoded.token_ids) if decoded else ""
        graded = grade(item.fixture.grade or self.settings.grade, completion, item.fixture.answers)
        return self._record(
            item,
            pruned.cell,
            budget_tokens=pruned.budget_tokens,
            outcome=None if error else graded.outcome,
            error=error,
            completion=completion,
            answer_graded="" if error else graded.answer_graded,
            kept_tokens=0.0 if pruned.error else kept.mean_tokens,
            evidence_kept=None if pruned.error else kept.share_of(item.prompt.evidence),
            panel_prefill_s=read.seconds,
            prune_s=pruned.prune_s + (decoded.gather_s if decoded and pruned.kept else 0.0),
            panel_decode_s=decoding.seconds,
            batch_rows=decoded.batch_rows if decoded else 0,
            kv_bytes=0 if pruned.error else read.cache.kv_bytes(kept),
            peak_bytes=peak,
        )

    def _failed(self, item: WorkItem, error: str) -> list[Observation]:
        return [
            self._record(
                item,
                cell,
                budget_tokens=cell.resolve_budget(len(item.prompt.input_ids)),
                outcome=None,
                error=error,
                completion="",
                answer_graded="",
                kept_tokens=0.0,
                evidence_kept=None,
                panel_prefill_s=0.0,
                prune_s=0.0,
                panel_decode_s=0.0,
                batch_rows=0,
                kv_bytes=0,
                peak_bytes=_peak(self.model.device),
            )
            for cell in map(self.cells.__getitem__, item.cell_ids)
        ]

    def _record(self, item: WorkItem, cell: CellSpec, **measured: object) -> Observation:
        settings = self.settings
        return Observation(
            cell_id=cell.cell_id(settings.evaluation_id),
            cell=cell.label,
            evaluation_id=settings.evaluation_id,
            fixture_id=item.fixture.fixture_id,
            fixture_index=item.index,
            cluster=item.fixture.cluster,
            fingerprint=item.fingerprint,
            model=settings.model,
            task=settings.task,
            contract=cell.contract,
            policy=cell.policy,
            params=cell.params,
            unit=cell.unit,
            guards=cell.guards,
            budget=cell.budget,
            replica_of=cell.replica_of(settings.evaluation_id),
            grade=item.fixture.grade or settings.grade,
            answers=item.fixture.answers,
            answer_nll=None,
            prompt_tokens=len(item.prompt.input_ids),
            evidence_tokens=len(item.prompt.evidence),
            **measured,  # type: ignore[arg-type]
        )

    def _text(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int:
    """Peak device memory since the last reset; on a CPU the peak resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss if sys.platform == "darwin" else rss * 1024
