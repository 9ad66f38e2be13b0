"""Writes every fixture's observations to the ledger before the next fixture begins."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.evaluation import Evaluation
from vorn.ledger import writable


class WriteLedger(Callback):
    """What this returns from is on disk: `kill -9` loses at most the fixture in flight."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: to whose ledger this process writes; the run closes it."""
        self._writer, self._folder = evaluation.writer, evaluation.folder

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Append the fixture's observations as one block. Raises: BadInput if the folder does not take them."""
        with writable(self._folder):
            self._writer.append(outputs)
