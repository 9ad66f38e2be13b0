"""One LightningDataModule for every task: what is still to be measured, in the task's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

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
        is_active: Callable[[str], bool],
    ) -> None:
        """What is to be measured.

        Args:
            fixtures: all of them, in order.
            todo: cell ids without an outcome, by fixture id; complete fixtures are left out.
            fingerprints: by fixture id.
            renderer: makes prompts.
            is_active: whether a cell, by its id, is still wanted; asked for every item when it is its turn.
        """
        self._fixtures = [(index, one) for index, one in enumerate(fixtures) if one.fixture_id in todo]
        self._todo, self._fingerprints, self._renderer, self._is_active = todo, fingerprints, renderer, is_active

    def __len__(self) -> int:
        return len(self._fixtures)

    def __getitem__(self, index: int) -> WorkItem:
        place, fixture = self._fixtures[index]
        name, prompt = fixture.fixture_id, self._renderer.prompt(fixture)
        return WorkItem(fixture, place, prompt, self._fingerprints[name], self._wanted(index))

    def wanted(self) -> Iterator[int]:
        """Indices of the items that some active cell lacks, each judged when it is its turn."""
        return (index for index in range(len(self)) if self._wanted(index))

    def _wanted(self, index: int) -> tuple[str, ...]:
        _, fixture = self._fixtures[index]
        return tuple(filter(self._is_active, self._todo[fixture.fixture_id]))


class _Wanted(Sampler[int]):
    """Serves items in their order, without those that a stopped run does not need any more."""

    def __init__(self, items: WorkItems) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        return self._items.wanted()

    def __len__(self) -> int:
        """At most so many."""
        return len(self._items)


class EvaluationData(LightningDataModule):
    """Serves work items to the predict loop."""

    def __init__(self, items: WorkItems) -> None:
        """`items`: in the order in which they are measured."""
        super().__init__()
        self._items = items

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Work items, one by one."""
        return DataLoader(self._items, batch_size=None, num_workers=0, sampler=_Wanted(self._items))

    def transfer_batch_to_device(self, batch: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """The item itself: it holds no tensor, and Lightning cannot walk through frozen dataclasses."""
        return batch
