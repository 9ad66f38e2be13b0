"""Attention that positions got, from chosen queries, layers and heads: the general form of which others are cases."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vorn.kv.attention import ColumnSums, LastAttention
from vorn.kv.scorers.layers import layer_numbers
from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.kv.steps import StepAttention
from vorn.records import BadInput


@dataclass(frozen=True)
class AttentionMass:
    """Attention summed over the last `queries` prompt tokens, from chosen layers and heads. No published name is meant.

    Formula: score_i = sum over the queries j of a_{l,h}(j, i), a the softmaxed attention weights; averaged over heads,
    and over layers where several are named. With layers=all, heads=mean, queries=1 it is `tova`; with layers=all,
    heads=group, queries=null the sums of `h2o`.
    Defaults (preset `last_query_mass`): layers=final, heads=mean, queries=1: the last row of the final layer's
    attention, one set for all layers. That is what the vorn-mat paper's harness calls tova; what it calls h2o sums the
    same row over decode steps (preset `step_query_mass`, queries=steps). After the prompt, before the first of them,
    the two are the same.
    GQA: heads=group averages the query heads that share a KV head; heads=mean and a single head give one set for all.
    Source: vorn-mat 2589773, baselines/live_eviction.py:113-129, for the preset.

    Attributes:
        layers: "all": each layer by its own attention; otherwise those named by index among the layers with attention,
            by percentage of them or "final", joined by "+": their mean decides one set for all layers.
        heads: "group", "mean", or the index of a single query head.
        queries: last prompt tokens whose attention is summed; None for all of the prompt's; "steps": the last token of
            every step at which a contract has scored so far, the prompt being the first.
    """

    layers: str
    heads: str
    queries: int | str | None

    def __post_init__(self) -> None:
        if self.queries != "steps" and self.queries is not None and (isinstance(self.queries, str) or self.queries < 1):
            raise BadInput(
                f"queries={self.queries} of an attention-mass policy: must be at least 1 token, null, or steps"
            )
        if self.heads not in ("group", "mean") and not self.heads.isdecimal():
            raise BadInput(
                f"heads={self.heads!r} of an attention-mass policy: legal values are group, mean, or the index of a "
                "query head; choose one"
            )

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The attention of the queries."""
        layer_numbers("layers of an attention-mass policy", self.layers, shape.layers)
        if self.heads.isdecimal() and int(self.heads) >= shape.query_heads:
            raise BadInput(
                f"heads={self.heads} of an attention-mass policy: the model has query heads 0 to "
                f"{shape.query_heads - 1}; choose one of them, group, or mean"
            )
        return frozenset({self._signal})

    @property
    def _signal(self) -> Signal:
        if isinstance(self.queries, str):
            return StepAttention()
        return ColumnSums() if self.queries is None else LastAttention(self.queries)

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1 or L, 1 or Hkv, T] float32, at least 0."""
        shape, tokens = signals.shape, signals.prompt_tokens
        if isinstance(self.queries, int) and self.queries > tokens:
            raise BadInput(
                f"queries={self.queries} of an attention-mass policy: more than a prompt of {tokens} tokens has; "
                "lower it, give null for all, or lengthen the prompts"
            )
        mass = signals[self._signal]
        chosen = layer_numbers("layers of an attention-mass policy", self.layers, shape.layers)
        if chosen is not None:
            mass = mass[chosen].mean(dim=0, keepdim=True)
        if self.heads == "group":
            return mass.view(len(mass), shape.kv_heads, -1, tokens).mean(dim=2)
        return mass.mean(dim=1, keepdim=True) if self.heads == "mean" else mass[:, int(self.heads)][:, None]
