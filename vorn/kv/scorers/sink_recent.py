"""The first tokens and the most recent ones, whatever they say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vorn.kv.rules import DecodeRule, DecodeStep
from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import BadInput


@dataclass(frozen=True)
class SinkRecent:
    """Attention sinks and recency (after StreamingLLM, arXiv:2309.17453): first `sinks` positions, then the latest.

    Formula: score_i = T + sinks - i for i < sinks, else i.
    Published default: sinks = 4. With sinks = 0 it is a sliding window (preset `sliding_window`), with 64 the prefix
    and suffix of the vorn-mat paper's harness (preset `prefix_suffix`).
    While decoding: the oldest position that is no sink goes.
    GQA: one set for all layers and heads.
    Departure, and the reason for the other name: kept tokens stay at their original positions; StreamingLLM assigns
    positions within its cache anew.
    """

    sinks: int

    def __post_init__(self) -> None:
        if self.sinks < 0:
            raise BadInput(f"sinks={self.sinks} of a sink-and-recent policy: must be at least 0 tokens; raise it")

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """Nothing."""
        return frozenset()

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [1, 1, T] float32, whole numbers without ties."""
        positions = torch.arange(signals.prompt_tokens, dtype=torch.float32, device=signals.device)
        is_sink = positions < self.sinks
        return torch.where(is_sink, signals.prompt_tokens + self.sinks - positions, positions)[None, None]

    def decode_rule(self, signals: PrefillSignals) -> DecodeRule:
        """The oldest entry that is no sink goes."""
        return _Oldest(self.sinks)


class _Oldest:
    uses_attention = False
    residual_layer: int | None = None

    def __init__(self, sinks: int) -> None:
        self.sinks = sinks

    def start(self, positions: Tensor, prompt_scores: Tensor) -> None:
        pass

    def observe(self, step: DecodeStep) -> None:
        pass

    def scores(self, step: DecodeStep) -> Tensor:
        return step.positions.float().masked_fill(step.positions < self.sinks, torch.inf)
