"""Signals of attention: what positions get from the queries of a prompt, computed beside the forward in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vorn.kv.signals import Accumulator, AttentionCall, ModelShape

# Rows of attention scored at a time where many are summed: few enough that a block stays in the processor's cache.
BLOCK_ROWS = 64


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
        return AttentionAccumulator(shape, prompt_tokens, partial(_last_rows, prompt_tokens))


# What a chunk adds to the [T] totals of a layer: (weights [Hkv, group, columns] float32, position of column 0).
ChunkMass = Callable[[AttentionCall, int], Iterator[tuple[Tensor, int]]]


def _last_rows(queries: int, call: AttentionCall, prompt_tokens: int) -> Iterator[tuple[Tensor, int]]:
    rows = call.query.shape[2]
    for start in range(max(0, prompt_tokens - queries - call.first_query), rows, BLOCK_ROWS):
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
