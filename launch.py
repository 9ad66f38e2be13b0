"""The command line: `python launch.py --help`. Compares eviction policies on one model and task, cell by cell."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vorn.cli import run_job, supervise


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def launch(cfg: DictConfig) -> None:
    """One Hydra job."""
    run_job(lambda: instantiate(cfg.run)(cfg, Path(HydraConfig.get().runtime.output_dir)))


def main() -> None:
    """Entry point of `python launch.py` and `vorn-launch`."""
    sys.exit(supervise(launch))


if __name__ == "__main__":
    main()
