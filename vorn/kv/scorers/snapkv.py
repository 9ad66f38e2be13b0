"""SnapKV: what the end of the prompt attends to, smoothed along the positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d

from vorn.kv.attention import LastAttention
from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import BadInput

POOLINGS = ("avg", "max")


@dataclass(frozen=True)
class SnapKV:
    """SnapKV (arXiv:2404.14469): attention of the last tokens, summed over them and pooled, per layer and KV head.

    Formula: s_{l,h,i} = sum over the last w queries j of a_{l,h}(j, i) for i < T - w, a the attention weights softmaxed
    over the whole row; p_{l,h} = s_{l,h} pooled over `kernel` neighbours, zeros (avg) or nothing (max) beyond the ends;
    score_{l,g,i} = mean over the query heads h of group g of p_{l,h,i}. The w last positions are always kept and count
    towards the budget: they score above all others, the later the higher.
    Published defaults: w = 32, kernel = 5, average; the window is the only guard (guards=published). A window that the
    budget cannot hold is refused under guards=published; under other guards its last positions are kept.
    GQA: the published code selects per query head and stores each KV head once per query head; our departure is the
    mean over the query heads that share a KV head, so that a KV head is stored once.
    Source: FasterDecoding/SnapKV 395b54d, snapkv_utils.py; GQA rule as in NVIDIA/kvpress.

    Attributes:
        window: w, in tokens.
        kernel: positions pooled, an odd number.
        pooling: `avg` or `max`.
    """

    window: int
    kernel: int
    pooling: str

    def __post_init__(self) -> None:
        if self.window < 1:
            raise BadInput(f"window={self.window} of a SnapKV policy: must be at least 1 token; raise it")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise BadInput(f"kernel={self.kernel} of a SnapKV policy: must be an odd number >= 1, such as 5; change it")
        if self.pooling not in POOLINGS:
            raise BadInput(f"pooling={self.pooling!r} of a SnapKV policy: legal values are avg, max; choose one")

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        """The attention of the window."""
        return frozenset({LastAttention(self.window)})

    def __call__(self, signals: PrefillSignals) -> Tensor:
        """Scores [L, Hkv, T] float32, at least 0; those of the window are above all others of their layer."""
        tokens, shape = signals.prompt_tokens, signals.shape
        if self.window >= tokens:
            raise BadInput(
                f"window={self.window} of a SnapKV policy: must be shorter than the prompt of {tokens} tokens; "
                "lower it or lengthen the prompts"
            )
        mass = signals[LastAttention(self.window)][..., : tokens - self.window]
        pool: Callable[..., Tensor] = max_pool1d if self.pooling == "max" else avg_pool1d
        pooled = pool(mass, kernel_size=self.kernel, stride=1, padding=self.kernel // 2)
        scores = pooled.view(shape.layers, shape.kv_heads, -1, pooled.shape[-1]).mean(dim=2)
        order = torch.arange(1, self.window + 1, dtype=torch.float32, device=scores.device) / self.window
        window = scores.amax(dim=(1, 2), keepdim=True) + order
        return torch.cat([scores, window.expand(-1, shape.kv_heads, -1)], dim=-1)
