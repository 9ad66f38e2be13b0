"""The model and the prompt of the benchmark, and panels that are put together by hand, without a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

Cases = dict[str, Callable[[], object]]

RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=3)
SENTENCE_TOKENS = 20
VORN = Vorn(layer=None, window=16, direction="mean")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, the prompt and the panel; each is a flag."""

    tokens: int = 2048
    new_tokens: int = 16
    cells: int = 12
    contract_cells: int = 4  # of each contract, an even number
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
            max_position_embeddings=4 * (sizes.tokens + sizes.new_tokens) + 1024,  # summaries take more than the prompt
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="sdpa",
        )
        self.sizes = sizes
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            self.model: PreTrainedModel = MistralForCausalLM(config).eval().requires_grad_(False)
            self.ids = torch.randint(sizes.vocab, (1, sizes.tokens))

    def cases(self) -> Cases:
        """What is timed of panels, by name; the first is the unit."""
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
        return self.read(_needs(cells, self.model))

    def read(self, needs: frozenset[Signal]) -> Prefill:
        """One prefill that captures these signals."""
        chunk_tokens, room = self.sizes.chunk_tokens or None, self.sizes.new_tokens
        return prefill(self.model, self.ids, needs, chunk_tokens=chunk_tokens, room=room, seed=0)

    @torch.inference_mode()
    def panel(self, cells: Sequence[Cell], with_full: bool) -> Decoding:
        """One prefill, every cell's kept positions, and all of them decoded together."""
        read = self.read(_needs(cells, self.model))
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
