"""One LightningDataModule for every task: what is still to be measured, in the task's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from vorn.models.prompts import Prompt, Renderer
from vorn.records import Fixture


@dataclass(frozen=True)
class WorkItem:
    """One fixture with the cells that lack an outcome for it."""

    fixture: Fixture
    index: int  # 0-based, of the fixture in the task's order
    prompt: Prompt
    fingerprint: str
    cell_ids: tuple[str, ...]


class WorkItems(Dataset[WorkItem]):
    """The fixtures that some cell lacks; each is tokenized when it is asked for, so that few prompts are held."""

    def __init__(
        self,
        fixtures: Sequence[Fixture],
        todo: Mapping[str, Sequence[str]],
        fingerprints: Mapping[str, str],
        renderer: Renderer,
    ) -> None:
        """`todo`: cell ids without an outcome, by fixture id; complete fixtures are left out."""
        self._fixtures = [(index, one) for index, one in enumerate(fixtures) if one.fixture_id in todo]
        self._todo, self._fingerprints, self._renderer = todo, fingerprints, renderer

    def __len__(self) -> int:
        return len(self._fixtures)

    def __getitem__(self, index: int) -> WorkItem:
        place, fixture = self._fixtures[index]
        name, prompt = fixture.fixture_id, self._renderer.prompt(fixture)
        return WorkItem(fixture, place, prompt, self._fingerprints[name], tuple(self._todo[name]))


class EvaluationData(LightningDataModule):
    """Serves work items to the predict loop."""

    def __init__(self, items: WorkItems) -> None:
        """`items`: in the order in which they are measured."""
        super().__init__()
        self._items = items

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Work items, one by one."""
        return DataLoader(self._items, batch_size=None, num_workers=0)

    def transfer_batch_to_device(self, batch: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """The item itself: it holds no tensor, and Lightning cannot walk through frozen dataclasses."""
        return batch
