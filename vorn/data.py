"""One LightningDataModule for every task: what is still to be measured, in the task's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from vorn.claims import Claim
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
    render: Callable[[Fixture], Prompt]  # what the model would read of any fixture
    answer_ids: tuple[int, ...] = ()  # of the first answer, behind the prompt; () unless its likelihood is asked for


class WorkItems(Dataset[WorkItem]):
    """What claims are to measure; each prompt is tokenized when it is asked for, so that few are held."""

    def __init__(
        self, fixtures: Sequence[Fixture], fingerprints: Mapping[str, str], renderer: Renderer, with_answers: bool
    ) -> None:
        """`fixtures`: all of them, in order; `fingerprints`: by fixture id; `renderer`: makes prompts, and answers."""
        self._fixtures = {one.fixture_id: (index, one) for index, one in enumerate(fixtures)}
        self._fingerprints, self._renderer, self._with_answers = fingerprints, renderer, with_answers

    def __getitem__(self, claim: Claim) -> WorkItem:
        name = claim.fixture_id
        index, fixture = self._fixtures[name]
        answer = self._renderer.answer_ids(fixture) if self._with_answers else ()
        prompt = self._renderer.prompt(fixture)
        return WorkItem(fixture, index, prompt, self._fingerprints[name], claim.cell_ids, self._renderer.prompt, answer)


class _Claimed(Sampler[Claim]):
    """Claims, each made when it is its turn."""

    def __init__(self, claims: Iterator[Claim], at_most: int) -> None:
        self._claims, self._at_most = claims, at_most

    def __iter__(self) -> Iterator[Claim]:
        return self._claims

    def __len__(self) -> int:
        return self._at_most


class EvaluationData(LightningDataModule):
    """Serves work items to the predict loop."""

    def __init__(self, items: WorkItems, claims: Iterator[Claim], at_most: int) -> None:
        """`claims`: what this process measures, in order; `at_most`: not reached."""
        super().__init__()
        self._items, self._claims = items, _Claimed(claims, at_most)

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Work items, one by one. Nothing is fetched ahead: a claim is made when its fixture is about to be read."""
        return DataLoader(self._items, batch_size=None, num_workers=0, sampler=self._claims)

    def transfer_batch_to_device(self, batch: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """The item itself: it holds no tensor, and Lightning cannot walk through frozen dataclasses."""
        return batch
