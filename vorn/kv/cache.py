"""The key/value caches: the prefill's, with room to go on, and the pruned ones of cells that decode together."""

from __future__ import annotations

from weakref import ref

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from vorn.kv.layout import Layout
from vorn.kv.recurrent import HybridCache, new_states
from vorn.kv.retention import Kept


class RoomyLayer(CacheLayerMixin):
    """Keys and values of one layer in buffers with room: decoding appends in place instead of copying everything.

    Without a window every position is kept. With one, the last `window` positions are: the prompt's last token, which
    may be fed again, sees just these, and no later token sees further back; an earlier position is lost for nobody.
    """

    def __init__(self, prompt_tokens: int, room: int, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None and window < prompt_tokens
        self.most = window if window is not None and self.is_sliding else prompt_tokens
        self.slots = self.most + room
        self.first = 0  # position in slot 0
        self.length = 0  # slots in use
        self._handed_out: ref[Tensor] | None = None  # not the tensor itself, which would live on until the next chunk

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Makes the buffers, of the first states' heads, widths, dtype and device."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (
            states.new_empty(*states.shape[:2], self.slots, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """The states of all positions that the new ones can see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        seen = self._slide(key_states, value_states) if self.is_sliding else self._append(key_states, value_states)
        self._handed_out = ref(seen[0])
        return seen

    def has_handed_out(self, keys: Tensor) -> bool:
        """Whether these are the very keys that the last update returned."""
        return self._handed_out is not None and self._handed_out() is keys

    def _append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _slide(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.length:
            keys, values = (
                torch.cat([old[:, :, : self.length], new], dim=2)
                for old, new in ((self.keys, keys), (self.values, values))
            )
        self.length = min(self.most, keys.shape[2])
        self.first += keys.shape[2] - self.length
        self.keys[:, :, : self.length] = keys[:, :, -self.length :]
        self.values[:, :, : self.length] = values[:, :, -self.length :]
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that the next queries are given, and the place of the first of them."""
        return self.length + query_length, self.first

    def get_seq_length(self) -> int:
        """Positions that were read, those left behind among them."""
        return self.first + self.length

    def get_max_length(self) -> int:
        """Slots that there are."""
        return self.slots


class PrefillCache(HybridCache):
    """Keys and values of a prompt, as far as a later token can see them, with room for what `full` generates.

    Args:
        plan: the model's layout.
        prompt_tokens: positions of the prompt.
        room: positions after it.
    """

    def __init__(self, plan: Layout, prompt_tokens: int, room: int) -> None:
        layers = [RoomyLayer(prompt_tokens, room, window) for window in plan.windows]
        super().__init__(layers, plan.shape.attends, new_states(plan.states))
        self.capacity = prompt_tokens + room

    def slot_bytes(self) -> list[int]:
        """Bytes of one position's keys and values over all KV heads, per layer."""
        return [
            layer.keys.shape[1] * (layer.keys.shape[3] + layer.values.shape[3]) * layer.keys.element_size()
            for layer in self.layers
        ]

    def bytes_of(self, tokens: int) -> int:
        """Bytes of the keys and values of so many tokens, as far as a next one can see them, computed."""
        counts = (tokens if layer.window is None else min(tokens, layer.window) for layer in self.layers)
        return sum(count * size for count, size in zip(counts, self.slot_bytes(), strict=True))

    def kv_bytes(self, kept: Kept, question_tokens: int = 0) -> int:
        """Bytes of the kept keys and values, and of a question's behind them, that a later token can still see."""
        total = 0.0
        for index, (layer, size) in enumerate(zip(self.layers, self.slot_bytes(), strict=True)):
            end, rows = kept.prompt_tokens + question_tokens, kept.layer(index)
            first = 0 if layer.window is None else max(0, end - layer.window)
            total += size * (int((rows >= first).sum()) / rows.shape[0] + min(question_tokens, end - first))
        return round(total)
