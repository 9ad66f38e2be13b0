"""What an operation of the pool costs as slots grow: `python -m vorn.snapshots.bench`.

Conversations take turns: each operation is a lookup, or an insertion into a full pool, which evicts. Policies run one
after another in each round, so that a slow moment of the machine does not hit one alone; times are of the processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import median
from time import process_time

from vorn.snapshots.evictor import Rule, Setting
from vorn.snapshots.index import Capacity, SnapshotIndex
from vorn.snapshots.paths import Path
from vorn.snapshots.policies.coverage import Coverage
from vorn.snapshots.policies.fifo import Fifo
from vorn.snapshots.policies.forecast import Forecast
from vorn.snapshots.policies.lru import Lru
from vorn.snapshots.policies.marconi import Marconi
from vorn.snapshots.policies.path_cap import PathCap
from vorn.snapshots.policies.random import Random
from vorn.snapshots.policies.session_lru import SessionLru
from vorn.snapshots.policies.tail_lease import TailLease
from vorn.snapshots.policies.tail_pin import TailPin
from vorn.snapshots.policies.tail_protect import TailProtect
from vorn.snapshots.policies.two_tier import TwoTier

RULES: dict[str, Rule] = {
    "fifo": Fifo("none"),
    "random": Random("none", 0),
    "lru": Lru("winner"),
    "lru_path": Lru("path"),
    "forecast": Forecast("improving"),
    "tail_pin": TailPin("improving", 8),
    "two_tier": TwoTier("improving"),
    "tail_protect": TailProtect("improving"),
    "session_lru": SessionLru("winner"),
    "tail_lease": TailLease("winner", 64, sibling=True),
    "marconi(alpha=0)": Marconi("winner", 0.0),
    "path_cap": PathCap("winner", 3),
    "coverage": Coverage("winner"),
    "marconi(alpha=1)": Marconi("winner", 1.0),
}
TURN_TOKENS, TURNS = 64, 8


def seconds_per_operation(rule: Rule, slots: int, operations: int) -> float:
    """Mean processor time of an operation on a full pool; half of the operations are lookups."""
    index = SnapshotIndex(rule, Capacity(slots), "swap", Setting(lambda start, end: end - start, tuple))
    talks = max(2, slots // 4)  # twice as many snapshots are asked for as there is room
    paths = [Path.of(*((f"{talk}-{turn}", TURN_TOKENS) for turn in range(TURNS))) for talk in range(talks)]
    for number in range(slots):
        index.insert(paths[number % talks], 1 + number // talks, 1 + number % talks, "tail")
    steps = [(number * 7 % talks, number // talks % TURNS) for number in range(operations // 2)]
    start = process_time()
    for talk, turn in steps:
        if turn:
            index.lookup(paths[talk], turn * TURN_TOKENS, 1 + talk)
        index.insert(paths[talk], (turn + 1) * TURN_TOKENS, 1 + talk, "tail")
    return (process_time() - start) / (2 * len(steps))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table and, as the last line, everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 256, 4096, 65536], help="sizes of the pool")
    parser.add_argument("--operations", type=int, default=100_000, help="per policy and size")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    table: dict[str, dict[int, float]] = {name: {} for name in RULES}
    for slots in chosen.slots:
        times: dict[str, list[float]] = {name: [] for name in RULES}
        for _ in range(chosen.rounds):
            for name, rule in RULES.items():
                times[name].append(seconds_per_operation(rule, slots, chosen.operations))
        for name, found in times.items():
            table[name][slots] = median(found)
    print(f"microseconds per operation, and over the smallest pool; {chosen.operations} operations")
    print(f"{'policy':18}" + "".join(f"{slots:>18}" for slots in chosen.slots))
    for name, row in table.items():
        first = row[chosen.slots[0]]
        print(f"{name:18}" + "".join(f"{1e6 * one:10.1f} ({one / first:5.2f})" for one in row.values()))
    print(json.dumps({"operations": chosen.operations, "seconds_per_operation": table}))


if __name__ == "__main__":
    main()
