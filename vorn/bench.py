"""What a panel costs, in units of one plain prefill of the same process: `python -m vorn.bench`.

A random Mistral reads a random prompt. Every case runs once per round, so that a slow moment of the machine hits all of
them alike; times are medians over rounds, on the wall and of the processor (all threads; what sharing the machine
leaves nearly alone). Memory is the growth of the peak resident set over that of a plain prefill, each case in a process
of its own, because a peak never falls again.

`--memory-tokens 2048 4096 8192 16384` measures no time, but the memory that one panel takes at each length,
over that of the model, and how much of it a further token costs. `--window` gives the model a sliding window, and
`--chunk-tokens` reads the prompt in chunks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, MistralConfig, MistralForCausalLM, PreTrainedModel

from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.layout import model_shape
from vorn.kv.policy import CellPolicy
from vorn.kv.scorers.h2o import H2O
from vorn.kv.scorers.random import Random
from vorn.kv.scorers.sink_recent import SinkRecent
from vorn.kv.scorers.tova import Tova
from vorn.kv.scorers.vorn import Vorn
from vorn.kv.signals import Scorer, Signal
from vorn.kv.units import Sentences, Tokens, Unit, UnitRule

RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=3)
SENTENCE_TOKENS = 20
VORN = Vorn(layer=None, window=16, direction="mean")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, the prompt and the panel; each is a flag."""

    tokens: int = 2048
    new_tokens: int = 16
    cells: int = 12
    budget: int = 256
    hidden: int = 512
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    vocab: int = 4096
    rounds: int = 5
    window: int = 0  # positions that a query sees; 0: all
    chunk_tokens: int = 0  # of a prefill; 0: the whole prompt in one forward


@dataclass(frozen=True)
class Cell:
    """One pruned cell of a panel."""

    policy: CellPolicy
    budget: int
    sinks: int
    recent: int


