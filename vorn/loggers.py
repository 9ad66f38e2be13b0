"""Loggers mirror the ledger: whatever fails in one is reported and stops nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig


def guarded(what: str, act: Callable[[], None]) -> None:
    """`act()`; an exception becomes a warning that names `what` failed."""
    try:
        act()
    except Exception as error:
        print(
            f"warning: {what} failed ({type(error).__name__}: {error}); the ledger records everything", file=sys.stderr
        )


def make_loggers(cfg: DictConfig | None) -> list[Logger]:
    """The configured logger; none if the group is empty, or if it cannot be made."""
    made: list[Logger] = []
    if cfg:
        guarded("making the logger", lambda: made.append(instantiate(cfg)))
    return made


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Close what loggers hold open in this process, or the next job of a sweep would write into it."""
    for logger in loggers:
        guarded("closing the logger", lambda logger=logger: logger.finalize("success"))  # type: ignore[misc]
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        guarded("finishing the W&B run", wandb.finish)
