"""What panels, policies and contracts cost, in units of one plain prefill of the same process.

A random Mistral reads a random prompt. Every case runs once per round, so that a slow moment of the machine hits all of
them alike; times are medians over rounds, on the wall and of the processor (all threads; what sharing the machine
leaves nearly alone). `--sections` names what is measured: `panels`; `policies`, each with one prefill with its capture,
its scores and the selection of one cell; `contracts`, each with all that it does for a few cells of one prompt. Memory,
of panels alone, is the growth of the peak resident set over that of a plain prefill, each case in a process of its own,
because a peak never falls again.

`--memory-tokens 2048 4096 8192 16384` measures no time, but the memory that one panel takes at each length,
over that of the model, and how much of it a further token costs. `--window` gives the model a sliding window, and
`--chunk-tokens` reads the prompt in chunks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields

import torch

from vorn.bench import measures
from vorn.bench.configured import contract_cases, policy_cases
from vorn.bench.engine import Bench, Cases, Sizes

SECTIONS: dict[str, Callable[[Bench], Cases]] = {
    "panels": Bench.cases,
    "policies": policy_cases,
    "contracts": contract_cases,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints a table and, as the last line, everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in fields(Sizes):
        parser.add_argument(f"--{option.name.replace('_', '-')}", type=int, default=option.default)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--memory-tokens", type=int, nargs="+", metavar="TOKENS")
    given = vars(parser.parse_args(arguments))
    lengths, sections = given.pop("memory_tokens"), given.pop("sections")
    sizes = Sizes(**given)
    if lengths:
        measures.print_memory(sizes, lengths)
        return
    bench = Bench(sizes)
    cases: Cases = {"plain_prefill": bench.plain_prefill}
    for section in sections:
        cases |= SECTIONS[section](bench)
    taken = measures.times(cases, sizes.rounds)
    growth = measures.memory(sizes, [name for name in bench.cases() if name in cases]) if "panels" in sections else {}
    _print(bench, taken, growth)


def _print(bench: Bench, taken: Mapping[str, measures.Seconds], growth: Mapping[str, int]) -> None:
    """The table, and everything as JSON."""
    unit = taken["plain_prefill"]
    wall = {name: seconds.wall / unit.wall for name, seconds in taken.items()}
    processor = {name: seconds.processor / unit.processor for name, seconds in taken.items()}
    parameters = sum(weight.numel() for weight in bench.model.parameters())
    print(
        f"{parameters / 1e6:.1f}M parameters, {bench.sizes.tokens} tokens, {torch.get_num_threads()} threads;", end=" "
    )
    print(f"1 = one plain prefill = {unit.wall:.3f} s")
    width = max(map(len, taken))
    print(f"{'case':{width}} {'wall':>8} {'processor':>10} {'peak MiB over plain':>20}")
    for name in taken:
        memory = f"{growth[name] / 2**20:.1f}" if name in growth else ""
        print(f"{name:{width}} {wall[name]:8.2f} {processor[name]:10.2f} {memory:>20}".rstrip())
    result = {
        "sizes": asdict(bench.sizes),
        "threads": torch.get_num_threads(),
        "plain_prefill_s": unit.wall,
        "wall_prefills": wall,
        "processor_prefills": processor,
        "peak_growth_bytes": growth,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
