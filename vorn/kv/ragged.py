"""Attention of rows with caches of different length in one forward: each group of rows over its own padded cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vorn.kv.batching import Group
from vorn.kv.buffers import LayerBuffer, gather, whole_cache
from vorn.kv.capture import Prefill, residual
from vorn.kv.override import AttentionFunction, check_arguments, layer_index
from vorn.kv.query import Query
from vorn.kv.signals import ModelShape


class DecodingGroup(Protocol):
    """Rows that share one padded cache; `branches` says which branch each row is."""

    branches: list[int]

    def begin_step(self, fed: int) -> None:
        """Called before each forward in which the rows take part, `fed` tokens having been fed before."""

    def attend(self, query: Query) -> Tensor:
        """Attention output [rows, q, H, D] of the rows' queries; their keys and values are stored first."""

    @property
    def residual_layer(self) -> int | None:
        """Decoder layer whose output `on_residual` is to be called with; None for none."""

    def on_residual(self, states: Tensor) -> None:
        """Takes the states [rows, D] of the tokens that were fed last."""

    def end_step(self, tokens: Sequence[int]) -> dict[int, str]:
        """Called after each forward with the tokens that were fed last; returns why rows cannot go on, by branch."""


@dataclass(eq=False)
class RaggedGroup:
    """Rows that share one padded cache.

    Attributes:
        branches: which branch each row is.
        layers: the cache.
        cache_of: which of the caches each layer of the model reads.
        biases: additive masks of single queries by (positions, window); those with a window hold for one step.
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

    def begin_step(self, fed: int) -> None:
        """Forgets the masks that move with the query."""
        self.biases = {key: bias for key, bias in self.biases.items() if key[1] is None}

    def attend(self, query: Query) -> Tensor:
        """Attention output [rows, q, H, D] over the group's own cache."""
        if self.is_compact:
            query.refuse_window()
        buffer = self.layers[self.cache_of(query.layer)]
        # A layer without a cache of its own writes what the one it reads has just written.
        used = buffer.append(query.key, query.value, query.fed)
        bias = self.bias(buffer, query.window, query.positions, query.query.dtype)
        begin = used - query.window if buffer.positions is None and query.window is not None else 0
        seen = None if bias is None else bias[..., begin:used]
        return query.attend(buffer.keys[:, :, begin:used], buffer.values[:, :, begin:used], seen)

    @property
    def residual_layer(self) -> int | None:
        """None: nothing is evicted any more."""
        return None

    def on_residual(self, states: Tensor) -> None:
        """Never called."""

    def end_step(self, tokens: Sequence[int]) -> dict[int, str]:
        """Nothing to do."""
        return {}

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
        self.groups: Sequence[DecodingGroup] = ()
        self.fed = 0
        self.queries = range(0)

    def begin_step(self, groups: Sequence[DecodingGroup], fed: int, queries: range) -> None:
        """What the next forward holds: the groups' rows in order, each with queries at these positions.

        `fed`: how many tokens were fed before.
        """
        self.groups, self.fed, self.queries = groups, fed, queries
        for group in groups:
            group.begin_step(fed)

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
            layer, outputs = layer_index(module, self.shape), []
            for group, rows in self.rows():
                states, rest = (query[rows], key[rows], value[rows]), (window, scaling, softcap)
                outputs.append(group.attend(Query(*states, layer, self.fed, self.queries, *rest)))
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
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            states = residual(layer, output)
            for group, rows in self.rows():
                if group.residual_layer == layer:
                    group.on_residual(states[rows, -1])

        return hook

    def rows(self) -> Iterator[tuple[DecodingGroup, slice]]:
        """The groups of the forward, and the rows of it that are theirs."""
        first = 0
        for group in self.groups:
            rows = slice(first, first + len(group.branches))
            first = rows.stop
            yield group, rows
