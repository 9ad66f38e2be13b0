"""The LightningModule of a campaign: one instance of a workload through all cells that lack it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, Dataset

from vorn.records import RESUME_GRADE, BadInput, Observation, Resume
from vorn.snapshots.campaign import Campaign, WorkItem
from vorn.snapshots.cells import SnapshotCell
from vorn.snapshots.engine import Engine, Outcome
from vorn.snapshots.requests import Request


class ResumeModule(LightningModule):
    """Predicts work items: `predict_step` returns one observation per missing fixture and cell."""

    def __init__(self, campaign: Campaign, engine: Engine) -> None:
        """`engine`: carries the requests out."""
        super().__init__()
        self._campaign = campaign
        self._engine = engine

    def predict_step(self, item: WorkItem, batch_idx: int = 0) -> list[Observation]:
        """The observations of one instance, by cell; a cell that fails gives observations with `error`.

        Raises: BadInput for a workload that does not fit, which no other cell would change.
        """
        cells = self._campaign.cells[item.workload.evaluation_id]
        observations = []
        for cell_id, fixtures in item.missing.items():
            outcomes: Sequence[Outcome | None]
            try:
                outcomes, error = self._engine.run(cells[cell_id].pool(), item.instance.requests), None
            except BadInput:
                raise
            except Exception as failure:
                outcomes = [None] * len(item.instance.requests)
                error = f"{type(failure).__name__}: {failure}"
            index = item.first_index
            for request, outcome in zip(item.instance.requests, outcomes, strict=True):
                if request.measured in fixtures:
                    observations.append(self._observe(item, cells[cell_id], request, index, outcome, error))
                index += bool(request.measured)
        return observations

    def _observe(
        self,
        item: WorkItem,
        cell: SnapshotCell,
        request: Request,
        index: int,
        outcome: Outcome | None,
        error: str | None,
    ) -> Observation:
        found = outcome.resumed if outcome else None
        problem = error or (outcome.problem if outcome else None)
        prompt = request.prompt.tokens
        return Observation(
            cell_id=cell.cell_id(item.workload.evaluation_id),
            cell=cell.label,
            evaluation_id=item.workload.evaluation_id,
            fixture_id=request.measured,
            fixture_index=index,
            cluster=item.instance.name,
            fingerprint=item.instance.fingerprint,
            model=self._engine.name,
            task=item.workload.task,
            contract=f"{self._campaign.plan.placement.label}, {cell.order}" if not cell.is_reference else "",
            policy=cell.policy,
            params=cell.params,
            unit=cell.unit,
            guards="",
            budget=cell.budget,
            budget_tokens=prompt if cell.is_reference else int(cell.budget),
            replica_of="",
            grade=RESUME_GRADE,
            outcome=None if problem or not found else found.anchor / prompt,
            completion=outcome.completion if outcome else "",
            answer_graded="",
            answers=(),
            answer_nll=None,
            prompt_tokens=prompt,
            kept_tokens=None,
            evidence_tokens=None,
            evidence_kept=None,
            panel_prefill_s=None,
            prune_s=None,
            panel_decode_s=None,
            batch_rows=None,
            kv_bytes=None,
            peak_bytes=None,
            error=problem,
            resume=self._resume(outcome) if outcome else None,
        )

    def _resume(self, outcome: Outcome) -> Resume:
        found = outcome.resumed
        return Resume(
            matched_tokens=found.matched,
            anchor_tokens=found.anchor,
            replay_tokens=found.replay,
            recomputed_tokens=found.recomputed,
            ttft_s=found.seconds,
            ttft_law=self._engine.law,
            kv_without_state=found.matched > 0 and found.anchor == 0,
            evictions=found.evictions,
            protection_fired=found.fired,
            protection_saturated=found.saturated,
            logit_difference=outcome.logit_difference,
            greedy_equal=outcome.greedy_equal,
        )


class WorkItems(Dataset[WorkItem]):
    """The instances that are to be measured."""

    def __init__(self, items: Sequence[WorkItem]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> WorkItem:
        return self._items[index]


class CampaignData(LightningDataModule):
    """Serves work items to the predict loop."""

    def __init__(self, items: Sequence[WorkItem]) -> None:
        super().__init__()
        self._items = WorkItems(items)

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Work items, one by one."""
        return DataLoader(self._items, batch_size=None, num_workers=0)

    def transfer_batch_to_device(self, batch: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """The item itself: it holds no tensor."""
        return batch
