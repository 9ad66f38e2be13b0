"""TOVA: what the last prompt token attends to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.attention import LastAttention
from vorn.kv.rules import DecodeRule, DecodeStep
from vorn.kv.signals import ModelShape, PrefillSignals, Signal


@dataclass(frozen=True)
class Tova:
    """TOVA (arXiv:2401.06104): attention of the last query, averaged over heads, per layer.

    Formula: score_{l,i} = mean over query heads h of a_{l,h}(T-1, i), a the softmaxed attention weights.
    Published defaults: no parameters, no sinks, no recent window (guards=published).
    GQA: all query heads are averaged, so the KV heads of a layer keep one set; layers keep different sets.
    While decoding: the same, at every token, with its own query; the new token's entry is ranked like any other.
    Departure: under prefill_once applied once, after the prompt; the paper applies it at every forward pass.
    Source: the paper's section 4; code schwartz-lab-NLP/TOVA.
    """

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The last prompt token's attention."""
        return frozenset({LastAttention()})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, 1, T] float32, at least 0, of sum 1 over T."""
        return signals[LastAttention()].mean(dim=1, keepdim=True)

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """The entries that the last query attends to least go."""
        return _LastQuery()


class _LastQuery:
    uses_attention = True
    residual_layer: int | None = None

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        pass

    def observe(self, step: DecodeStep) -> None:
        pass

    def scores(self, step: DecodeStep) -> Tensor:
        return step.seen_attention()
