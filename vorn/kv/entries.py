"""Signals of the cached entries themselves: what is stored, whatever attends to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vorn.kv.signals import Accumulator, AttentionCall, ModelShape


@dataclass(frozen=True)
class KeyNorms:
    """Euclidean norm of every key, after RoPE: [L, Hkv, T] float32."""

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return EntryAccumulator(shape, lambda call: new_keys(call).float().norm(dim=-1))


@dataclass(frozen=True)
class ValueNorms:
    """Euclidean norm of every value: [L, Hkv, T] float32."""

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return EntryAccumulator(shape, lambda call: call.value[0, :, -call.query.shape[2] :].float().norm(dim=-1))


@dataclass(frozen=True)
class KeyCosines:
    """Cosine of every key, after RoPE, with the mean of its head's unit keys: [L, Hkv, T] float32."""

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return EntryAccumulator(shape, new_keys, _cosines)


def new_keys(call: AttentionCall) -> Tensor:
    """The keys of the chunk's own tokens, [Hkv, q, D]: a view, so that holding it costs no memory."""
    return call.key[0, :, -call.query.shape[2] :]


def _cosines(keys: Tensor) -> Tensor:
    units = normalize(keys.float(), dim=-1)
    return (units @ normalize(units.mean(dim=1, keepdim=True), dim=-1).transpose(1, 2))[..., 0]


class EntryAccumulator:
    """Joins what `measure` takes from each chunk, [Hkv, q, ...], to [Hkv, T, ...], then `finish`es every layer."""

    residual_layers: frozenset[int] = frozenset()

    def __init__(
        self,
        shape: ModelShape,
        measure: Callable[[AttentionCall], Tensor],
        finish: Callable[[Tensor], Tensor] = lambda joined: joined,
    ) -> None:
        self.measure, self.finish, self.kv_heads = measure, finish, shape.kv_heads
        self.chunks: list[list[Tensor]] = [[] for _ in range(shape.layers)]

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        """Takes what a chunk adds to a layer."""
        self.chunks[layer].append(self.measure(call))

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        """Nothing: entries come from attention."""

    def result(self) -> Tensor:
        """[L, Hkv, T, ...]; where a layer has fewer heads than the others, each stands in several rows."""
        layers = [self.finish(torch.cat(chunks, dim=1)) for chunks in self.chunks]
        layers = [one.repeat_interleave(self.kv_heads // one.shape[0], dim=0) for one in layers]
        return torch.stack([one.to(layers[0].device) for one in layers])
