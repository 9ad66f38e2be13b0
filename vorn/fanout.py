"""Carries a job out in processes of its own: one per device, none of which takes the others or the sweep with it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vorn.panel import PanelPlan
from vorn.processes import DONE, FAILED, INTERRUPTED, NO_REPORT, TERMINATED, WITH_ERRORS, Ended
from vorn.records import BadInput
from vorn.sweeps import report_job

_REPORTED = (DONE, WITH_ERRORS, NO_REPORT)


@dataclass(frozen=True)
class Job:
    """What a worker is to do; it comes over its standard input, so that nothing is parsed or composed twice."""

    config: dict[str, Any]  # resolved
    plan: PanelPlan
    out_dir: Path
    note: Path  # where it says why it failed


def count_processes(cfg: DictConfig) -> int:
    """One per device that `trainer.devices` names. Raises: BadInput for a number, or GPUs, that there are not."""
    devices, accelerator = cfg.trainer.devices, cfg.trainer.accelerator
    if devices == 1:
        return 1
    named = list(devices) if OmegaConf.is_list(devices) else None
    is_count = isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1
    is_list = named is not None and len(named) > 0 and all(isinstance(one, int) and one >= 0 for one in named)
    if not (is_count or devices == "auto" or (is_list and len(set(named or ())) == len(named or ()))):
        raise BadInput(
            f"trainer.devices={devices} is not legal; give how many (2), auto for all GPUs, or which GPUs ([0,2])"
        )
    import torch  # a single process is not kept waiting for it

    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    if devices == "auto":
        return max(1, gpus)
    if gpus == 0 and named is not None:
        raise BadInput(f"trainer.devices={devices} names GPUs and there is none; on CPUs give a number of processes")
    if gpus and (max(named) >= gpus if named else devices > gpus):
        raise BadInput(f"trainer.devices={devices}: there are {gpus} GPUs here, numbered from 0; name some of them")
    cores = os.cpu_count() or 1
    if not gpus and devices > max(2, cores):
        raise BadInput(
            f"trainer.devices={devices}: each is a process with a model of its own, and there are {cores} cores and no "
            f"GPU here; give at most {max(2, cores)}"
        )
    return len(named) if named else int(devices)


def run_apart(cfg: DictConfig, plan: PanelPlan, out_dir: Path, processes: int) -> Ended:
    """Measure a panel in so many worker processes, and wait for them.

    A worker that dies leaves its fixture to the others. If the first one, which reports, does not end well, the report
    is made here, of whatever is measured.
    Raises: SystemExit if this process was interrupted or terminated; its workers then were too, and have ended.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    with TemporaryDirectory() as folder:
        notes = [Path(folder, str(rank)) for rank in range(processes)]
        workers: list[subprocess.Popen[bytes]] = []
        with _forwarding(workers) as received:
            for rank, note in enumerate(notes):
                workers.append(_start(Job(config, plan, out_dir, note), rank, processes))
            codes = [_wait(worker) for worker in workers]
        if received:
            if received[0] == signal.SIGINT:
                print("interrupted; the same command resumes", file=sys.stderr)
            raise SystemExit(INTERRUPTED if received[0] == signal.SIGINT else TERMINATED)
        reasons = {rank: _reason(code, notes[rank]) for rank, code in enumerate(codes) if code not in _REPORTED}
    for rank, why in reasons.items():
        if processes > 1 and (rank == 0 or why != reasons.get(0)):
            print(f"process {rank} of {processes} failed: {why}", file=sys.stderr)
    if codes[0] not in _REPORTED:
        report_job(out_dir)
    if reasons:
        said = "; ".join(f"process {rank}: {why}" if processes > 1 else why for rank, why in reasons.items())
        return Ended(FAILED, said)
    return Ended(codes[0])


def _start(job: Job, rank: int, processes: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OMP_NUM_THREADS": threads} | dict(os.environ) if processes > 1 else dict(os.environ)
    environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    worker = subprocess.Popen(
        # -P: the current folder may hold packages of the same names; the worker imports what this process would.
        [sys.executable, "-P", "-m", "vorn.worker"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        process_group=0,  # Ctrl-C in a terminal reaches this process alone, which passes it on once
    )
    if worker.stdin is None:
        raise RuntimeError("a worker has no standard input")
    try:
        pickle.dump(job, worker.stdin)
        worker.stdin.flush()  # and left open: its end tells the worker that this process is gone
    except BrokenPipeError:
        pass  # it died before it could read; its exit status says so
    return worker


def _wait(worker: subprocess.Popen[bytes]) -> int:
    with worker:  # closes its standard input afterwards
        return worker.wait()


@contextmanager
def _forwarding(workers: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Within, SIGTERM and SIGINT go to the workers; yields those that came. A thread cannot handle signals."""
    received: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signum)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {one: signal.signal(one, forward) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _reason(code: int, note: Path) -> str:
    if note.exists():
        return note.read_text()
    if code < 0:
        name = signal.Signals(-code).name
        more = " (out of memory? the kernel's log tells)" if name == "SIGKILL" else ""
        return f"ended by {name}{more}"
    return {INTERRUPTED: "interrupted", TERMINATED: "terminated"}.get(code, f"ended with exit status {code}")