class Bench:
    """The model, the prompt, and the cases that are compared."""

    def __init__(self, sizes: Sizes) -> None:
        # A Mistral with no window is a Llama.
        config = MistralConfig(
            sliding_window=sizes.window or None,
            vocab_size=sizes.vocab,
            hidden_size=sizes.hidden,
            intermediate_size=3 * sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.kv_heads,
            max_position_embeddings=sizes.tokens + sizes.new_tokens,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="sdpa",
        )
        self.sizes = sizes
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.model: PreTrainedModel = MistralForCausalLM(config).eval().requires_grad_(False)
            self.ids = torch.randint(sizes.vocab, (1, sizes.tokens))

    def cases(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name; the first is the unit."""
        cells = _equal_cells(self.sizes)
        return {
            "plain_prefill": self.plain_prefill,
            "capture_vorn_tova": lambda: self.prefill(cells),
            f"panel_{len(cells)}_cells_and_full": lambda: self.panel(cells, with_full=True),
            "same_one_cell_at_a_time": lambda: self.one_at_a_time(cells),
            "default_panel_with_h2o": lambda: self.panel(_default_cells(self.sizes), with_full=True),
            "generate": self.generate,
        }

    @torch.inference_mode()
    def plain_prefill(self) -> Tensor:
        """An ordinary SDPA forward with transformers' own cache."""
        logits: Tensor = self.model(self.ids, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1).logits
        return logits

    @torch.inference_mode()
    def generate(self) -> Tensor:
        """Greedy decoding by transformers."""
        length = self.sizes.new_tokens
        config = GenerationConfig(max_new_tokens=length, min_new_tokens=length, do_sample=False, pad_token_id=0)
        tokens: Tensor = self.model.generate(
            self.ids, attention_mask=torch.ones_like(self.ids), generation_config=config
        )
        return tokens

    def prefill(self, cells: Sequence[Cell]) -> object:
        """One prefill that captures what the cells need."""
        needs = _needs(cells, self.model)
        return self._read(needs)

    def _read(self, needs: frozenset[Signal]) -> Prefill:
        chunk_tokens, room = self.sizes.chunk_tokens or None, self.sizes.new_tokens
        return prefill(self.model, self.ids, needs, chunk_tokens=chunk_tokens, room=room, seed=0)

    @torch.inference_mode()
    def panel(self, cells: Sequence[Cell], with_full: bool) -> Decoding:
        """One prefill, every cell's kept positions, and all of them decoded together."""
        read = self._read(_needs(cells, self.model))
        branches = []
        for cell in cells:
            shared = cell.policy.unit.shared
            ids = [token // SENTENCE_TOKENS if shared else token for token in range(self.sizes.tokens)]
            kept = cell.policy.keep(read.signals, ids, cell.budget, sinks=cell.sinks, recent=cell.recent)
            branches.append(Branch(kept))
        return decode(
            self.model,
            read,
            [*branches, Branch(None)] if with_full else branches,
            first_token="refeed",
            last_token=int(self.ids[0, -1]),
            max_new_tokens=self.sizes.new_tokens,
            eos_ids=frozenset(),
            pad_id=None,
            max_cells=64,
            max_bytes=2**31,
        )

    def one_at_a_time(self, cells: Sequence[Cell]) -> None:
        """Every cell, and `full`, with a prefill of its own."""
        for cell in cells:
            self.panel([cell], with_full=False)
        self.panel([], with_full=True)


def _needs(cells: Sequence[Cell], model: PreTrainedModel) -> frozenset[Signal]:
    shape = model_shape(model)
    return frozenset[Signal]().union(*(cell.policy.needs(shape) for cell in cells))


def _equal_cells(sizes: Sizes) -> list[Cell]:
    """Vorn and TOVA at one budget, told apart by their sinks."""
    scorers: tuple[Scorer, ...] = (VORN, Tova())
    policies = [CellPolicy(scorer, Tokens(), RULE) for scorer in scorers]
    return [Cell(policies[index % 2], sizes.budget, index // 2, 16) for index in range(sizes.cells)]


def _default_cells(sizes: Sizes) -> list[Cell]:
    """Five policies, token and sentence units, two budgets."""
    scorers: tuple[Scorer, ...] = (VORN, Tova(), H2O(), SinkRecent(sinks=4), Random(seed=0))
    units: tuple[Unit, ...] = (Tokens(), Sentences("rules"))
    return [
        Cell(CellPolicy(scorer, unit, RULE), budget, 4, 16)
        for scorer in scorers
        for unit in units
        for budget in (sizes.budget // 2, sizes.budget)
    ]


@dataclass(frozen=True)
class Seconds:
    """Median time of a case."""

    wall: float
    processor: float


def _times(bench: Bench) -> dict[str, Seconds]:
    """Every case, interleaved round by round after one warm-up round."""
    cases = bench.cases()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for round_index in range(-1, bench.sizes.rounds):
        for name, case in cases.items():
            wall, processor = perf_counter(), process_time()
            case()
            if round_index >= 0:
                rounds[name].append((perf_counter() - wall, process_time() - processor))
    return {name: Seconds(*map(median, zip(*times, strict=True))) for name, times in rounds.items()}


def _peak_bytes() -> int:
    """Peak resident set of this process."""
    if sys.platform == "linux":
        # Not `ru_maxrss`, in which Linux carries over the peak of the process that spawned this one.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _peak_growth_bytes(sizes: Sizes, name: str) -> int:
    """Growth of this process's peak resident set by one run of a case, after plain prefills."""
    bench = Bench(sizes)
    cases = bench.cases()
    for _ in range(2):
        bench.plain_prefill()
    before = _peak_bytes()
    cases[name]()
    return _peak_bytes() - before


def _memory(sizes: Sizes, names: Sequence[str]) -> dict[str, int]:
    context = multiprocessing.get_context("spawn")
    growth = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            growth[name] = executor.submit(_peak_growth_bytes, sizes, name).result()
    return growth


def _peak_over_model_bytes(sizes: Sizes) -> int:
    """Growth of this process's peak resident set by one panel, over the model."""
    bench = Bench(sizes)
    before = _peak_bytes()
    bench.cases()["default_panel_with_h2o"]()
    return _peak_bytes() - before


def _in_own_process(sizes: Sizes) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_peak_over_model_bytes, sizes).result()


def _print_memory(sizes: Sizes, lengths: Sequence[int]) -> None:
    peaks: dict[int, int] = {}
    print(f"{'tokens':>8} {'peak MiB over the model':>24} {'KiB per further token':>22}")
    for tokens in sorted(lengths):
        peak = _in_own_process(replace(sizes, tokens=tokens))
        last = next(reversed(peaks), None)
        growth = "" if last is None else f"{(peak - peaks[last]) / (tokens - last) / 2**10:.1f}"
        peaks[tokens] = peak
        print(f"{tokens:8} {peak / 2**20:24.1f} {growth:>22}", flush=True)
    print(json.dumps({"sizes": asdict(sizes), "panel_peak_bytes": peaks}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints a table and, as the last line, everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in fields(Sizes):
        parser.add_argument(f"--{option.name.replace('_', '-')}", type=int, default=option.default)
    parser.add_argument("--memory-tokens", type=int, nargs="+", metavar="TOKENS")
    given = vars(parser.parse_args(arguments))
    lengths = given.pop("memory_tokens")
    sizes = Sizes(**given)
    if lengths:
        _print_memory(sizes, lengths)
        return
    bench = Bench(sizes)
    times = _times(bench)
    growth = _memory(sizes, list(times))
    unit = times["plain_prefill"]
    parameters = sum(weight.numel() for weight in bench.model.parameters())
    print(f"{parameters / 1e6:.1f}M parameters, {sizes.tokens} tokens, {torch.get_num_threads()} threads;", end=" ")
    print(f"1 = one plain prefill = {unit.wall:.3f} s")
    print(f"{'case':32} {'wall':>8} {'processor':>10} {'peak MiB over plain':>20}")
    for name, seconds in times.items():
        ratios = f"{seconds.wall / unit.wall:8.2f} {seconds.processor / unit.processor:10.2f}"
        print(f"{name:32} {ratios} {growth[name] / 2**20:20.1f}")
    result = {
        "sizes": asdict(sizes),
        "threads": torch.get_num_threads(),
        "plain_prefill_s": unit.wall,
        "wall_prefills": {name: seconds.wall / unit.wall for name, seconds in times.items()},
        "processor_prefills": {name: seconds.processor / unit.processor for name, seconds in times.items()},
        "peak_growth_bytes": growth,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
