"""What is seen of a run while it goes on: a bar in a terminal, plain lines in a file, nothing when it is quiet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from vorn.evaluation import Evaluation
from vorn.records import Observation


def progress(evaluation: Evaluation, mode: str, interval_s: float) -> Callback:
    """The callback for a `mode`: bar, lines, none, or auto: a bar in a terminal, otherwise lines."""
    if mode == "auto":
        mode = "bar" if sys.stdout.isatty() else "lines"
    if mode == "none":
        return Callback()
    return PanelProgress(evaluation) if mode == "bar" else ProgressLines(evaluation, interval_s)


class Rates:
    """Fixtures and running hit rates, over units and budgets, of all processes that measure the evaluation."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: whose policies are shown, in the panel's order."""
        self._counts = {cell.policy: [0, 0] for cell in evaluation.specs}
        self.fixtures: set[str] = set()
        evaluation.listeners.append(self.add)

    def add(self, landed: Sequence[Observation]) -> None:
        """Count what has landed in the ledger."""
        for seen in landed:
            self.fixtures.add(seen.fixture_id)
            if seen.outcome is not None and not seen.replica_of:
                count = self._counts[seen.policy]
                count[0] += seen.outcome == 1.0
                count[1] += 1

    @property
    def text(self) -> str:
        """For example "full 98% vorn 41%": policies without an outcome yet are left out."""
        return " ".join(f"{name} {hits / n:.0%}" for name, (hits, n) in self._counts.items() if n)


class PanelProgress(RichProgressBar):
    """Rich's bar with the running hit rate of each policy; other processes' fixtures count in both."""

    def __init__(self, evaluation: Evaluation) -> None:
        """`evaluation`: what is measured."""
        super().__init__()
        self._rates, self._total = Rates(evaluation), len(evaluation.todo)

    @property
    def total_predict_batches_current_dataloader(self) -> int:
        """Fixtures; the loader has no length that would be known."""
        return self._total

    def on_predict_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Show what has landed by now."""
        super().on_predict_batch_start(*args, **kwargs)
        self._show()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last fixtures too."""
        self._show()
        super().on_predict_end(trainer, pl_module)

    def _show(self) -> None:
        if self.is_enabled and self.progress is not None and self.predict_progress_bar_id is not None:
            done = len(self._rates.fixtures)
            self.progress.update(self.predict_progress_bar_id, completed=done, description=self._rates.text)


class ProgressLines(Callback):
    """A line at the first fixture and then one per interval: how many of how many, running rates, time to go."""

    def __init__(self, evaluation: Evaluation, interval_s: float) -> None:
        """`evaluation`: what is measured; `interval_s`: seconds between two lines."""
        self._rates = Rates(evaluation)
        self._name, self._interval_s = f"{evaluation.model}, {evaluation.task}", interval_s
        self._total, self._shown = len(evaluation.todo), 0
        self._begin = self._last = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the clock."""
        self._begin, self._last = monotonic(), float("-inf")

    def on_predict_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """A line, if it is time for one."""
        if self._rates.fixtures and monotonic() - self._last >= self._interval_s:
            self._print()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last line, unless it stands there."""
        if len(self._rates.fixtures) > self._shown:
            self._print()

    def _print(self) -> None:
        self._last = monotonic()
        done, passed = len(self._rates.fixtures), self._last - self._begin
        self._shown = done
        left = passed / done * max(0, self._total - done)
        print(
            f"{self._name}: {done}/{self._total} fixtures, {self._rates.text}, {_clock(passed)} passed, about "
            f"{_clock(left)} to go",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
