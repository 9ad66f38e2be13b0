"""Times and memory of the benchmark's cases."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import ParamSpec, TypeVar

from vorn.bench.engine import Bench, Cases, Sizes

P = ParamSpec("P")
Found = TypeVar("Found")
_THRESHOLD = "MALLOC_MMAP_THRESHOLD_"  # bytes from which glibc's malloc gives a freed block back to the system


@dataclass(frozen=True)
class Seconds:
    """Median time of a case."""

    wall: float
    processor: float


def times(cases: Cases, rounds_timed: int) -> dict[str, Seconds]:
    """Every case, interleaved round by round after one warm-up round."""
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for round_index in range(-1, rounds_timed):
        for name, case in cases.items():
            wall, processor = perf_counter(), process_time()
            case()
            if round_index >= 0:
                rounds[name].append((perf_counter() - wall, process_time() - processor))
    return {name: Seconds(*map(median, zip(*taken, strict=True))) for name, taken in rounds.items()}


def _peak_bytes() -> int:
    """Peak resident set of this process."""
    if sys.platform == "linux":
        # Not `ru_maxrss`, in which Linux carries over the peak of the process that spawned this one.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def peak_growth_bytes(sizes: Sizes, name: str) -> int:
    """Growth of this process's peak resident set by one run of a case, after plain prefills."""
    bench = Bench(sizes)
    cases = bench.cases()
    for _ in range(2):
        bench.plain_prefill()
    before = _peak_bytes()
    cases[name]()
    return _peak_bytes() - before


def memory(sizes: Sizes, names: Sequence[str]) -> dict[str, int]:
    """Growth of the peak by each case, in a process of its own."""
    return {name: in_own_process(peak_growth_bytes, sizes, name) for name in names}


def peak_over_model_bytes(sizes: Sizes) -> int:
    """Growth of this process's peak resident set by one panel, over the model."""
    bench = Bench(sizes)
    before = _peak_bytes()
    bench.cases()["default_panel_with_h2o"]()
    return _peak_bytes() - before


def in_own_process(measure: Callable[P, Found], *args: P.args, **kwargs: P.kwargs) -> Found:
    """What `measure` finds in a fresh process, since a peak never falls again."""
    before = os.environ.get(_THRESHOLD)
    # Left alone, glibc raises this size with what is freed and keeps blocks below it, so that peaks vary by tens of MiB
    # from run to run; it reads the variable when a process starts.
    os.environ[_THRESHOLD] = str(2**20)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            return executor.submit(measure, *args, **kwargs).result()
    finally:
        del os.environ[_THRESHOLD]
        if before is not None:
            os.environ[_THRESHOLD] = before


def print_memory(sizes: Sizes, lengths: Sequence[int]) -> None:
    """One panel's memory at each length, as a table and as JSON."""
    peaks: dict[int, int] = {}
    print(f"{'tokens':>8} {'peak MiB over the model':>24} {'KiB per further token':>22}")
    for tokens in sorted(lengths):
        peak = in_own_process(peak_over_model_bytes, replace(sizes, tokens=tokens))
        last = next(reversed(peaks), None)
        growth = "" if last is None else f"{(peak - peaks[last]) / (tokens - last) / 2**10:.1f}"
        peaks[tokens] = peak
        print(f"{tokens:8} {peak / 2**20:24.1f} {growth:>22}", flush=True)
    print(json.dumps({"sizes": asdict(sizes), "panel_peak_bytes": peaks}))
