"""Signals that grow over decode steps, for contracts that score at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vorn.kv.signals import Accumulator, AttentionCall, ModelShape, attention_rows


@runtime_checkable
class Growing(Protocol):
    """A signal of all the steps so far, which is taken along when tokens are dropped and the rest is read again."""

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """A fresh accumulator for one prompt."""

    def resumed(self, shape: ModelShape, tokens: int, before: Tensor) -> Accumulator:
        """One for so many tokens, the first of which had `before` [..., n] when the step before was over."""


@dataclass(frozen=True)
class StepAttention:
    """Attention of the last token of every decode step so far, summed over the steps: [L, H, T] float32.

    A prompt is one step, so that after it this is the attention of its last token alone. A token that is new in a step
    begins at 0, and one that is dropped takes its sum with it.
    """

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Accumulator:
        """Collects it, for one prompt."""
        return _StepAccumulator(shape, prompt_tokens, prompt_tokens - 1, None)

    def resumed(self, shape: ModelShape, tokens: int, before: Tensor) -> Accumulator:
        """Goes on with [L, H, n] of the tokens that are read again; those behind them are new, each a step."""
        return _StepAccumulator(shape, tokens, before.shape[-1], before)


class _StepAccumulator:
    residual_layers: frozenset[int] = frozenset()

    def __init__(self, shape: ModelShape, tokens: int, first: int, before: Tensor | None) -> None:
        self.size = (shape.layers, shape.query_heads, tokens)
        self.first = first  # place of the first token that is a step
        self.before = before
        self.total: Tensor | None = None

    def on_attention(self, layer: int, call: AttentionCall) -> None:
        if self.total is None:
            self.total = torch.zeros(self.size, dtype=torch.float32, device=call.query.device)
            if self.before is not None:
                self.total[..., : self.before.shape[-1]] = self.before
        last = call.query.shape[2] - 1
        if call.first_query + last >= self.first:
            weights, begin = attention_rows(call, last, last + 1)
            column = call.first_key + begin
            row = weights[:, :, 0].flatten(0, 1).to(self.total.device)
            self.total[layer, :, column : column + row.shape[-1]] += row

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        pass

    def result(self) -> Tensor:
        if self.total is None:
            raise RuntimeError("no attention was captured: the model's attention did not go through the override")
        return self.total
