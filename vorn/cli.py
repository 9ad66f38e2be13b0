"""What surrounds a run: one clean message for bad input, exit codes of jobs and sweeps, signals. Imports no torch."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vorn.fuse import flags_last, fuse_argv, is_multirun
from vorn.processes import FAILED, INTERRUPTED, TERMINATION, Ended, Rank
from vorn.records import BadInput
from vorn.sweeps import JobNote, forget_notes, note_job, report_sweep

# Only the first of torchrun's processes has a folder for its output: each would name its own after the time.
_WITHOUT_OUTPUT = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=disabled")


def supervise(launch: Callable[[], Any]) -> int:
    """Rewrite the command line, let Hydra `launch` its jobs, and return the exit status of the process."""
    TERMINATION.install()
    try:
        sys.argv[1:] = _argv(sys.argv[1:], Rank.of(os.environ))
        launch()
    except BadInput as error:
        explain(error)
        return FAILED
    except (KeyboardInterrupt, SystemExit) as stop:
        status = exit_status(stop)
        return SweepEnd.rescue() if status == FAILED else status
    return 0


def _argv(argv: list[str], rank: Rank) -> list[str]:
    argv = flags_last(argv if rank.is_first else [*argv, *_WITHOUT_OUTPUT])
    if not rank.is_alone and is_multirun(argv):
        raise BadInput(
            f"-m under torchrun would carry the whole sweep out {rank.world_size} times; give -m without torchrun, "
            "with trainer.devices=N processes per job"
        )
    return fuse_argv(argv)


def run_job(work: Callable[[], Ended]) -> None:
    """Do the `work` of one Hydra job; its exit status ends the process, or in a sweep is noted for the end of it."""
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        if code := _ended(work).code:
            sys.exit(code)
        return
    sweep_dir = Path(job.runtime.cwd, job.sweep.dir)
    known = (int(job.job.num), " ".join(job.overrides.task), str(job.runtime.output_dir))
    os.environ.setdefault("WANDB_RUN_GROUP", f"{sweep_dir.parent.name}-{sweep_dir.name}")  # of the job's W&B run
    note_job(sweep_dir, JobNote(*known))
    ended = _ended(work)
    note_job(sweep_dir, JobNote(*known, ended.code, ended.why))


def _ended(work: Callable[[], Ended]) -> Ended:
    try:
        return work()
    except Exception as error:
        return Ended(FAILED, explain(error))


class SweepEnd(Callback):
    """Ends a sweep with a report on all of its jobs, and with the most serious exit status of them."""

    _unreported: Path | None = None  # folder of the sweep that this process began

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the notes of an earlier sweep in the same folder."""
        SweepEnd._unreported = Path(config.hydra.sweep.dir)
        forget_notes(SweepEnd._unreported)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report, and leave with the sweep's status. Hydra lets only SystemExit out of a callback."""
        SweepEnd._unreported = None
        if code := report_sweep(Path(config.hydra.sweep.dir)):
            sys.exit(code)

    @staticmethod
    def rescue() -> int:
        """Report on a sweep whose launcher failed, so that Hydra did not come to its end; the exit status."""
        folder, SweepEnd._unreported = SweepEnd._unreported, None
        if folder is not None:
            report_sweep(folder)
        return FAILED


def exit_status(stop: BaseException) -> int:
    """The exit status that a KeyboardInterrupt or SystemExit stands for; says how to go on after the former."""
    # Lightning turns Ctrl-C into SystemExit(1), raised while it handles the KeyboardInterrupt.
    if isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt):
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    code = stop.code if isinstance(stop, SystemExit) else FAILED
    if code is None:
        return 0
    return FAILED if not isinstance(code, int) or code == 2 else code  # 2: an unknown flag, refused by argparse


def explain(error: Exception, *, is_heard: bool = True) -> str:
    """One message for a mistake of the user's; the traceback for anything else, and if HYDRA_FULL_ERROR=1.

    Args:
        error: what ended the job.
        is_heard: whether a mistake is printed; of several processes that make it, one says so.
    Returns: the message on one line.
    """
    cause: BaseException | None = error
    while isinstance(cause, InstantiationException):
        cause = cause.__cause__
    expected = isinstance(cause, (BadInput, HydraException, OmegaConfBaseException))
    if not expected or os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    elif is_heard:
        print(f"error: {cause}", file=sys.stderr)
    return " ".join(f"{'' if expected else f'{type(cause).__name__}: '}{cause}".split())
