"""What scorers see of a prefill. A signal names what must be captured and brings the accumulator that collects it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vorn.kv.rotary import Rotation
from vorn.records import BadInput, digest


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
        self.chunks.append(hidden[0])

    def result(self) -> Tensor:
        return self.chunks[0] if len(self.chunks) == 1 else torch.cat(self.chunks)


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
