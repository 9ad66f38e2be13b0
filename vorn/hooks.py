"""The callbacks of a job: made from the configuration, and asked for their reports at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from hydra.utils import instantiate
from lightning import Callback

from vorn.evaluation import Reporter


def make_callbacks(cfg: Mapping[str, Any], job: object) -> list[Callback]:
    """Every configured callback; one with `_partial_: true` is given the job, an evaluation or a campaign."""
    made = [instantiate(one) for one in cfg.values()]
    return [one(job) if isinstance(one, partial) else one for one in made]


def report(callbacks: Iterable[Callback]) -> None:
    """Have those report that can. Raises: ReportFailed."""
    for callback in callbacks:
        if isinstance(callback, Reporter):
            callback.report()
