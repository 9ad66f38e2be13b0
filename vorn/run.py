"""Carries one panel out: checkpoint, fixtures, ledger, Lightning's predict loop, report."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf
from transformers.utils.logging import disable_progress_bar

from vorn.claims import Claims
from vorn.data import EvaluationData, WorkItems
from vorn.evaluation import Evaluation, ReportFailed
from vorn.fixtures import checked_text, read_fixtures
from vorn.hooks import make_callbacks, report
from vorn.identity import evaluation_identity
from vorn.ledger import LedgerWriter
from vorn.loggers import close_loggers, make_loggers
from vorn.memory import Relief
from vorn.models.checkpoint import Checkpoint, find_checkpoint
from vorn.models.generation import eos_ids, not_applied
from vorn.models.prompts import Renderer
from vorn.module import EvictionModule
from vorn.panel import PanelPlan, plan_panel
from vorn.processes import DONE, NO_REPORT, TERMINATION, WITH_ERRORS, Rank
from vorn.provenance import make_manifest
from vorn.quiet import quieten_lightning
from vorn.records import BadInput, Fixture, Manifest, digest
from vorn.settings import QUIET
from vorn.sweeps import note_scope
from vorn.work import Reading


def evaluate(cfg: DictConfig, plan: PanelPlan, out_dir: Path) -> int:
    """Measure what the ledger lacks, then report. Returns the exit code.

    Several processes may do this at once, on any machines that see the ledger: each fixture is measured by one of them.
    Of those that one launcher has started, only the first prints, logs and reports; it does when all are done.
    Tokenizer, fixtures and ledger are checked before the model's weights are loaded.
    Raises: BadInput for a mistake of the user's.
    """
    _set_up_logging(str(cfg.verbosity))
    rank = Rank.of(os.environ)
    if rank.is_first and cfg.verbosity != QUIET:
        return _evaluate(cfg, plan, out_dir, rank)
    with Path(os.devnull).open("w") as silence, redirect_stdout(silence):
        return _evaluate(cfg, plan, out_dir, rank)


def _evaluate(cfg: DictConfig, plan: PanelPlan, out_dir: Path, rank: Rank) -> int:
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    device = _device(cfg, rank)
    checkpoint = find_checkpoint(settings["model"], device)
    if plan.is_open:
        plan = plan_panel(cfg, layers=checkpoint.config.get_text_config().num_hidden_layers)
    renderer = Renderer(
        checkpoint.tokenizer, settings["model"]["chat_template"], settings["model"]["template_arguments"]
    )
    fixtures = read_fixtures(cfg, renderer)
    texts = [checked_text(cfg, fixture, renderer, checkpoint, plan) for fixture in fixtures]
    evaluation = _evaluation(cfg, settings, plan, checkpoint, fixtures, texts, device, out_dir)
    todo = evaluation.todo
    callbacks = make_callbacks(cfg.callbacks, evaluation)
    if rank.is_first:
        note_scope(out_dir, {evaluation.folder: evaluation.scope})
        evaluation.loggers.extend(make_loggers(cfg, evaluation))
    try:
        if todo:
            rest = "; the rest is measured" if len(todo) < len(fixtures) else ""
            print(f"measuring {len(todo)} of {len(fixtures)} fixtures x {len(plan.cells)} cells{rest}")
            module = _module(cfg, settings, checkpoint, evaluation, device)
            items = WorkItems(fixtures, evaluation.fingerprints, renderer, with_answers=bool(cfg.outcome.nll))
            _measure(module, evaluation, items, _trainer(cfg, callbacks, device, out_dir))
        else:
            print(f"all {len(fixtures)} fixtures x {len(plan.cells)} cells are measured: {evaluation.folder}")
        if rank.is_first:
            report(callbacks)
    except ReportFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_REPORT
    finally:
        evaluation.close()
        close_loggers(evaluation.loggers)
    errors = any(seen.error for seen in evaluation.measured().observations)
    return WITH_ERRORS if errors else DONE


def _measure(module: EvictionModule, evaluation: Evaluation, items: WorkItems, trainer: Trainer) -> None:
    """Take fixtures until all are done; on SIGTERM, end the process after the one in flight."""
    claims = evaluation.work(is_over=lambda: TERMINATION.is_requested)
    # A claim takes a cell or more, so that the loop does not end before the claims do, which wait for other processes.
    data = EvaluationData(items, claims, at_most=1 + sum(map(len, evaluation.todo.values())))
    with TERMINATION.after_the_fixture():
        trainer.predict(module, datamodule=data, return_predictions=False)


def _trainer(cfg: DictConfig, callbacks: Sequence[Callback], device: torch.device, out_dir: Path) -> Trainer:
    """A trainer of this process alone: fixtures are shared by claims, so that no process waits for a collective."""
    trainer: Trainer = instantiate(
        cfg.trainer,
        accelerator=device.type,
        devices=1 if device.type == "cpu" else [device.index],
        num_nodes=1,
        plugins=[LightningEnvironment()],  # what torchrun or SLURM says of other processes is no concern of Lightning's
        callbacks=callbacks,
        logger=False,
        # Without a bar of ours, as where there is no terminal, Lightning would add its own.
        enable_progress_bar=any(isinstance(one, ProgressBar) for one in callbacks),
        default_root_dir=out_dir,
    )
    return trainer


def _set_up_logging(verbosity: str) -> None:
    """Leave the terminal to progress and results, unless asked: libraries report what is wrong, not what is usual."""
    level = {"verbose": logging.INFO, "debug": logging.DEBUG}.get(verbosity, logging.WARNING)
    if level < logging.WARNING:
        logging.basicConfig(format="%(name)s: %(message)s")  # a worker has no handler of Hydra's
    else:
        disable_progress_bar()
    quieten_lightning()
    for name in ("vorn", "lightning.pytorch", "transformers"):
        logging.getLogger(name).setLevel(level)


def _device(cfg: DictConfig, rank: Rank) -> torch.device:
    """Where this process's model runs. Raises BadInput for trainer settings that this project does not carry out."""
    trainer, gpus = cfg.trainer, torch.cuda.device_count()
    legal = ("auto", "cpu", "gpu", "cuda") if gpus else ("auto", "cpu")
    if trainer.accelerator not in legal:
        listed = ", ".join(legal)
        raise BadInput(f"trainer.accelerator={trainer.accelerator!r}: legal values here are {listed}; choose one")
    if trainer.num_nodes != 1 and rank.is_alone:
        raise BadInput(
            f"trainer.num_nodes={trainer.num_nodes}: processes are started on this machine alone, so 1 is legal; start "
            "the same command on each machine, with a ledger_dir that all of them see"
        )
    if trainer.get("precision") is not None:
        raise BadInput(f"trainer.precision={trainer.precision!r}: the checkpoint's dtype decides; give model.dtype")
    if trainer.accelerator == "cpu" or not gpus:
        return torch.device("cpu")
    index = int(trainer.devices[rank.local_rank]) if OmegaConf.is_list(trainer.devices) else rank.local_rank
    if index >= gpus:
        raise BadInput(
            f"process {rank.local_rank} of this machine has no GPU: there are {gpus}; start one process per GPU"
        )
    return torch.device("cuda", index)


