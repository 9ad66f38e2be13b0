"""H2O: how much attention a position got from the whole prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.attention import ColumnSums
from vorn.kv.rules import DecodeRule, DecodeStep, taken
from vorn.kv.signals import ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class H2O:
    """H2O (arXiv:2306.14048): attention summed over all prompt queries, per layer and KV head.

    Formula: score_{l,g,i} = mean over the query heads h of group g of sum_j a_{l,h}(j, i), a the softmaxed attention
    weights and j all prompt positions. Sums are not divided by the number of queries that can see i, as published, so
    they favour early positions.
    Published defaults: half the budget is reserved for the most recent tokens (guards=published).
    GQA: the paper predates it; our departure is that the query heads that share a KV head are averaged.
    While decoding: every decoded query's attention is added to the sums of what is held; a new entry starts at its own.
    Departure: under prefill_once applied once, after the prompt. A refed prompt token's query, which the prompt's sums
    hold already, is not added again.
    Source: FMInference/H2O ac75c2a.
    """

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Every position's attention from all prompt tokens."""
        return frozenset({ColumnSums()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, Hkv, T] float32, at least 0, of sum T over the positions."""
        shape = signals.shape
        sums = signals[ColumnSums()].view(shape.layers, shape.kv_heads, -1, signals.prompt_tokens)
        return sums.mean(dim=2)

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """The entries with the smallest sums go."""
        return _Sums(signals.prompt_tokens)


class _Sums:
    uses_attention = True
    residual_layer: int | None = None

    def __init__(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        self.prompt_scores = prompt_scores
        self.sums = taken(prompt_scores, positions)

    def observe(self, step: DecodeStep) -> None:
        if step.position < self.prompt_tokens:
            self.sums.scatter_(3, step.slots, taken(self.prompt_scores, torch.full_like(step.slots, step.position)))
            return
        self.sums.scatter_(3, step.slots, 0.0)
        self.sums += step.seen_attention()

    def scores(self, step: DecodeStep) -> Tensor:
        return self.sums
