"""What surrounds a run: one clean message for bad input, exit codes of jobs and sweeps, signals. Imports no torch."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vorn.fuse import fuse_argv
from vorn.records import BadInput

FAILED = 1  # bad input, or a failure of the program
INTERRUPTED, TERMINATED = 130, 143
_BY_SERIOUSNESS = (0, 3, 4, FAILED)  # done, with error observations, without a report, nothing reliable
_CODES = ".exit_codes"  # folder in a sweep's folder, one file per job: launchers may run jobs in other processes


def supervise(launch: Callable[[], Any]) -> int:
    """Rewrite the command line, let Hydra `launch` its jobs, and return the exit status of the process."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.argv[1:] = fuse_argv(sys.argv[1:])
        launch()
    except BadInput as error:
        _complain(error)
        return FAILED
    except (KeyboardInterrupt, SystemExit) as stop:
        return _status(stop)
    return 0


def run_job(work: Callable[[], int]) -> None:
    """Do the `work` of one Hydra job; its exit status ends the process, or in a sweep is noted for the end of it."""
    try:
        code = work()
    except Exception as error:
        _complain(error)
        code = FAILED
    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        codes = Path(job.runtime.cwd, job.sweep.dir, _CODES)
        codes.mkdir(parents=True, exist_ok=True)
        (codes / str(job.job.num)).write_text(str(code))
    elif code:
        sys.exit(code)


def most_serious(codes: list[int]) -> int:
    """The code to report for several jobs; one that is not documented counts as a failure."""
    return max((code if code in _BY_SERIOUSNESS else FAILED for code in codes), key=_BY_SERIOUSNESS.index)


class SweepExitStatus(Callback):
    """Ends a sweep with the most serious exit status of its jobs. Hydra lets only SystemExit out of a callback."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the codes of an earlier sweep in the same folder."""
        shutil.rmtree(Path(config.hydra.sweep.dir, _CODES), ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Leave with the sweep's status."""
        noted = [int(path.read_text()) for path in Path(config.hydra.sweep.dir).glob(f"{_CODES}/*")]
        code = most_serious(noted) if noted else FAILED
        if code:
            sys.exit(code)


def _status(stop: BaseException) -> int:
    # Lightning turns Ctrl-C into SystemExit(1), raised while it handles the KeyboardInterrupt.
    if isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt):
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    code = stop.code if isinstance(stop, SystemExit) else FAILED
    if code is None:
        return 0
    return FAILED if not isinstance(code, int) or code == 2 else code  # 2: an unknown flag, refused by argparse


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _complain(error: Exception) -> None:
    """One message for a mistake of the user's; the traceback for anything else, and if HYDRA_FULL_ERROR=1."""
    cause: BaseException | None = error
    while isinstance(cause, InstantiationException):
        cause = cause.__cause__
    expected = isinstance(cause, (BadInput, HydraException, OmegaConfBaseException))
    if not expected or os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    else:
        print(f"error: {cause}", file=sys.stderr)
