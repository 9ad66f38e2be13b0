"""A process that measures one panel for `vorn.fanout`: `python -m vorn.worker`, with the job on standard input."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from threading import Thread

from omegaconf import OmegaConf

from vorn.cli import exit_status, explain
from vorn.fanout import Job
from vorn.processes import FAILED, TERMINATION, Rank


def main() -> int:
    """Do the job; the exit status of the process."""
    TERMINATION.install()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job: Job = pickle.load(sys.stdin.buffer)
    Thread(target=_end_with_the_launcher, daemon=True).start()
    rank = Rank.of(os.environ)
    try:
        from vorn.run import evaluate

        return evaluate(OmegaConf.create(job.config), job.plan, job.out_dir)
    except (KeyboardInterrupt, SystemExit) as stop:
        return exit_status(stop)
    except Exception as error:
        job.note.write_text(explain(error, is_heard=rank.is_first))
        return FAILED


def _end_with_the_launcher() -> None:
    """End as after SIGTERM when the process that started this one is gone: nobody would wait for the outcome."""
    # Past Python's buffer, whose lock a thread that still reads would hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
