"""Recurrent states beside keys and values: layers of hybrid models that keep a state of fixed size instead of a cache.

A state holds the whole prompt and cannot be pruned; what is evicted is evicted from the attention layers alone. Every
cell goes on from a copy of the state, because generating changes it in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

StateLayers = Mapping[int, LinearAttentionLayer]  # by decoder layer


class HybridCache(Cache):
    """A cache whose `layers` are those of attention, in order; the recurrent ones stand beside them.

    Args:
        layers: keys and values.
        attends: decoder layer of each of `layers`, in order; None where place and decoder layer are the same number.
        states: of the recurrent layers.
    """

    def __init__(self, layers: list[CacheLayerMixin], attends: Sequence[int] | None, states: StateLayers) -> None:
        super().__init__(layers=layers)
        self.states = states
        self._place = None if attends is None else {layer: place for place, layer in enumerate(attends)}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of decoder layer `layer_idx`."""
        place = layer_idx if self._place is None else self._place[layer_idx]
        seen: tuple[Tensor, Tensor] = self.layers[place].update(key_states, value_states, *args, **kwargs)
        return seen

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """None before anything was read."""
        layer = self.states[layer_idx]
        return layer.conv_states[state_idx] if layer.has_previous_state[state_idx] else None

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """None before anything was read."""
        layer = self.states[layer_idx]
        return layer.recurrent_states[state_idx] if layer.has_previous_state[state_idx] else None

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: object) -> Tensor:
        """All that the convolution looks at: what was stored, and the new."""
        return self.states[layer_idx].update_conv_state(conv_states, state_idx, **kwargs)

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: object
    ) -> Tensor:
        """The state as it is stored now."""
        return self.states[layer_idx].update_recurrent_state(recurrent_states, state_idx, **kwargs)

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether the recurrent layer, None: the last one, has read anything."""
        known = self.states[max(self.states) if layer_idx is None else layer_idx].has_previous_state
        return all(known.values()) if state_idx is None else known[state_idx]

    def is_recording_past(self, layer_idx: int) -> bool:
        """No: nothing is rolled back."""
        return False


def new_states(counts: Mapping[int, int]) -> dict[int, LinearAttentionLayer]:
    """Of a model that has read nothing; `counts`: number of states by decoder layer."""
    return {layer: LinearAttentionLayer(number_of_states=count) for layer, count in counts.items()}


@dataclass(frozen=True, eq=False)
class RowStates:
    """The recurrent states of rows that decode together.

    Attributes:
        rows: which row each is, in order.
        layers: theirs.
    """

    rows: tuple[int, ...]
    layers: StateLayers

    def of(self, rows: Sequence[int]) -> RowStates:
        """Those of some of the rows; not copied where all of them go on."""
        if tuple(rows) == self.rows:
            return self
        places = [self.rows.index(row) for row in rows]
        return RowStates(tuple(rows), {layer: _taken(one, places) for layer, one in self.layers.items()})


def repeated(states: StateLayers, rows: Sequence[int]) -> RowStates:
    """A copy for each of `rows` of the states of one text."""
    return RowStates(tuple(rows), {layer: _taken(one, [0] * len(rows)) for layer, one in states.items()})


def _taken(layer: LinearAttentionLayer, places: Sequence[int]) -> LinearAttentionLayer:
    """A new layer with copies of the states at these places of the batch."""
    taken = copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):  # of states by number, and of what is known of each
            setattr(taken, name, dict(value))
    taken.reorder_cache(torch.tensor(places, device=layer.device))
    return taken


def forget_recurrent(states: StateLayers) -> None:
    """Empties the recurrent states in place; those of convolutions only where a layer has no others."""
    for layer in states.values():
        recurrent = [one for one in layer.recurrent_states.values() if one is not None]
        for one in recurrent or [one for one in layer.conv_states.values() if one is not None]:
            one.zero_()


def state_bytes(states: StateLayers) -> int:
    """Bytes of all of them."""
    kinds = [kind for layer in states.values() for kind in (layer.conv_states, layer.recurrent_states)]
    return sum(one.nbytes for kind in kinds for one in kind.values() if one is not None)
