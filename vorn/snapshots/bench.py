"""What an operation of the pool costs as slots grow: `python -m vorn.snapshots.bench`.

Conversations take turns: each operation is a lookup, or an insertion into a full pool, which evicts. Policies run one
after another in each round, so that a slow moment of the machine does not hit one alone; times are of the processor,
the least of the rounds, since noise only adds. Every policy that needs no future is there; the last column is the
growth from the smallest pool to the largest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
    "forecast_winner": Forecast("winner"),
    "tail_pin": TailPin("improving", 8),
    "two_tier": TwoTier("improving"),
    "tail_protect": TailProtect("improving"),
    "session_lru": SessionLru("winner"),
    "tail_lease": TailLease("winner", 64, sibling=True),
    "marconi(alpha=0)": Marconi("winner", 0.0),
    "marconi": Marconi("winner", 1.0),
    "path_cap": PathCap("winner", 3),
    "coverage": Coverage("winner"),
}
TURN_TOKENS, TURNS = 64, 8


def conversations(slots: int) -> list[Path]:
    """As many as ask for twice the snapshots that there is room for."""
    talks = max(2, slots // 4)
    return [Path.of(*((f"{talk}-{turn}", TURN_TOKENS) for turn in range(TURNS))) for talk in range(talks)]


def seconds_per_operation(rule: Rule, slots: int, paths: Sequence[Path], operations: int) -> float:
    """Mean processor time of an operation on a full pool; half of the operations are lookups."""
    index = SnapshotIndex(rule, Capacity(slots), "swap", Setting(lambda start, end: end - start, tuple))
    talks = len(paths)
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
    for slots in sorted(chosen.slots):
        paths = conversations(slots)
        for _ in range(chosen.rounds):
            for name, rule in RULES.items():
                found = seconds_per_operation(rule, slots, paths, chosen.operations)
                table[name][slots] = min(found, table[name].get(slots, found))
    print(f"microseconds of processor time per operation; {chosen.operations} operations, least of {chosen.rounds}")
    print(f"| policy | {' | '.join(f'{slots:,}' for slots in sorted(chosen.slots))} | growth |")
    print("|---|" + "---:|" * (len(chosen.slots) + 1))
    for name, row in table.items():
        times = list(row.values())
        print(f"| {name} | {' | '.join(f'{1e6 * one:.1f}' for one in times)} | {times[-1] / times[0]:.1f} |")
    print(json.dumps({"operations": chosen.operations, "seconds_per_operation": table}))


if __name__ == "__main__":
    main()
