"""Cases made of the configuration: every policy and every contract that has a file in conf/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

from hydra import compose, initialize_config_module

from callbacks.pruning import KVPruning
from vorn.bench.engine import SENTENCE_TOKENS, Bench, Cases
from vorn.cells import CellSpec
from vorn.choices import conf_dirs, options
from vorn.data import WorkItem
from vorn.memory import Relief
from vorn.models.prompts import Prompt
from vorn.module import EvictionModule
from vorn.panel import plan_panel
from vorn.records import Fixture, Observation
from vorn.work import Pruned, Reading, read_prompt

QUESTION_TOKENS = 32
_EVALUATION = "bench"
Found = TypeVar("Found", Pruned, Observation)


@dataclass(frozen=True)
class Wordless:
    """Stands in for the tokenizer of a model that was never trained: no token means anything."""

    pad_token_id: int | None = None

    def decode(self, token_ids: Sequence[int], **_: object) -> str:
        """A letter and a space for each."""
        return "a " * len(token_ids)


class Panel:
    """Cells as a run would measure them on the benchmark's prompt."""

    def __init__(self, bench: Bench, cells: Sequence[CellSpec]) -> None:
        self.bench = bench
        self.cells = {cell.cell_id(_EVALUATION): cell for cell in cells}
        sizes = bench.sizes
        reading = Reading(
            evaluation_id=_EVALUATION,
            model="random",
            task="random",
            grade="ruler_all@1",
            max_new_tokens=sizes.new_tokens,
            max_cells=64,
            max_bytes=2**31,
            chunk_tokens=sizes.chunk_tokens or None,
        )
        tokenizer: object = Wordless()
        self.module = EvictionModule(bench.model, tokenizer, frozenset(), cells, reading, Relief((), (), 1.0))
        self.pruning = KVPruning(SimpleNamespace(cells=self.cells))  # type: ignore[arg-type]
        self.pruning.setup(None, self.module, "predict")
        text = _text(sizes.tokens)
        question_start = max(2, len(text) - 2 * QUESTION_TOKENS)
        fixture = Fixture(
            fixture_id="0", prompt=text, answer_prefix="", question_start=question_start, answers=("none",), evidence=()
        )
        render = partial(_prompt, bench)
        self.item = WorkItem(fixture, 0, render(fixture), "", tuple(self.cells), render)

    def prune(self) -> list[Pruned]:
        """One prefill with what the cells' policies capture, their scores, and what each cell keeps."""
        sizes, signals = self.bench.sizes, self.pruning.needs(list(self.cells))
        chunk_tokens = sizes.chunk_tokens or None
        read = read_prompt(self.bench.model, self.item, signals, room=sizes.new_tokens, chunk_tokens=chunk_tokens)
        return _sound(self.pruning.prune(self.cells, read, self.item.prompt))

    def measure(self) -> list[Observation]:
        """All that a run does for these cells and one fixture."""
        return _sound(self.module.predict_step(self.item))


def policy_cases(bench: Bench) -> Cases:
    """For each policy one prefill with its capture, its scores, and the selection of one cell of single tokens."""
    cells = planned("policy=all", "unit=[token]", f"budget=[{bench.sizes.budget}]")
    return {f"policy_{cell.policy}": Panel(bench, [cell]).prune for cell in cells}


def contract_cases(bench: Bench) -> Cases:
    """For each contract all that it does for some cells of one prompt: Vorn's and TOVA's, told apart by their sinks.

    Every time a new panel, so that a contract holds nothing of the round before.
    """
    sinks = ",".join(map(str, range(bench.sizes.contract_cells // 2)))
    guards, budget = f"guards.sinks=[{sinks}]", f"budget=[{bench.sizes.budget}]"
    found: Cases = {}
    for name in sorted(options("contract", conf_dirs())):
        cells = planned("policy=[vorn,tova]", "unit=[token]", guards, budget, f"contract=[{name}]")
        found[f"contract_{name}_{len(cells)}_cells"] = partial(_measured, bench, cells)
    return found


def _measured(bench: Bench, cells: Sequence[CellSpec]) -> list[Observation]:
    return Panel(bench, cells).measure()


def planned(*overrides: str) -> tuple[CellSpec, ...]:
    """The pruned cells of `python launch.py OVERRIDES`."""
    with initialize_config_module("conf", version_base="1.3"):
        return plan_panel(compose("config", list(overrides))).pruned


def _text(tokens: int) -> str:
    """A letter and a space for each token, a full stop for the last of each sentence."""
    return "".join(". " if token % SENTENCE_TOKENS == SENTENCE_TOKENS - 1 else "a " for token in range(tokens))


def _prompt(bench: Bench, fixture: Fixture) -> Prompt:
    """A text of which every two characters are a token; its ids are the benchmark's, from the first one on."""
    count = (len(fixture.prompt) + 1) // 2
    ids = (bench.ids[0].tolist() * (count // bench.sizes.tokens + 1))[:count]
    offsets = tuple((2 * token, 2 * token + 1) for token in range(count))
    return Prompt(fixture.prompt, tuple(ids), offsets, (count // 2,), fixture.question_start // 2)


def _sound(found: list[Found]) -> list[Found]:
    """Those that were measured. Raises: RuntimeError if one was not, whose time would mean nothing."""
    for one in found:
        if one.error is not None:
            raise RuntimeError(f"a case of the benchmark failed: {one.error}")
    return found
