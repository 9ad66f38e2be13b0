"""Says where a sequential run has stopped; the evaluation looks whenever observations have landed."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from vorn.evaluation import Evaluation


class SequentialStopping(Callback):
    """One line at the end of a run that stopped early."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: its `stopping` decides; claims leave out the cells that it stops."""
        self._stopping, self._fixtures = evaluation.stopping, len(evaluation.fixtures)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where it stopped."""
        if self._stopping is not None and not self._stopping.active:
            print(
                f"stopped after {self._stopping.fixtures} of {self._fixtures} fixtures: every comparison is shown, or "
                "cannot be shown any more"
            )
