"""What scorers see of a prefill. A signal names what must be captured and brings the accumulator that collects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from vorn.kv.rotary import Rotation
from vorn.records import BadInput, digest

# Rows of attention scored at a time by `ColumnSums`: few enough that a block stays in the processor's cache.
BLOCK_ROWS = 64


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder that scorers and signals need.

    Attributes:
        layers: L, those with attention.
        query_heads: H.
        kv_heads: Hkv, the most of any layer; query head h reads KV head h // (H // Hkv).
        cache_of: index of the cache that each layer reads; None: every layer has its own.
        heads_of: KV heads of each cache; None: `kv_heads`.
        attends: decoder layer of each layer with attention; None: all decoder layers have attention.
        decoder_layers: how many there are, with attention or without; None: `layers`.
    """

    layers: int
    query_heads: int
    kv_heads: int
    cache_of: tuple[int, ...] | None = None
    heads_of: tuple[int, ...] | None = None
    attends: tuple[int, ...] | None = None
    decoder_layers: int | None = None

    @property
    def depth(self) -> int:
        """Number of decoder layers."""
        return self.decoder_layers or self.layers

    def decoder_layer(self, layer: int) -> int:
        """Which decoder layer a layer with attention is."""
        return layer if self.attends is None else self.attends[layer]

    @property
    def caches(self) -> int:
        """How many caches there are: fewer than layers where layers share one."""
        return self.layers if self.cache_of is None else max(self.cache_of) + 1

    def cache(self, layer: int) -> int:
        """Index of the cache that a layer reads."""
        return layer if self.cache_of is None else self.cache_of[layer]

    def per_cache(self, scores: Tensor) -> Tensor:
        """Scores of cached entries, [1 or caches, 1 or Hkv, T], from those of layers, [1 or L, 1 or Hkv, T].

        An entry that several layers read gets the mean of their scores, as one that several query heads read does.
        Where a cache has fewer heads than `kv_heads`, the rows that stand for one head get their mean likewise.
        """
        if scores.shape[0] > 1 and self.cache_of is not None:
            readers = [
                [layer for layer, index in enumerate(self.cache_of) if index == cache] for cache in range(self.caches)
            ]
            scores = torch.stack([scores[layers].mean(dim=0) for layers in readers])
        if scores.shape[1] > 1 and self.heads_of is not None:
            scores = scores.expand(len(self.heads_of), -1, -1)
            rows = zip(scores, self.heads_of, strict=True)
            scores = torch.stack(
                [
                    layer.unflatten(0, (heads, -1)).mean(dim=1).repeat_interleave(self.kv_heads // heads, dim=0)
                    for layer, heads in rows
                ]
            )
        return scores


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention during prefill, over the whole prompt or one chunk of it.

    Attributes:
        query: [1, H, q, D], after RoPE and any query norm.
        key: [1, Hkv, k, D], after RoPE; all keys so far, KV heads not repeated.
        value: [1, Hkv, k, Dv], likewise.
        scaling: factor on the dot products.
        softcap: s becomes softcap * tanh(s / softcap) before the softmax; None for none.
        sliding_window: a query sees this many positions, itself included; None for all.
        first_query: place of query row 0 among the tokens that are read; windows are counted in places.
        first_key: place of key column 0.
        rotation: what turned the layer's queries and keys by their positions.
        turned_by: [q] the positions that the queries were turned by; other than their places among the tokens where
            tokens have been left out.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float
    softcap: float | None
    sliding_window: int | None
    first_query: int
    first_key: int
    rotation: Rotation
    turned_by: Tensor


class Accumulator(Protocol):
    """Collects one signal while the prompt is read, chunk after chunk; `residual_layers` are those it must see."""

    residual_layers: frozenset[int]

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        """Called for every layer of every chunk, before the layer's attention runs."""

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        """Called after each layer in `residual_layers` with its output [1, q, D], of positions `first` onwards."""

    def result(self) -> Tensor:
        """The signal over the whole prompt."""


class Signal(Protocol):
    """What must be captured; frozen and hashable, so that equal needs of several scorers are captured once."""

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """A fresh accumulator for one prompt."""


def attention_rows(call: AttentionCall, start: int, stop: int) -> tuple[Tensor, int]:
    """Attention weights of query rows `start` to `stop` over all the keys that any of them can see.

    Returns: weights [Hkv, group, rows, columns] float32, each row summing to 1; and the column of `call.key` at which
        they begin. Products are taken in the model's dtype and the softmax in float32, as in the eager forward.
    """
    key = call.key[0]
    rows = stop - start
    offset = call.first_query - call.first_key  # of query row i, the own key stands in column i + offset
    end = stop + offset
    begin = 0 if call.sliding_window is None else max(0, start + offset - call.sliding_window + 1)
    query = call.query[0, :, start:stop] * call.scaling
    query = query.reshape(key.shape[0], -1, query.shape[-1])  # [Hkv, group * rows, D]
    scores = (query @ key[:, begin:end].transpose(1, 2)).view(key.shape[0], -1, rows, end - begin)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if rows > 1:
        future = torch.ones(rows, rows, dtype=torch.bool, device=key.device).triu_(1)
        scores[..., -rows:].masked_fill_(future, -torch.inf)
    if call.sliding_window is not None and (passed := end - begin - call.sliding_window) > 0:
        # Row r (from the last, row rows - 1) has left behind the columns more than a window before its own.
        first_seen = torch.arange(rows, device=key.device) + passed - rows + 1
        left_behind = torch.arange(passed, device=key.device) < first_seen[:, None]
        scores[..., :passed].masked_fill_(left_behind, -torch.inf)
    return torch.softmax(scores, dim=-1, dtype=torch.float32), begin


@dataclass(frozen=True)
class Residual:
    """The residual stream after decoder layer `layer` (0-based), [T, D] in the model's dtype."""

    layer: int

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return _ResidualAccumulator(self.layer)


class _ResidualAccumulator:
    def __init__(self, layer: int) -> None:
        self.residual_layers = frozenset({layer})
        self.chunks: list[Tensor] = []

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        pass

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        if layer in self.residual_layers:
            self.chunks.append(hidden[0])

    def result(self) -> Tensor:
        return self.chunks[0] if len(self.chunks) == 1 else torch.cat(self.chunks)


@dataclass(frozen=True)
class LastAttention:
    """Attention of the last `queries` prompt tokens, summed over them, every layer and query head: [L, H, T] float32.

    In a prompt of fewer tokens it is the attention of all of them.
    """

    queries: int = 1

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return AttentionAccumulator(shape, prompt_tokens, partial(_last_rows, self.queries))


@dataclass(frozen=True)
class ColumnSums:
    """Attention that each position gets from all prompt tokens, every layer and query head: [L, H, T] float32.

    The scores are computed again beside the forward, in blocks of rows: no T x T matrix is held.
    """

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return AttentionAccumulator(shape, prompt_tokens, _column_sums)


# What a chunk adds to the [T] totals of a layer: (weights [Hkv, group, columns] float32, position of column 0).
ChunkMass = Callable[[AttentionCall, int], Iterator[tuple[Tensor, int]]]


def _last_rows(queries: int, call: AttentionCall, prompt_tokens: int) -> Iterator[tuple[Tensor, int]]:
    rows = call.query.shape[2]
    for start in range(max(0, prompt_tokens - queries - call.first_query), rows, BLOCK_ROWS):
        weights, begin = attention_rows(call, start, min(start + BLOCK_ROWS, rows))
        yield weights.sum(dim=2), call.first_key + begin


def _column_sums(call: AttentionCall, prompt_tokens: int) -> Iterator[tuple[Tensor, int]]:
    rows = call.query.shape[2]
    for start in range(0, rows, BLOCK_ROWS):
        weights, begin = attention_rows(call, start, min(start + BLOCK_ROWS, rows))
        yield weights.sum(dim=2), call.first_key + begin


class AttentionAccumulator:
    """Sums what `mass` gives of each call: [L, H, T] float32, from `before` [L, H, n] on where that is given."""

    residual_layers: frozenset[int] = frozenset()

    def __init__(self, shape: ModelShape, prompt_tokens: int, mass: ChunkMass, before: Tensor | None = None) -> None:
        self.before = before
        self.shape = shape
        self.prompt_tokens = prompt_tokens
        self.mass = mass
        self.total: Tensor | None = None

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        """Adds what the call gives."""
        if self.total is None:
            size = (self.shape.layers, self.shape.query_heads, self.prompt_tokens)
            self.total = torch.zeros(size, dtype=torch.float32, device=call.query.device)
            if self.before is not None:
                self.total[..., : self.before.shape[-1]] = self.before
        for weights, first in self.mass(call, self.prompt_tokens):
            self.total[layer, :, first : first + weights.shape[-1]] += weights.flatten(0, 1).to(self.total.device)

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        """Never called."""

    def result(self) -> Tensor:
        """The sums."""
        if self.total is None:
            raise RuntimeError("no attention was captured: the model's attention did not go through the override")
        return self.total


class Scorer(Protocol):
    """An eviction policy's formula; frozen and hashable, so that its scores are shared by all its cells."""

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Signals that must be captured. Raises BadInput if a parameter does not fit the model."""

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1 or L, 1 or Hkv, T] float32; higher means keep."""


@dataclass(frozen=True)
class Step:
    """Where a cell stands, for contracts that score at each decode step and policies that ask.

    Attributes:
        text: the fixture's prompt, without a chat template.
        positions: absolute positions of the tokens that are scored, ascending.
        budget_tokens: how many may stay, guards included.
        sinks: first of them that stay.
        recent: last of them that stay.
    """

    text: str
    positions: tuple[int, ...]
    budget_tokens: int
    sinks: int
    recent: int


@dataclass(frozen=True)
class PrefillSignals(Mapping[Signal, Tensor]):
    """The captured signals of one prompt.

    Attributes:
        captured: each declared signal's tensor.
        prompt_tokens: T.
        shape: the model's sizes.
        seed: integer of this fixture, for policies that draw.
        device: where the tensors are.
        evidence: positions of the tokens that a reader needs for the answer, for cells that explain a loss.
        step: of a contract that scores at each decode step; None for the prompt that all cells share.
    """

    captured: Mapping[Signal, Tensor]
    prompt_tokens: int
    shape: ModelShape
    seed: int
    device: torch.device
    evidence: tuple[int, ...] = ()
    step: Step | None = None
    _scores: dict[Scorer, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, signal: Signal) -> Tensor:
        if signal not in self.captured:
            raise BadInput(
                f"signal {signal} was not captured in this prefill, which has {sorted(map(str, self.captured))}; "
                "declare it in the scorer's needs()"
            )
        return self.captured[signal]

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.captured)

    def __len__(self) -> int:
        return len(self.captured)

    def scores(self, scorer: Scorer) -> Tensor:
        """The scorer's scores per cache, computed once per fixture and shared by all its units and budgets."""
        if scorer not in self._scores:
            self._scores[scorer] = self.shape.per_cache(scorer(self))
        return self._scores[scorer]


def fixture_seed(fixture_id: str) -> int:
    """A fixture's own seed, the same in every process: 63 bits of the hash of its id."""
    return int(digest(fixture_id), 16) >> 1
