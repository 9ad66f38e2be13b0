"""Stops cells whose comparisons are settled, and the run when all are."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.evaluation import Evaluation


class SequentialStopping(Callback):
    """Looks after every fixture, where the run is sequential."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: its `stopping` decides; work items leave out the cells that it stops."""
        self._stopping, self._fixtures = evaluation.stopping, len(evaluation.fixtures)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Look at the fixture's outcomes."""
        if self._stopping is not None:
            self._stopping.observe(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where it stopped."""
        if self._stopping is not None and not self._stopping.active:
            print(
                f"stopped after {self._stopping.fixtures} of {self._fixtures} fixtures: every comparison is shown, or "
                "cannot be shown any more"
            )
