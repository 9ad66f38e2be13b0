"""Records what each cell kept of the first fixtures' prompts, for those who want to look at it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.data import WorkItem
from vorn.evaluation import Evaluation
from vorn.ledger import writable
from vorn.module import EvictionModule
from vorn.views import View, ViewWriter
from vorn.work import Measured


class RecordViews(Callback):
    """A view is on disk before the observations of its cells: whatever is measured and recorded has its view."""

    def __init__(self, evaluation: Evaluation, fixtures: int | None) -> None:
        """`fixtures`: of so many first ones, in the task's order; None for all."""
        self._evaluation_id, self._folder = evaluation.evaluation_id, evaluation.folder
        self._writer, self._fixtures = ViewWriter(evaluation.folder), fixtures

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to what is kept. Raises TypeError for another module than an EvictionModule."""
        if not isinstance(pl_module, EvictionModule):
            raise TypeError(f"RecordViews listens to an EvictionModule, not to {type(pl_module).__name__}")
        pl_module.after_measuring.append(self.record)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Undo `setup`."""
        if isinstance(pl_module, EvictionModule):
            pl_module.after_measuring.remove(self.record)
        self._writer.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the file: Lightning tears nothing down after an exception."""
        self._writer.close()

    def record(self, item: WorkItem, found: Sequence[Measured]) -> None:
        """Write the view of one of the first fixtures. Raises: BadInput if the folder does not take it."""
        if self._fixtures is not None and item.index >= self._fixtures:
            return
        tokens = len(item.prompt.offsets)
        kept = {
            one.cell.cell_id(self._evaluation_id): one.kept.shares().cpu().numpy().tobytes().ljust(tokens, b"\xff")
            for one in found
            if one.kept is not None and one.error is None
        }
        if kept:
            with writable(self._folder):
                self._writer.append(_view(item, self._evaluation_id, kept))


def _view(item: WorkItem, evaluation_id: str, kept: dict[str, bytes]) -> View:
    prompt, fixture = item.prompt, item.fixture
    return View(
        evaluation_id=evaluation_id,
        fixture_id=fixture.fixture_id,
        fingerprint=item.fingerprint,
        prompt=prompt.text,
        token_ends=tuple(end for _, end in prompt.offsets),
        evidence=prompt.evidence,
        question_start_token=prompt.context_tokens,
        kept=kept,
    )
