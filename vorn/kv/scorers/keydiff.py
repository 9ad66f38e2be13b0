"""KeyDiff: keys unlike the others stay."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.entries import KeyCosines
from vorn.kv.signals import ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class KeyDiff:
    """KeyDiff (arXiv:2504.15364): entries whose key is most like the average direction of keys are evicted.

    Formula: score_{l,g,i} = -cos(k_{l,g,i}, mean over j of k_{l,g,j} / |k_{l,g,j}|), k after RoPE, j all positions.
    Published defaults: no parameters; no guards (guards=published).
    GQA: keys belong to KV heads, so each KV head has its own set.
    Departure: applied once, after the prompt; the paper applies it block by block while the prompt is read.
    Source: the paper's section 4; the same formula in NVIDIA/kvpress.
    """

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The cosine of every key with its head's mean."""
        return frozenset({KeyCosines()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, Hkv, T] float32 in [-1, 1]."""
        return -signals[KeyCosines()]
