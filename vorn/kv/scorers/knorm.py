"""Knorm: keys of small norm stay."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.entries import KeyNorms
from vorn.kv.signals import ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class Knorm:
    """Knorm (arXiv:2406.11430): the entries with the largest key norm are evicted, per layer and KV head.

    Formula: score_{l,g,i} = -|k_{l,g,i}|, k after RoPE (which leaves norms alone) and after any key norm. With a key
    norm whose weights are all equal, as at the start of training, all keys have one norm and the order says nothing.
    Published defaults: no parameters, no guards (guards=published).
    GQA: keys belong to KV heads, so each KV head has its own set.
    Departure: every layer is pruned; upstream can leave layers whole (`skip_layers`).
    Source: the paper's section 3; code alessiodevoto/l2compress.
    """

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The norm of every key."""
        return frozenset({KeyNorms()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, Hkv, T] float32, at most 0."""
        return -signals[KeyNorms()]
