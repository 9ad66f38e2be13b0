"""What a large ledger costs: `python -m vorn.bench.ledger`.

Observations of made-up outcomes are written by one writer, read, merged, tested and reported, in the processor's
seconds (which the file system's waiting does not enter; the wall's are beside them). The peak is that of the resident
set after each step, which never falls again.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, TypeVar

from vorn.ledger import LedgerWriter, merge
from vorn.records import Manifest, Observation
from vorn.report import build_report
from vorn.report.write import write_report
from vorn.segments import Follower
from vorn.stats import FAMILIES, TestPlan

Result = TypeVar("Result")
UNITS, BUDGETS = ("token", "word", "sentence"), (64, 128, 256)
PLAN = TestPlan(alpha=0.05, margin=0.02, discordance=0.2, families=FAMILIES, stop=None, split=None, seed=0)
MANIFEST = Manifest(
    evaluation_id="bench", created="", host="", pid=0, rank=0, config={}, versions={}, dtype="", device="",
    git_revision=None,
)  # fmt: skip
BLANK = Observation(
    cell_id="full", cell="full", evaluation_id="bench", fixture_id="", fixture_index=0, cluster="", fingerprint="",
    model="model", task="task", contract="prefill_once", policy="full", params="", unit="", guards="", budget="",
    budget_tokens=4096, replica_of="", grade="ruler_all@1", outcome=0.0, completion="", answer_graded="", answers=(),
    answer_nll=None, prompt_tokens=4096, kept_tokens=4096.0, evidence_tokens=30, evidence_kept=1.0, panel_prefill_s=1.0,
    prune_s=0.001, panel_decode_s=1.0, batch_rows=20, kv_bytes=1 << 28, peak_bytes=1 << 33,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """What one step took."""

    name: str
    processor_s: float
    wall_s: float
    peak_bytes: int


class Steps(list[Step]):
    """The steps that were taken, in order."""

    def take(self, name: str, step: Callable[[], Result]) -> Result:
        """Run a step and note what it took."""
        wall, processor = perf_counter(), process_time()
        result = step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.append(Step(name, process_time() - processor, perf_counter() - wall, peak))
        return result


def cells(count: int) -> list[Observation]:
    """The reference and policies at three units and three budgets each, `count` cells together."""
    found = [BLANK]
    settings = [(unit, budget) for unit in UNITS for budget in BUDGETS]
    for number in range(count - 1):
        policy, (unit, budget) = f"policy{number // len(settings)}", settings[number % len(settings)]
        label = f"{policy}/{unit}/{budget}"
        names: dict[str, Any] = {"cell_id": label, "cell": label, "policy": policy, "unit": unit, "guards": "matched"}
        found.append(replace(BLANK, **names, budget=str(budget), budget_tokens=budget, kept_tokens=float(budget)))
    return found


def blocks(fixtures: int, count: int) -> Iterator[list[Observation]]:
    """The observations of one fixture after another: the easier it is, the more cells hit it."""
    draw = random.Random(0)
    panel = [(one, draw.uniform(0.1, 0.9)) for one in cells(count)]
    for index in range(fixtures):
        name, ease = f"fixture{index}", draw.random()
        yield [
            replace(
                one,
                fixture_id=name,
                fixture_index=index,
                fingerprint=name,
                outcome=float(0.8 * ease + 0.2 * draw.random() < skill),
                completion=f" The special magic number is: {draw.randrange(10**7)}.",
                answer_graded=str(draw.randrange(10**7)),
                answers=(str(index),),
                prune_s=draw.random(),
            )
            for one, skill in panel
        ]


def measure(folder: Path, fixtures: int, count: int) -> Steps:
    """Write a ledger into `folder`, then do with it what `python -m vorn.report` does."""
    steps = Steps()
    writer = LedgerWriter(folder / "bench", lambda: MANIFEST)

    def write() -> None:
        for block in blocks(fixtures, count):
            writer.append(block)
        writer.close()

    steps.take("make and write", write)
    segments = steps.take("read", Follower(folder / "bench").new)
    contents = steps.take("merge", lambda: merge(segments))
    report = steps.take("test", lambda: build_report(contents, PLAN))
    steps.take("report", lambda: write_report(report, folder / "report"))
    return steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table and, as the last line, everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=100, help="the reference included")
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        steps = measure(Path(folder), chosen.fixtures, chosen.cells)
    observations = chosen.fixtures * chosen.cells
    print(f"{observations} observations: {chosen.fixtures} fixtures x {chosen.cells} cells")
    print(f"{'step':16} {'processor s':>12} {'wall s':>8} {'microseconds each':>18} {'peak MiB':>9}")
    for step in steps:
        each = f"{1e6 * step.processor_s / observations:18.2f}"
        print(f"{step.name:16} {step.processor_s:12.2f} {step.wall_s:8.2f} {each} {step.peak_bytes / 2**20:9.0f}")
    together = sum(step.processor_s for step in steps[1:])
    print(f"{'without writing':16} {together:12.2f} {sum(step.wall_s for step in steps[1:]):8.2f}")
    taken = {step.name: {"processor_s": step.processor_s, "peak_bytes": step.peak_bytes} for step in steps}
    print(json.dumps({"fixtures": chosen.fixtures, "cells": chosen.cells, "steps": taken}))


if __name__ == "__main__":
    main()
