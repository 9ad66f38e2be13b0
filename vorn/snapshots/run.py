"""Carries a campaign out: ledgers, Lightning's predict loop, matrix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from vorn.evaluation import ReportFailed
from vorn.hooks import make_callbacks, report
from vorn.loggers import close_loggers, make_loggers
from vorn.processes import DONE, NO_REPORT, WITH_ERRORS
from vorn.provenance import make_manifest
from vorn.quiet import quieten_lightning
from vorn.records import BadInput, Manifest
from vorn.snapshots.campaign import Campaign
from vorn.snapshots.engine import Engine, Simulated
from vorn.snapshots.module import CampaignData, ResumeModule
from vorn.snapshots.plan import CampaignPlan
from vorn.sweeps import note_scope


def evaluate(cfg: DictConfig, plan: CampaignPlan, out_dir: Path) -> int:
    """Measure what the ledgers lack, then report. Returns the exit code.

    Raises: BadInput for a mistake of the user's.
    """
    quieten_lightning()
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    engine = make_engine(plan)

    def manifest(evaluation_id: str) -> Manifest:
        planned = len(campaign.scopes[campaign.folder / evaluation_id].fixture_ids)
        return make_manifest(evaluation_id, settings, dtype=engine.dtype, device=engine.device, fixtures=planned)

    campaign = Campaign(plan, Path(cfg.ledger_dir), manifest, out_dir)
    todo = campaign.todo()
    callbacks = make_callbacks(cfg.callbacks, campaign)
    note_scope(out_dir, campaign.scopes)
    campaign.loggers.extend(make_loggers(cfg, campaign))
    instances = sum(len(one.instances) for one in plan.workloads)
    for one in plan.workloads:
        if one.repeats:
            drawn = one.repeats + len(one.instances)
            print(f"{one.task}: {one.repeats} of {drawn} seeds draw what an earlier one drew, and are left out")
    try:
        if todo:
            rest = "; the rest is measured" if len(todo) < instances else ""
            print(f"measuring {len(todo)} of {instances} workload instances{rest}")
            trainer: Trainer = instantiate(
                cfg.trainer, accelerator=_accelerator(cfg, engine), callbacks=callbacks, logger=False,
                default_root_dir=out_dir,
            )  # fmt: skip
            trainer.predict(ResumeModule(campaign, engine), datamodule=CampaignData(todo), return_predictions=False)
        else:
            print(f"all {instances} workload instances are measured: {campaign.folder}")
        report(callbacks)
    except ReportFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_REPORT
    finally:
        campaign.writer.close()
        close_loggers(campaign.loggers)
    return WITH_ERRORS if any(seen.error for seen in campaign.measured().observations) else DONE


def make_engine(plan: CampaignPlan) -> Engine:
    """What carries the requests of a plan out. Raises: BadInput for a model that cannot be resumed."""
    if "_target_" not in plan.engine:
        return Simulated(plan.placement, plan.cost, plan.cost_text)
    # Partial, because Hydra would turn a dataclass among the arguments into a configuration.
    engine: Engine = instantiate({**plan.engine, "_partial_": True})(plan.placement)
    return engine


def _accelerator(cfg: DictConfig, engine: Engine) -> str:
    """The engine moves its own model, so that Lightning has nothing to place."""
    if cfg.trainer.accelerator not in ("auto", "cpu"):
        raise BadInput(
            f"trainer.accelerator={cfg.trainer.accelerator!r}: legal here is auto or cpu; with engine=executed give "
            "engine.device"
        )
    return "cpu"
