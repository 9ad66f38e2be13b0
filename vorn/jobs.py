"""What `python launch.py` carries out: the `run` group names one. What conf can tell is refused before torch."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vorn.fanout import count_processes, run_apart
from vorn.panel import plan_panel
from vorn.processes import Ended, Rank


def panel(cfg: DictConfig, out_dir: Path) -> Ended:
    """The main job: one panel of KV-cache eviction policies, here or in processes of its own."""
    plan = plan_panel(cfg)
    if Rank.of(os.environ).is_alone:
        processes = count_processes(cfg)
        if processes > 1 or (HydraConfig.get().mode == RunMode.MULTIRUN and cfg.isolate):
            return run_apart(cfg, plan, out_dir, processes)
    from vorn.run import evaluate

    return Ended(evaluate(cfg, plan, out_dir))


def warm_resume(cfg: DictConfig, out_dir: Path) -> Ended:
    """A comparison of snapshot policies."""
    from vorn.snapshots.plan import plan_campaign

    plan = plan_campaign(cfg)
    from vorn.snapshots.run import evaluate

    return Ended(evaluate(cfg, plan, out_dir))
