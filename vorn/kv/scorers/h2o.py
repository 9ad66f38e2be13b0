"""H2O: how much attention a position got from the whole prompt."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.signals import ColumnSums, ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class H2O:
    """H2O (arXiv:2306.14048): attention summed over all prompt queries, per layer and KV head.

    Formula: score_{l,g,i} = mean over the query heads h of group g of sum_j a_{l,h}(j, i), a the softmaxed attention
    weights and j all prompt positions. Sums are not divided by the number of queries that can see i, as published, so
    they favour early positions.
    Published defaults: half the budget is reserved for the most recent tokens (guards=published).
    GQA: the paper predates it; our departure is that the query heads that share a KV head are averaged.
    Departure: applied once, after the prompt; published H2O goes on adding the decoded queries' attention.
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
