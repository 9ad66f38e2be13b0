"""Signals that grow over decode steps, for contracts that score at each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor

from vorn.kv.attention import AttentionAccumulator, attention_rows
from vorn.kv.signals import Accumulator, AttentionCall, ModelShape


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
        return AttentionAccumulator(shape, prompt_tokens, partial(_last_row, first=prompt_tokens - 1))

    def resumed(self, shape: ModelShape, tokens: int, before: Tensor) -> Accumulator:
        """Goes on with [L, H, n] of the tokens that are read again; those behind them are new, each a step."""
        return AttentionAccumulator(shape, tokens, partial(_last_row, first=before.shape[-1]), before)


def _last_row(call: AttentionCall, tokens: int, *, first: int) -> Iterator[tuple[Tensor, int]]:
    """The weights of a call's last query, if its place is `first` or a later one."""
    last = call.query.shape[2] - 1
    if call.first_query + last >= first:
        weights, begin = attention_rows(call, last, last + 1)
        yield weights[:, :, 0], call.first_key + begin
