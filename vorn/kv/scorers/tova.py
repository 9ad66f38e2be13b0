"""TOVA: what the last prompt token attends to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.signals import LastAttention, ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class Tova:
    """TOVA (arXiv:2401.06104): attention of the last query, averaged over heads, per layer.

    Formula: score_{l,i} = mean over query heads h of a_{l,h}(T-1, i), a the softmaxed attention weights.
    Published defaults: no parameters, no sinks, no recent window (guards=published).
    GQA: all query heads are averaged, so the KV heads of a layer keep one set; layers keep different sets.
    Departure: applied once, after the prompt; the paper applies it at every forward pass.
    Source: the paper's section 4; code schwartz-lab-NLP/TOVA.
    """

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The last prompt token's attention."""
        return frozenset({LastAttention()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, 1, T] float32, at least 0, of sum 1 over T."""
        return signals[LastAttention()].mean(dim=1, keepdim=True)
