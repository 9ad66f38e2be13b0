"""The key/value caches: the prefill's, with room to go on, and the pruned ones of cells that decode together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from vorn.kv.retention import Kept
from vorn.records import BadInput


class _RoomyLayer(CacheLayerMixin):
    """Keys and values of one layer in buffers with room: appending writes in place instead of copying everything."""

    is_sliding = False  # sliding layers keep every position too: a refed last token sees one that they would drop

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (
            states.new_empty(*states.shape[:2], self.capacity, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


class PrefillCache(Cache):
    """Keys and values of every prompt position, all layers, with room for the tokens that `full` generates.

    Args:
        layers: decoder layers.
        capacity: positions, those of the prompt included.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[_RoomyLayer(capacity) for _ in range(layers)])
        self.capacity = capacity

    def slot_bytes(self) -> list[int]:
        """Bytes of one position's keys and values over all KV heads, per layer."""
        return [
            layer.keys.shape[1] * (layer.keys.shape[3] + layer.values.shape[3]) * layer.keys.element_size()
            for layer in self.layers
        ]

    def kv_bytes(self, kept: Kept) -> int:
        """Bytes of the kept keys and values, computed."""
        counts = (int((rows >= 0).sum()) / rows.shape[0] for rows in map(kept.layer, range(len(self.layers))))
        return round(sum(count * size for count, size in zip(counts, self.slot_bytes(), strict=True)))


@dataclass(frozen=True, eq=False)
class LayerBuffer:
    """One layer's keys and values of the rows that decode together.

    Attributes:
        keys: [rows, Hkv, slots, D], the prompt's entries first, then one slot per decoded token.
        values: likewise.
        positions: [rows, 1 or Hkv, slots] absolute; -1 where a slot is padding. None: slot s holds position s.
        first_slot: slot of the first decoded token.
        read_only: slots before this one are never written: they belong to the prefill.
        is_padded: whether any slot is padding.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor | None
    first_slot: int
    read_only: int
    is_padded: bool

    def append(self, key: Tensor, value: Tensor, step: int) -> int:
        """Stores [rows, Hkv, 1, D] of decode step `step`; returns how many slots are in use now."""
        slot = self.first_slot + step
        if slot >= self.read_only:
            self.keys[:, :, slot] = key[:, :, 0]
            self.values[:, :, slot] = value[:, :, 0]
        return slot + 1


def whole_cache(cache: PrefillCache, prompt_tokens: int, first_new: int) -> list[LayerBuffer]:
    """The prefill's own buffers, continued at position `first_new` without a copy.

    A refed prompt token (`first_new` < `prompt_tokens`) reads what the prefill stored for it, so that the prompt's
    entries stay as they are and can be gathered or continued again.
    """
    return [LayerBuffer(layer.keys, layer.values, None, first_new, prompt_tokens, False) for layer in cache.layers]


def positions_below(kept: Kept, layers: int, end: int) -> list[Tensor]:
    """Each layer's kept positions below `end`, [1 or Hkv, n], -1 padded, without columns of padding only."""
    below = []
    for rows in kept.positions:
        lower = rows.masked_fill(rows >= end, -1)
        below.append(lower[:, : int((lower >= 0).sum(dim=1).max())])
    return below * layers if len(below) == 1 else below


def gather(cache: PrefillCache, rows: Sequence[Sequence[Tensor]], first_new: int, room: int) -> list[LayerBuffer]:
    """Pruned buffers of several cells, the kept entries copied from the prefill cache.

    Args:
        cache: of the prefill.
        rows: for every row its positions per layer, as `positions_below` gives them.
        first_new: position of the first decoded token.
        room: decoded tokens, a refed prompt token included.
    """
    placed: dict[tuple[int, ...], Tensor] = {}  # layers that keep the same sets share one tensor of positions
    buffers = []
    for index, layer in enumerate(cache.layers):
        sets = [row[index] for row in rows]
        key = tuple(map(id, sets))
        if key not in placed:
            placed[key] = _place(sets, first_new, room, layer.keys.device)
        buffers.append(_gather_layer(layer.keys, layer.values, placed[key], room))
    return buffers


def _place(sets: Sequence[Tensor], first_new: int, room: int, device: torch.device) -> Tensor:
    """Absolute position of every slot, [rows, 1 or Hkv, slots]; -1 is padding."""
    width = max(positions.shape[1] for positions in sets)
    heads = max(positions.shape[0] for positions in sets)
    placed = torch.full((len(sets), heads, width + room), -1, dtype=torch.long, device=device)
    for row, positions in enumerate(sets):
        placed[row, :, : positions.shape[1]] = positions.to(device)
    placed[..., width:] = torch.arange(first_new, first_new + room, device=device)
    return placed


def _gather_layer(keys: Tensor, values: Tensor, positions: Tensor, room: int) -> LayerBuffer:
    heads, width = keys.shape[1], positions.shape[2] - room
    if positions.shape[1] not in (1, heads):
        raise BadInput(f"kept positions of {positions.shape[1]} heads: a layer of {heads} KV heads needs 1 or {heads}")
    source = positions[..., :width].masked_fill(positions[..., :width] < 0, 0)  # padding copies any entry: it is masked
    gathered = []
    for states in (keys, values):
        buffer = states.new_empty(len(positions), heads, width + room, states.shape[3])
        for row, chosen in enumerate(source):
            if len(chosen) == 1:
                buffer[row, :, :width] = states[0].index_select(1, chosen[0])
            else:
                buffer[row, :, :width] = states[0].gather(1, chosen[..., None].expand(-1, -1, states.shape[3]))
        gathered.append(buffer)
    return LayerBuffer(gathered[0], gathered[1], positions, width, 0, bool((positions < 0).any()))


class StepCache(Cache):
    """What the model takes for its cache while cells decode together: the new token's states pass through it."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """The states as they came: each group of rows appends them to its own buffers."""
        return key_states, value_states
