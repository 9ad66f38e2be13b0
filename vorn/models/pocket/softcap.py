"""Causal attention with soft-capped scores, block by block, for training: never all scores of a row at once.

`softcapped` is registered with transformers as an attention implementation. It has no mask function on purpose: it
masks by itself, what lies ahead and what lies behind the window, so rows must be padded at their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "pocket_softcapped"
BLOCK = 128  # queries at a time: their scores, in float32, stay within a cache of some megabytes


class _SoftCapped(torch.autograd.Function):
    """softmax(cap * tanh(q k / cap)) v, with the weights computed again on the way back.

    Products are taken in the inputs' dtype, the rest in float32.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, cap: float, window: int) -> Tensor:
        """Args: query [B, KV, G, T, D], scaled; key and value [B, KV, T, D]. Returns: as query."""
        out = torch.empty_like(query)
        for row, block, keys in _blocks(query, window):
            weights = _weights(_gate(query[row, :, :, block], key[row, :, keys], cap), cap, block, keys, window)
            out[row, :, :, block] = (weights.to(value.dtype) @ value[row, :, keys]).view_as(out[row, :, :, block])
        ctx.save_for_backward(query, key, value, out)
        ctx.cap, ctx.window = cap, window
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns: gradients of query, key and value in their dtypes, key's and value's summed in float32."""
        query, key, value, out = ctx.saved_tensors
        (gradient,) = gradients
        towards = (gradient.float() * out.float()).sum(-1)
        into_query = torch.empty_like(query)
        into_key, into_value = (torch.zeros_like(of, dtype=torch.float32) for of in (key, value))
        for row, block, keys in _blocks(query, ctx.window):
            queries, part = (of[row, :, :, block].flatten(1, 2) for of in (query, gradient))
            gate = _gate(query[row, :, :, block], key[row, :, keys], ctx.cap)
            weights = _weights(gate, ctx.cap, block, keys, ctx.window)
            into_value[row, :, keys] += weights.to(value.dtype).mT @ part
            scores = (part @ value[row, :, keys].mT).float()
            scores -= towards[row, :, :, block].flatten(1, 2)[..., None]
            scores *= weights.mul_(4.0)
            scores *= gate.addcmul_(gate, gate, value=-1.0)  # tanh' = 4 gate (1 - gate)
            scores = scores.to(query.dtype)
            into_query[row, :, :, block] = (scores @ key[row, :, keys]).view_as(query[row, :, :, block])
            into_key[row, :, keys] += scores.mT @ queries
        return into_query, into_key.to(key.dtype), into_value.to(value.dtype), None, None


def _blocks(query: Tensor, window: int) -> Iterator[tuple[int, slice, slice]]:
    """Row of the batch, its queries in blocks, and the keys that any of them sees."""
    tokens = query.shape[3]
    for row in range(query.shape[0]):
        for begin in range(0, tokens, BLOCK):
            end = min(begin + BLOCK, tokens)
            yield row, slice(begin, end), slice(max(0, begin - window + 1), end)


def _gate(query: Tensor, key: Tensor, cap: float) -> Tensor:
    """sigmoid(2 q k / cap) = (tanh(q k / cap) + 1) / 2, [KV, G * queries, keys] float32; far quicker than tanh."""
    return (query.flatten(1, 2) @ key.mT).float().mul_(2 / cap).sigmoid_()


def _weights(gate: Tensor, cap: float, block: slice, keys: slice, window: int) -> Tensor:
    """softmax(cap * tanh) over the keys that each query sees: the gate's constant offset cancels."""
    scores = gate * (2 * cap)
    seen = scores.view(scores.shape[0], -1, block.stop - block.start, scores.shape[-1])
    queries = torch.arange(block.start, block.stop)[:, None]
    seen[..., block.start - keys.start :].masked_fill_(torch.arange(block.start, keys.stop) > queries, -torch.inf)
    behind = torch.arange(keys.start, max(keys.start, block.stop - window)) <= queries - window
    seen[..., : behind.shape[1]].masked_fill_(behind, -torch.inf)
    return scores.softmax(-1)


def softcapped(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    softcap: float,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [B, H, T, D], key and value [B, KV, T, D], to [B, T, H, D]."""
    if attention_mask is not None:
        raise ValueError("this attention masks by itself; call the model without a cache and without a mask")
    batch, heads, tokens, width = query.shape
    with torch.autocast(query.device.type, enabled=False):
        # Rotation makes float32 of autocast's queries and keys; the values still have its dtype.
        grouped = (query * scaling).to(value.dtype).view(batch, key.shape[1], -1, tokens, width)
        out: Tensor = _SoftCapped.apply(  # type: ignore[no-untyped-call]
            grouped, key.to(value.dtype), value, softcap, sliding_window or tokens
        )
    return out.view(batch, heads, tokens, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, softcapped)
