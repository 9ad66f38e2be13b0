"""Progress bar: fixtures, rate, and running hit rates by policy."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torchmetrics import MeanMetric

from vorn.evaluation import Evaluation


class PanelProgress(RichProgressBar):
    """Rich's bar with the running hit rate of each policy, over its units and budgets, on this process's fixtures."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: whose policies are shown, in the panel's order."""
        super().__init__()
        self._rates = {cell.policy: MeanMetric(sync_on_compute=False) for cell in evaluation.specs}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Advance, and update the rates."""
        for seen in outputs:
            if seen.outcome is not None and not seen.replica_of:
                self._rates[seen.policy].update(float(seen.outcome == 1.0))
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, *args)
        if self.is_enabled and self.progress is not None and self.predict_progress_bar_id is not None:
            self.progress.update(self.predict_progress_bar_id, description=self.description)

    @property
    def description(self) -> str:
        """For example "full 98% vorn 41%": policies without an outcome yet are left out."""
        shown = [(name, rate) for name, rate in self._rates.items() if rate.update_count]
        return " ".join(f"{name} {rate.compute().item():.0%}" for name, rate in shown)
