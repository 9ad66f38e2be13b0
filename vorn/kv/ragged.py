"""Attention of rows with caches of different length in one forward: each group of rows over its own padded cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from vorn.kv.batching import Group
from vorn.kv.cache import LayerBuffer, gather, whole_cache
from vorn.kv.capture import AttentionFunction, Prefill, check_arguments, layer_index
from vorn.records import BadInput


@dataclass(frozen=True, eq=False)
class Query:
    """What a decode step asks of one layer, one token per row, after RoPE.

    Attributes:
        query: [rows, H, 1, D].
        key: [rows, Hkv, 1, D] of the same tokens; value: likewise.
        layer: of the model.
        step: of decoding.
        position: of the tokens.
        window: positions that the queries see, their own included; None if it hides nothing.
        scaling: factor on the dot products.
        softcap: s becomes softcap * tanh(s / softcap); None for none.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    layer: int
    step: int
    position: int
    window: int | None
    scaling: float
    softcap: float | None

    def refuse_window(self) -> None:
        """Raises BadInput, for rows whose entries have new positions, if a window hides some of the old ones."""
        if self.window is not None:
            raise BadInput(
                f"positions=compact: layer {self.layer} sees only the last {self.window} positions, in "
                "which entries of new positions would stand again; choose a model without sliding windows, "
                "shorter prompts, or a policy without positions=compact"
            )


class DecodingGroup(Protocol):
    """Rows that share one padded cache; `branches` says which branch each row is."""

    branches: list[int]

    def begin_step(self, step: int) -> None:
        """Called before each forward in which the rows take part."""

    def attend(self, query: Query) -> Tensor:
        """Attention output [rows, 1, H, D] of the rows' queries; their keys and values are stored first."""

    @property
    def residual_layer(self) -> int | None:
        """Decoder layer whose output `on_residual` is to be called with, [rows, D]; None for none."""

    def on_residual(self, states: Tensor) -> None:
        """Takes the states of the step's tokens."""

    def end_step(self, tokens: Sequence[int]) -> dict[int, str]:
        """Called after each forward with the tokens that were read; returns why rows cannot go on, by branch."""


@dataclass(eq=False)
class RaggedGroup:
    """Rows that share one padded cache.

    Attributes:
        branches: which branch each row is.
        layers: the cache.
        cache_of: which of the caches each layer of the model reads.
        biases: additive masks by (positions, window); those with a window hold for one step.
        is_compact: whether a row's entries have new positions inside the cache, which the masks do not know.
    """

    branches: list[int]
    layers: list[LayerBuffer]
    cache_of: Callable[[int], int]
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
        cache_of = prefill.signals.shape.cache
        return cls([row.branch for row in group], layers, cache_of, is_compact=any(row.is_compact for row in group))

    def begin_step(self, step: int) -> None:
        """Forgets the masks that move with the query."""
        self.biases = {key: bias for key, bias in self.biases.items() if key[1] is None}

    def attend(self, query: Query) -> Tensor:
        """Attention output [rows, 1, H, D] over the group's own cache."""
        if self.is_compact:
            query.refuse_window()
        buffer = self.layers[self.cache_of(query.layer)]
        # A layer without a cache of its own writes what the one it reads has just written.
        used = buffer.append(query.key, query.value, query.step)
        bias = self.bias(buffer, query.window, query.position, query.query.dtype)
        begin = used - query.window if buffer.positions is None and query.window is not None else 0
        seen = None if bias is None else bias[..., begin:used]
        return attend(query, buffer.keys[:, :, begin:used], buffer.values[:, :, begin:used], seen)

    @property
    def residual_layer(self) -> int | None:
        """None: nothing is evicted any more."""
        return None

    def on_residual(self, states: Tensor) -> None:
        """Never called."""

    def end_step(self, tokens: Sequence[int]) -> dict[int, str]:
        """Nothing to do."""
        return {}

    def bias(self, buffer: LayerBuffer, window: int | None, position: int, dtype: torch.dtype) -> Tensor | None:
        """[rows, 1 or Hkv, 1, slots] with 0 where the query at `position` may look, -inf elsewhere; None: everywhere.

        By absolute positions: transformers' own masks count slots, and would see too far through a sliding window.
        """
        if buffer.positions is None or (window is None and not buffer.is_padded):
            return None
        key = (id(buffer.positions), window)
        if key not in self.biases:
            hidden = buffer.positions < (0 if window is None else position - window + 1)
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self.biases[key] = zeros.masked_fill_(hidden, -torch.inf)[:, :, None]
        return self.biases[key]


class GroupAttention:
    """The attention of one decode step: each group's rows over the group's own cache."""

    def __init__(self) -> None:
        self.groups: Sequence[DecodingGroup] = ()
        self.step = 0
        self.position = 0

    def begin_step(self, groups: Sequence[DecodingGroup], step: int, position: int) -> None:
        """What the next forward holds: the groups' rows in order, each with one query at `position`."""
        self.groups, self.step, self.position = groups, step, position
        for group in groups:
            group.begin_step(step)

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
            window = sliding_window if sliding_window is not None and sliding_window <= self.position else None
            layer, outputs = layer_index(module), []
            for group, rows in self.rows():
                states = query[rows], key[rows], value[rows]
                outputs.append(group.attend(Query(*states, layer, self.step, self.position, window, scaling, softcap)))
            return torch.cat(outputs), None

        return attention

    @contextmanager
    def hooked(self, model: PreTrainedModel, groups: Sequence[DecodingGroup]) -> Iterator[None]:
        """Within it, the groups are handed the outputs of the layers that they name."""
        layers = model.get_decoder().layers
        with ExitStack() as hooks:
            for index in sorted({group.residual_layer for group in groups if group.residual_layer is not None}):
                hooks.callback(layers[index].register_forward_hook(self._hook(index)).remove)
            yield

    def _hook(self, layer: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            for group, rows in self.rows():
                if group.residual_layer == layer:
                    group.on_residual(output[rows, 0])

        return hook

    def rows(self) -> Iterator[tuple[DecodingGroup, slice]]:
        """The groups of the step, and the rows of the forward that are theirs."""
        first = 0
        for group in self.groups:
            rows = slice(first, first + len(group.branches))
            first = rows.stop
            yield group, rows


def attend(query: Query, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Attention output [rows, 1, H, D] over keys and values [rows, Hkv, slots, D]; `bias` hides slots with -inf."""
    if query.softcap is not None:
        return weighted(query, values, weights_of(query, keys, bias))
    output = scaled_dot_product_attention(packed(query, keys), keys, values, attn_mask=bias, scale=query.scaling)
    return output.reshape(len(keys), 1, query.query.shape[1], -1)


def packed(query: Query, keys: Tensor) -> Tensor:
    """[rows, Hkv, H // Hkv, D]: the queries of a group of heads as rows of their KV head, which is not repeated."""
    return query.query.view(len(keys), keys.shape[1], -1, keys.shape[3])


def weights_of(query: Query, keys: Tensor, bias: Tensor | None) -> Tensor:
    """Attention weights [rows, Hkv, H // Hkv, slots] float32."""
    scores = packed(query, keys) @ keys.transpose(2, 3) * query.scaling
    if query.softcap is not None:
        scores = torch.tanh(scores / query.softcap) * query.softcap
    return torch.softmax(scores if bias is None else scores + bias, dim=-1, dtype=torch.float32)


def weighted(query: Query, values: Tensor, weights: Tensor) -> Tensor:
    """Attention output [rows, 1, H, D] by these weights."""
    return (weights.to(values.dtype) @ values).reshape(len(values), 1, query.query.shape[1], -1)
