"""Times and memory of the benchmark's cases."""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from vorn.bench.engine import Bench, Cases, Sizes


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
    context = multiprocessing.get_context("spawn")
    growth = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            growth[name] = executor.submit(peak_growth_bytes, sizes, name).result()
    return growth


def peak_over_model_bytes(sizes: Sizes) -> int:
    """Growth of this process's peak resident set by one panel, over the model."""
    bench = Bench(sizes)
    before = _peak_bytes()
    bench.cases()["default_panel_with_h2o"]()
    return _peak_bytes() - before


def in_own_process(sizes: Sizes) -> int:
    """What `peak_over_model_bytes` finds in a fresh process, since a peak never falls again."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(peak_over_model_bytes, sizes).result()


def print_memory(sizes: Sizes, lengths: Sequence[int]) -> None:
    """One panel's memory at each length, as a table and as JSON."""
    peaks: dict[int, int] = {}
    print(f"{'tokens':>8} {'peak MiB over the model':>24} {'KiB per further token':>22}")
    for tokens in sorted(lengths):
        peak = in_own_process(replace(sizes, tokens=tokens))
        last = next(reversed(peaks), None)
        growth = "" if last is None else f"{(peak - peaks[last]) / (tokens - last) / 2**10:.1f}"
        peaks[tokens] = peak
        print(f"{tokens:8} {peak / 2**20:24.1f} {growth:>22}", flush=True)
    print(json.dumps({"sizes": asdict(sizes), "panel_peak_bytes": peaks}))
