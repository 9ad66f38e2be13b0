"""Attention of rows with caches of different length in one forward: each group of rows over its own padded cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vorn.kv.batching import Group
from vorn.kv.cache import LayerBuffer, gather, whole_cache
from vorn.kv.capture import AttentionFunction, Prefill, check_arguments, layer_index
from vorn.kv.signals import ModelShape
from vorn.records import BadInput


@dataclass(eq=False)
class RaggedGroup:
    """Rows that share one padded cache.

    Attributes:
        branches: which branch each row is.
        layers: the cache.
        biases: additive masks of single queries by (positions, window); those with a window hold for one step.
        is_compact: whether a row's entries have new positions inside the cache, which the masks do not know.
    """

    branches: list[int]
    layers: list[LayerBuffer]
    biases: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)
    is_compact: bool = False

    @classmethod
    def of(cls, group: Group, prefill: Prefill, first_new: int, room: int) -> RaggedGroup:
        """The group's cache, filled from the prefill's."""
        sets = [row.positions for row in group if row.positions is not None]
        if sets:
            layers = gather(prefill.cache, sets, first_new, room)
        else:
            layers = whole_cache(prefill.cache, prefill.signals.prompt_tokens, first_new)
        return cls([row.branch for row in group], layers, is_compact=any(row.is_compact for row in group))

    def begin_step(self) -> None:
        """Forgets the masks that move with the query."""
        self.biases = {key: bias for key, bias in self.biases.items() if key[1] is None}

    def bias(self, buffer: LayerBuffer, window: int | None, queries: range, dtype: torch.dtype) -> Tensor | None:
        """[rows, 1 or Hkv, q, slots] with 0 where the queries at these positions may look, -inf elsewhere.

        None where the only query may look everywhere. By absolute positions: transformers' own masks count slots, and
        would see too far through a sliding window.
        """
        if len(queries) > 1:
            return _bias(buffer, window, queries, dtype)  # of a question, fed once: not held until the last layer
        if buffer.positions is None or (window is None and not buffer.is_padded):
            return None
        key = (id(buffer.positions), window)
        if key not in self.biases:
            self.biases[key] = _bias(buffer, window, queries, dtype)
        return self.biases[key]


def _bias(buffer: LayerBuffer, window: int | None, queries: range, dtype: torch.dtype) -> Tensor:
    if buffer.positions is None:
        raise ValueError("several tokens at once cannot be fed over the prefill's own cache: gather the entries first")
    positions = buffer.positions[:, :, None]
    at = torch.arange(queries.start, queries.stop, device=positions.device)[:, None]
    hidden = positions < (0 if window is None else (at - window + 1).clamp(min=0))
    if len(queries) > 1:
        hidden = hidden | (positions > at)  # of a single query's own step no later slot is looked at
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


class GroupAttention:
    """The attention of one forward: each group's rows over the group's own cache."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self.groups: Sequence[RaggedGroup] = ()
        self.fed = 0
        self.queries = range(0)

    def begin_step(self, groups: Sequence[RaggedGroup], fed: int, queries: range) -> None:
        """What the next forward holds: the groups' rows in order, each with queries at these positions.

        `fed`: how many tokens were fed before.
        """
        self.groups, self.fed, self.queries = groups, fed, queries
        for group in groups:
            group.begin_step()

    def replace(self, original: AttentionFunction) -> AttentionFunction:
        """The function that stands in for the model's attention; no mask of the model's is used."""

        def attention(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            mask: Tensor | None,
            *,
            scaling: float,
            softcap: float | None = None,
            sliding_window: int | None = None,
            **kwargs: object,
        ) -> tuple[Tensor, None]:
            check_arguments(kwargs)
            # A window that reaches back to position 0 hides nothing.
            window = sliding_window if sliding_window is not None and sliding_window < self.queries.stop else None
            cache, first, outputs = self.shape.cache(layer_index(module)), 0, []
            for group in self.groups:
                if group.is_compact and window is not None:
                    raise BadInput(
                        f"positions=compact: layer {layer_index(module)} sees only the last {window} positions, in "
                        "which entries of new positions would stand again; choose a model without sliding windows, "
                        "shorter prompts, or a policy without positions=compact"
                    )
                rows = slice(first, first + len(group.branches))
                first = rows.stop
                buffer = group.layers[cache]
                # A layer without a cache of its own writes what the one it reads has just written.
                used = buffer.append(key[rows], value[rows], self.fed)
                bias = group.bias(buffer, window, self.queries, query.dtype)
                begin = used - window if buffer.positions is None and window is not None else 0
                outputs.append(_attend(query[rows], buffer, slice(begin, used), bias, scaling, softcap))
            return torch.cat(outputs), None

        return attention


def _attend(
    query: Tensor, buffer: LayerBuffer, used: slice, bias: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Attention output [rows, q, H, D] of q queries per row, [rows, H, q, D], over the slots `used`."""
    keys, values = buffer.keys[:, :, used], buffer.values[:, :, used]
    # The queries of a group of heads become rows of their KV head, which thus need not be repeated.
    packed = query.reshape(query.shape[0], keys.shape[1], -1, query.shape[-1])
    seen = None if bias is None else bias[..., used]
    if seen is not None and seen.shape[2] > 1:
        seen = seen.repeat(1, 1, packed.shape[2] // seen.shape[2], 1)
    if softcap is None:
        output = scaled_dot_product_attention(packed, keys, values, attn_mask=seen, scale=scaling)
    else:
        scores = torch.tanh(packed @ keys.transpose(2, 3) * scaling / softcap) * softcap
        scores = scores if seen is None else scores + seen
        output = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values
    return output.reshape(*query.shape[:3], -1).transpose(1, 2)
