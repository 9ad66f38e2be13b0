"""What `python launch.py` carries out: the `run` group names one. What conf can tell is refused before torch."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig


def panel(cfg: DictConfig, out_dir: Path) -> int:
    """Exit status of the main job: one panel of KV-cache eviction policies."""
    from vorn.panel import plan_panel

    plan = plan_panel(cfg)
    from vorn.run import evaluate

    return evaluate(cfg, plan, out_dir)


def warm_resume(cfg: DictConfig, out_dir: Path) -> int:
    """Exit status of a comparison of snapshot policies."""
    from vorn.snapshots.plan import plan_campaign

    plan = plan_campaign(cfg)
    from vorn.snapshots.run import evaluate

    return evaluate(cfg, plan, out_dir)
