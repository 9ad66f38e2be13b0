"""The pruned caches of cells that decode together, gathered from the prefill's, and what the model takes for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vorn.kv.cache import PrefillCache, RoomyLayer
from vorn.kv.recurrent import HybridCache, StateLayers
from vorn.kv.retention import Kept
from vorn.records import BadInput


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

    def append(self, key: Tensor, value: Tensor, fed: int) -> int:
        """Stores [rows, Hkv, q, D] of q new tokens, behind `fed` others; returns how many slots are in use now."""
        slot = self.first_slot + fed
        end = slot + key.shape[2]
        if slot >= self.read_only:
            self.keys[:, :, slot:end] = key
            self.values[:, :, slot:end] = value
        return end


def whole_cache(cache: PrefillCache, prompt_tokens: int, first_new: int) -> list[LayerBuffer]:
    """The prefill's own buffers, continued at position `first_new` without a copy.

    A refed prompt token (`first_new` < `prompt_tokens`) reads what the prefill stored for it, so that the prompt's
    entries stay as they are and can be gathered or continued again.
    """
    return [
        LayerBuffer(layer.keys, layer.values, None, first_new - layer.first, prompt_tokens - layer.first, False)
        for layer in cache.layers
    ]


def live_positions(cache: PrefillCache, kept: Kept, end: int) -> list[Tensor]:
    """Each layer's kept positions below `end` that the prefill cache still holds, [1 or Hkv, n], -1 padded.

    Positions that a sliding layer has left behind are kept in vain: no later token can see them.
    Raises: BadInput if a layer has other heads than the kept sets.
    """
    made: dict[tuple[int, int, int], Tensor] = {}  # layers that keep the same sets share one tensor
    live = []
    for index, layer in enumerate(cache.layers):
        rows = kept.layer(index)
        key = (id(rows), layer.first, layer.keys.shape[1])
        if key not in made:
            made[key] = _live(_of_heads(rows, layer.keys.shape[1]), layer.first, end)
        live.append(made[key])
    return live


def _live(rows: Tensor, first: int, end: int) -> Tensor:
    is_dead = (rows < first) | (rows >= end)
    order = is_dead.byte().sort(dim=1, stable=True).indices
    return rows.masked_fill(is_dead, -1).gather(1, order)[:, : int((~is_dead).sum(dim=1).max())]


def _of_heads(rows: Tensor, heads: int) -> Tensor:
    """One row for all heads, or one per head: a cache with fewer heads than others has each of its rows repeatedly."""
    if len(rows) in (1, heads):
        return rows
    if len(rows) % heads == 0 and torch.equal(
        rows, (own := rows[:: len(rows) // heads]).repeat_interleave(len(rows) // heads, dim=0)
    ):
        return own
    raise BadInput(f"kept positions of {len(rows)} heads: a layer of {heads} KV heads needs 1 or {heads}")


def gather(cache: PrefillCache, rows: Sequence[Sequence[Tensor]], first_new: int, room: int) -> list[LayerBuffer]:
    """Pruned buffers of several cells, the kept entries copied from the prefill cache.

    Args:
        cache: of the prefill.
        rows: for every row its positions per layer, as `live_positions` gives them.
        first_new: position of the first decoded token.
        room: decoded tokens, a refed prompt token included.
    """
    placed: dict[tuple[object, ...], Tensor] = {}  # layers that keep the same sets share one tensor of positions
    buffers = []
    for index, layer in enumerate(cache.layers):
        sets = [row[index] for row in rows]
        key = (layer.keys.device, *map(id, sets))
        if key not in placed:
            placed[key] = _place(sets, first_new, room, layer.keys.device)
        buffers.append(_gather_layer(layer, placed[key], room))
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


def _gather_layer(layer: RoomyLayer, positions: Tensor, room: int) -> LayerBuffer:
    heads, width = layer.keys.shape[1], positions.shape[2] - room
    chosen_slots = positions[..., :width] - layer.first
    source = chosen_slots.masked_fill(positions[..., :width] < 0, 0)  # padding copies any entry: it is masked
    gathered = []
    for states in (layer.keys, layer.values):
        buffer = states.new_empty(len(positions), heads, width + room, states.shape[3])
        for row, chosen in enumerate(source):
            if len(chosen) == 1:
                buffer[row, :, :width] = states[0].index_select(1, chosen[0])
            else:
                buffer[row, :, :width] = states[0].gather(1, chosen[..., None].expand(-1, -1, states.shape[3]))
        gathered.append(buffer)
    return LayerBuffer(gathered[0], gathered[1], positions, width, 0, bool((positions < 0).any()))


class HeldLayer(NamedTuple):
    """One layer's keys and values of rows whose slots are used again: [rows, Hkv, slots, D] each."""

    keys: Tensor
    values: Tensor


def gather_held(layer: RoomyLayer, positions: Tensor) -> HeldLayer:
    """Keys and values at `positions`, [rows, 1 or more, slots]; what stands in slots of -1 is finite and no entry.

    Neither is what stands for a position that a sliding layer has left behind: no later token can see it.
    """
    own = positions.to(layer.keys.device)
    own = own if own.shape[1] == 1 else own[:, :: own.shape[1] // layer.keys.shape[1]]
    source = (own - layer.first).clamp(min=0).expand(-1, layer.keys.shape[1], -1)[..., None]
    taken = (
        states.expand(len(own), -1, -1, -1).gather(2, source.expand(-1, -1, -1, states.shape[3]))
        for states in (layer.keys, layer.values)
    )
    return HeldLayer(*taken)


class StepCache(HybridCache):
    """What the model takes for its cache while cells decode together: keys and values of the new token pass through it.

    Args:
        states: recurrent states of the rows, which are read on.
    """

    def __init__(self, states: StateLayers) -> None:
        super().__init__([], None, states)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """The states as they came: each group of rows appends them to its own buffers."""
        return key_states, value_states
