"""The command line: `python launch.py --help`. Compares eviction policies on one model and task, cell by cell."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vorn.cli import run_job, supervise
from vorn.fanout import count_processes, run_apart
from vorn.panel import plan_panel
from vorn.processes import Ended, Rank


def evaluate(cfg: DictConfig) -> Ended:
    """One panel, here or in processes of its own. What the configuration tells is refused before torch is imported."""
    plan = plan_panel(cfg)
    job = HydraConfig.get()
    out_dir = Path(job.runtime.output_dir)
    if Rank.of(os.environ).is_alone:
        processes = count_processes(cfg)
        if processes > 1 or (job.mode == RunMode.MULTIRUN and cfg.isolate):
            return run_apart(cfg, plan, out_dir, processes)
    from vorn.run import evaluate as measure

    return Ended(measure(cfg, plan, out_dir))


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def launch(cfg: DictConfig) -> None:
    """One Hydra job."""
    run_job(lambda: evaluate(cfg))


def main() -> None:
    """Entry point of `python launch.py` and `vorn-launch`."""
    sys.exit(supervise(launch))


if __name__ == "__main__":
    main()
