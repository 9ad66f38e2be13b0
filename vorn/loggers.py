"""Loggers mirror the ledger: whatever fails in one is reported and stops nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

RUN_ID = "WANDB_RUN_ID"  # by which W&B's agents, and whoever else sets it, decide which run it is


class Job(Protocol):
    """What a logger is told of the evaluation, or the campaign, that it mirrors."""

    @property
    def run_id(self) -> str:
        """The same for the same cells of the same evaluation, whenever and wherever they are measured."""

    @property
    def title(self) -> str:
        """For readers."""


def guarded(what: str, act: Callable[[], None]) -> None:
    """`act()`; an exception becomes a warning that names `what` failed."""
    try:
        act()
    except Exception as error:
        print(
            f"warning: {what} failed ({type(error).__name__}: {error}); the ledger records everything", file=sys.stderr
        )


def make_loggers(cfg: DictConfig, job: Job) -> list[Logger]:
    """The logger that `cfg.logger` configures; none if it is empty, or if it cannot be made.

    One with `_partial_: true` is given the job and the whole configuration.
    """
    made: list[Logger] = []

    def make() -> None:
        one = instantiate(cfg.logger)
        made.append(one(job, OmegaConf.to_container(cfg, resolve=True)) if isinstance(one, partial) else one)

    if cfg.logger:
        guarded("making the logger", make)
    return made


def wandb_logger(
    job: Job, config: Mapping[str, Any], *, project: str, mode: str, group: str | None, save_dir: str, settings: Any
) -> WandbLogger:
    """A W&B run of the job's id, begun now, so that a failure is known before anything is measured.

    The same command goes on in the same run, where the server has it. An agent of a W&B sweep chooses the id itself.
    """
    import wandb

    Path(save_dir).mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        id=None if RUN_ID in os.environ else job.run_id,
        name=job.title,
        project=project,
        mode=mode,  # type: ignore[arg-type]
        group=group,
        dir=save_dir,
        resume="allow",
        settings=settings,
    )
    run.config.update(dict(config), allow_val_change=True)  # a higher limit, for one, is the same run
    return WandbLogger(project=project, save_dir=save_dir, experiment=run)


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Close what loggers hold open in this process, or the next job of a sweep would write into it."""
    for logger in loggers:
        guarded("closing the logger", lambda logger=logger: logger.finalize("success"))  # type: ignore[misc]
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        guarded("finishing the W&B run", wandb.finish)