def _evaluation(
    cfg: DictConfig,
    settings: Mapping[str, Any],
    plan: PanelPlan,
    checkpoint: Checkpoint,
    fixtures: list[Fixture],
    texts: list[str],
    device: torch.device,
    out_dir: Path,
) -> Evaluation:
    identity = evaluation_identity(cfg, weights_digest=checkpoint.weights_digest, dtype=checkpoint.dtype_name)
    evaluation_id = digest(identity)
    folder = Path(cfg.ledger_dir) / evaluation_id

    def manifest() -> Manifest:
        place = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        return make_manifest(evaluation_id, settings, dtype=checkpoint.dtype_name, device=place)

    return Evaluation(
        model=str(cfg.model.name),
        task=str(cfg.task.name),
        identity=identity,
        specs=plan.cells,
        fixtures=fixtures,
        texts=texts,
        folder=folder,
        writer=LedgerWriter(folder, manifest),
        claims=Claims(folder, stale_after_s=float(cfg.claims.stale_after_s), poll_s=float(cfg.claims.poll_s)),
        out_dir=out_dir,
        tests=plan.tests,
    )


def _module(
    cfg: DictConfig, settings: Mapping[str, Any], checkpoint: Checkpoint, evaluation: Evaluation, device: torch.device
) -> EvictionModule:
    how = {name: settings["model"][name] for name in ("attn_implementation", "device_map", "quantization")}
    model = checkpoint.load(device=device, **how)
    if ignored := not_applied(model.generation_config):
        named = ", ".join(f"{name}={value}" for name, value in ignored.items())
        print(f"decoding is greedy; the model's generation configuration is not applied: {named}")
    reading = Reading(
        evaluation_id=evaluation.evaluation_id,
        model=str(cfg.model.name),
        task=str(cfg.task.name),
        grade=str(cfg.task.grade),
        max_new_tokens=int(cfg.task.max_new_tokens),
        max_cells=int(cfg.decode.max_cells),
        max_bytes=int(cfg.decode.max_bytes),
        chunk_tokens=cfg.prefill.chunk_tokens,
    )
    relief = Relief(**settings["memory"])
    ends = eos_ids(model, checkpoint.tokenizer)
    return EvictionModule(model, checkpoint.tokenizer, ends, evaluation.specs, reading, relief)
