"""The LightningModule of an evaluation: each contract measures its cells on a fixture; the outcomes are graded here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from lightning import LightningModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vorn.cells import CellSpec
from vorn.contracts import Contract, make_contracts
from vorn.data import WorkItem
from vorn.grading import grade
from vorn.kv.capture import Prefill
from vorn.kv.layout import model_shape
from vorn.kv.policy import CellPolicy
from vorn.kv.probe import check_states
from vorn.kv.signals import ModelShape, Signal
from vorn.memory import Relief, Watch, is_out_of_memory
from vorn.models.prompts import Prompt
from vorn.records import BadInput, FixtureRun, Observation
from vorn.work import Measured, Needs, Prune, Pruned, Reading, Work, free_memory, read_prompt, spelled

_LOG = logging.getLogger(__name__)


class EvictionModule(LightningModule):
    """Predicts work items: `predict_step` returns one observation per cell.

    Lightning has no hook between prefill and decoding, so this module offers one: the functions in `after_prefill` are
    called in order with what a contract had read, and say what each of its cells keeps; those in `needs` say what a
    prefill must capture for cells. Those in `after_measuring` are told what was found, before it becomes observations.
    """

    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        cells: Sequence[CellSpec],
        settings: Reading,
        relief: Relief,
    ) -> None:
        """`model` in eval mode; `eos_ids`: any of them ends a completion; `cells`: the panel's."""
        super().__init__()
        # No submodule of this one: Lightning would move all of a model that is spread over devices onto one.
        object.__setattr__(self, "model", model)
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.cells = {cell.cell_id(settings.evaluation_id): cell for cell in cells}
        contracts = make_contracts(cell.contract_config for cell in self.cells.values())
        self.contracts = dict(zip(self.cells, contracts, strict=True))
        self.settings, self.relief = settings, relief
        self.needs: list[Needs] = []
        self.after_prefill: list[Prune] = []
        self.after_measuring: list[Callable[[WorkItem, Sequence[Measured]], None]] = []
        self.policies: Mapping[str, CellPolicy] = {}

    @property
    def shape(self) -> ModelShape:
        """Layers and heads of the model."""
        return model_shape(self.model)

    def setup(self, stage: str) -> None:
        """Checks the model before anything is measured. Raises: BadInput for one that loses its recurrent states."""
        check_states(self.model)

    def predict_step(self, item: WorkItem, batch_idx: int = 0) -> list[Observation]:
        """One observation per cell of the item, in the panel's order; a failure becomes observations with `error`.

        Raises: BadInput if model and settings do not fit, which no other fixture would change.
        """
        watch, tokens = Watch(self.model.device, self.relief), len(item.prompt.input_ids)
        found: dict[str, tuple[Measured, int, Reading]] = {}
        left, reading, retries = item, self.settings, 0
        while True:
            measured = self._measured(left, reading)
            short = [cell_id for cell_id, one in measured.items() if one.is_short]
            less = self.relief.less(reading, self._in_batches(short), tokens) if short else None
            done = [name for name in measured if less is None or name not in short]
            found |= {name: (measured[name], retries, reading) for name in done}
            if less is None:
                break
            left, reading, retries = replace(item, cell_ids=tuple(short)), less, retries + 1
            for contract in self.contracts.values():
                contract.release()
            free_memory(self.model.device)
        seconds, peak = watch.seconds, watch.peak_bytes
        for told in self.after_measuring:
            told(item, [one for one, _, _ in found.values()])
        runs = {name: (one, watch.run(seconds, number, with_)) for name, (one, number, with_) in found.items()}
        return [self._observe(item, *runs[cell_id], peak) for cell_id in item.cell_ids]

    def _in_batches(self, cell_ids: Sequence[str]) -> int:
        """How many of the cells may share a batch, at least 1: the others would not profit from smaller ones."""
        return max(1, sum(self.contracts[cell_id].is_batched for cell_id in cell_ids))

    def _measured(self, item: WorkItem, reading: Reading) -> dict[str, Measured]:
        """What one try finds, by cell."""
        found: dict[str, Measured] = {}
        for contract, work in self._works(item, reading):
            found |= zip(work.cells, self._measure(contract, work), strict=True)
        return found

    def _works(self, item: WorkItem, reading: Reading) -> Iterator[tuple[Contract, Work]]:
        """The item's cells by contract; the prefill of the whole prompt is made once, if any of them wants it."""
        scored = [cell_id for cell_id in item.cell_ids if self.contracts[cell_id].scores_prompt]
        room = max(item.fixture.max_new_tokens or reading.max_new_tokens, len(item.answer_ids))

        @cache
        def prompt_prefill() -> Prefill:
            signals = self._signals(scored)
            return read_prompt(self.model, item, signals, room=room, chunk_tokens=reading.chunk_tokens)

        for contract in {id(one): one for one in map(self.contracts.__getitem__, item.cell_ids)}.values():
            own = {name: self.cells[name] for name in item.cell_ids if self.contracts[name] is contract}
            yield (
                contract,
                Work(
                    self.model, self.tokenizer, self.eos_ids, reading, item, own, prompt_prefill,
                    self._signals, self._prune, self.policies,
                ),
            )  # fmt: skip

    def _signals(self, cell_ids: Sequence[str]) -> frozenset[Signal]:
        return frozenset[Signal]().union(*(needs(cell_ids) for needs in self.needs))

    def _prune(self, cells: Mapping[str, CellSpec], read: Prefill, text: Prompt) -> list[Pruned]:
        return [pruned for hook in self.after_prefill for pruned in hook(cells, read, text)]

    def _measure(self, contract: Contract, work: Work) -> list[Measured]:
        """What the contract finds; any failure that ends it is an error of its own cells alone."""
        try:
            return contract.measure(work)
        except BadInput:
            raise
        except Exception as error:
            message, is_short = f"{type(error).__name__}: {error}", is_out_of_memory(error)
            _LOG.debug("fixture %s failed", work.item.fixture.fixture_id, exc_info=True)
        free_memory(self.model.device)  # after the handler: its traceback holds the tensors of the failed fixture
        tokens = contract.budgeted_tokens(work.item.fixture, work.item.prompt)
        return [_failed(cell, tokens, message, is_short) for cell in work.cells.values()]

    def _observe(self, item: WorkItem, measured: Measured, run: FixtureRun, peak: int) -> Observation:
        settings, cell, fixture = self.settings, measured.cell, item.fixture
        completion = spelled(self.tokenizer, measured.token_ids)
        graded = grade(fixture.grade or settings.grade, completion, fixture.answers, fixture.choices)
        return Observation(
            cell_id=cell.cell_id(settings.evaluation_id),
            cell=cell.label,
            evaluation_id=settings.evaluation_id,
            fixture_id=fixture.fixture_id,
            fixture_index=item.index,
            cluster=fixture.cluster,
            fingerprint=item.fingerprint,
            model=settings.model,
            task=settings.task,
            contract=cell.contract,
            policy=cell.policy,
            params=cell.params,
            unit=cell.unit,
            guards=cell.guards,
            budget=cell.budget,
            budget_tokens=measured.budget_tokens,
            replica_of=cell.replica_of(settings.evaluation_id),
            grade=fixture.grade or settings.grade,
            outcome=None if measured.error else graded.outcome,
            completion=completion,
            answer_graded="" if measured.error else graded.answer_graded,
            answers=fixture.answers,
            answer_nll=measured.answer_nll,
            prompt_tokens=len(item.prompt.input_ids),
            kept_tokens=measured.kept_tokens,
            evidence_tokens=len(item.prompt.evidence),
            evidence_kept=measured.evidence_kept,
            panel_prefill_s=measured.prefill_s,
            prune_s=measured.prune_s,
            panel_decode_s=measured.decode_s,
            batch_rows=measured.batch_rows,
            kv_bytes=measured.kv_bytes,
            peak_bytes=peak,
            error=measured.error,
            subtask=fixture.task,
            choices=fixture.choices,
            contract_work=measured.contract_work,
            fixture_run=run,
            axes=fixture.axes,
        )


def _failed(cell: CellSpec, budgeted_tokens: int, error: str, is_short: bool) -> Measured:
    return Measured(
        cell=cell,
        budget_tokens=cell.resolve_budget(budgeted_tokens),
        error=error,
        is_short=is_short,
        kept_tokens=0.0,
        evidence_kept=None,
        prefill_s=0.0,
        decode_s=0.0,
        batch_rows=0,
        kv_bytes=0,
    )
