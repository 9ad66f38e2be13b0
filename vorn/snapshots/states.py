"""Recurrent states of hybrid models in transformers: read on, clone, restore, and a probe that they survive it.

A linear layer's states are updated in place, so that a snapshot clones them; keys and values grow by concatenation, so
that the prefix of a later tensor is the same KV and nothing is copied.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from vorn.records import BadInput

# How a model is given its cache; both are DynamicCache in transformers 5.23.
_CACHE_ARGUMENTS = ("past_key_values", "cache_params")


@dataclass(frozen=True, eq=False)
class State:
    """The recurrent state after a prefix: per linear layer, its convolution and recurrent tensors by index."""

    depth: int
    layers: tuple[tuple[dict[int, Tensor | None], dict[int, Tensor | None], dict[int, int | None]] | None, ...]

    @property
    def size_bytes(self) -> int:
        """Of all tensors."""
        kinds = [kind for layer in self.layers if layer for kind in layer[:2]]
        return sum(one.nbytes for kind in kinds for one in kind.values() if one is not None)


@dataclass(frozen=True, eq=False)
class KV:
    """Keys and values of the attention layers for a whole sequence, None for layers without."""

    layers: tuple[tuple[Tensor, Tensor] | None, ...]


class Reader:
    """Reads tokens with a model, in fp32 exactness: positions are always given, since some families forget the past."""

    def __init__(self, model: PreTrainedModel) -> None:
        """`model`: in eval mode. Raises BadInput if it takes no cache that is known here."""
        names = inspect.signature(model.forward).parameters
        found = [name for name in _CACHE_ARGUMENTS if name in names]
        if not found:
            raise BadInput(
                f"model {type(model).__name__} takes no cache: legal are models whose forward has one of "
                f"{', '.join(_CACHE_ARGUMENTS)}; choose another model"
            )
        self.model = model
        self._cache = found[0]
        self._has_positions = "position_ids" in names

    def fresh(self) -> DynamicCache:
        """An empty cache."""
        return DynamicCache(config=self.model.config)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], cache: DynamicCache, start: int) -> Tensor:
        """Logits [vocabulary] after the last of `ids`, which stand at positions start, start + 1, ..."""
        device = self.model.device
        arguments: dict[str, Any] = {self._cache: cache, "use_cache": True, "logits_to_keep": 1}
        if self._has_positions:
            arguments["position_ids"] = torch.arange(start, start + len(ids), device=device)[None]
        logits: Tensor = self.model(torch.tensor([list(ids)], device=device), **arguments).logits
        return logits[0, -1].float()

    def generate(self, logits: Tensor, cache: DynamicCache, start: int, tokens: int) -> list[int]:
        """`tokens` greedy tokens, the first from `logits`; all of them are read into the cache."""
        found: list[int] = []
        for number in range(tokens):
            found.append(int(logits.argmax()))
            logits = self.read(found[-1:], cache, start + number)
        return found


def snapshot(cache: DynamicCache, depth: int) -> State:
    """A copy of the recurrent state, which later reading cannot change."""
    layers: list[Any] = []
    for layer in cache.layers:
        if not hasattr(layer, "recurrent_states"):
            layers.append(None)
            continue
        layers.append((_cloned(layer.conv_states), _cloned(layer.recurrent_states), dict(layer.conv_kernel_size)))
    return State(depth, tuple(layers))


def _cloned(states: dict[int, Tensor | None]) -> dict[int, Tensor | None]:
    return {index: None if one is None else one.clone() for index, one in states.items()}


def emptied(state: State, depth: int) -> State:
    """The state of a model that has read nothing, said to be the one after `depth` tokens."""
    layers = [
        layer and (_zeros(layer[0]), _zeros(layer[1]), layer[2])  # None for a layer without a state
        for layer in state.layers
    ]
    return State(depth, tuple(layers))


def _zeros(states: dict[int, Tensor | None]) -> dict[int, Tensor | None]:
    return {index: None if one is None else torch.zeros_like(one) for index, one in states.items()}


def keys_and_values(cache: DynamicCache) -> KV:
    """What the attention layers hold; not copied."""
    layers = []
    for layer in cache.layers:
        keys = getattr(layer, "keys", None)
        layers.append((keys, layer.values) if keys is not None and keys.numel() else None)
    return KV(tuple(layers))


@torch.inference_mode()
def restore(reader: Reader, state: State, kv: KV) -> DynamicCache:
    """A new cache in which the first `state.depth` tokens have been read.

    Args:
        reader: of the model.
        state: of those tokens.
        kv: of a sequence that begins with them.
    """
    cache = reader.fresh()
    for layer, saved, pair in zip(cache.layers, state.layers, kv.layers, strict=True):
        if pair is not None:
            layer.update(pair[0][:, :, : state.depth], pair[1][:, :, : state.depth])
        if saved is None:
            continue
        conv, recurrent, kernels = saved
        for index, one in conv.items():
            if one is not None:
                layer.lazy_initialization(conv_states=one, state_idx=index, conv_kernel_size=kernels[index])
                layer.conv_states[index].copy_(one)
                layer.has_previous_state[index] = True
        for index, one in recurrent.items():
            if one is not None:
                layer.lazy_initialization(recurrent_states=one, state_idx=index)
                layer.recurrent_states[index].copy_(one)
    return cache


# float32 rounds differently in pieces than at once; what is rounding lies this far below what a lost state does.
_ROUNDING_SHARE = 0.01


@dataclass(frozen=True)
class Agreement:
    """How far a resume lies from readings without one: the largest difference of a logit."""

    whole: float  # to a cold prefill at once
    pieces: float  # to a cold read in the pieces in which the resumed sequence was read, nothing restored
    lost: float  # of that read, if its state is emptied before the last piece, to the cold prefill at once

    def is_exact(self, tolerance: float) -> bool:
        """Whether it is what a cold prefill gives within `tolerance`, or the rounding of its pieces and nothing else.

        A state restored wrongly differs from the same pieces; a model that loses its state between pieces differs from
        the prefill at once by as much as an emptied state does. Neither passes.
        """
        if self.whole <= tolerance:
            return True
        return self.pieces <= tolerance and self.whole <= _ROUNDING_SHARE * self.lost


@torch.inference_mode()
def read_in_pieces(reader: Reader, ids: Sequence[int], cuts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Logits [vocabulary] after `ids`, read from nothing in pieces: as they are, and with the last state emptied.

    `cuts`: where the pieces end, increasing; at least two, the last is the number of `ids`.
    """
    cache, start = reader.fresh(), 0
    for cut in cuts[:-1]:
        reader.read(ids[start:cut], cache, start)
        start = cut
    lost = restore(reader, emptied(snapshot(cache, start), start), keys_and_values(cache))
    return reader.read(ids[start:], cache, start), reader.read(ids[start:], lost, start)


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Of two tensors of one shape, element by element."""
    return float((one - other).abs().max())


@dataclass(frozen=True)
class Probe:
    """What resuming after half of a prompt does to the logits, at most."""

    right: Agreement  # must be exact
    stale_difference: float  # with the state of other tokens: must be far beyond it, or the probe sees nothing


def probe(reader: Reader, tokens: int, tolerance: float, vocabulary: int) -> Probe:
    """Resume half-way through a random prompt, with the right state and with a stale one.

    Args:
        reader: of the model.
        tokens: of the prompt.
        tolerance: largest allowed difference of a logit.
        vocabulary: token ids are drawn below it.
    Raises: BadInput, with the reason, for a model without a recurrent state, or one that loses it.
    """
    ids = torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    half, name = tokens // 2, type(reader.model).__name__
    cold = reader.read(ids, reader.fresh(), 0)
    cache = reader.fresh()
    reader.read(ids[:half], cache, 0)
    state = snapshot(cache, half)
    if not any(state.layers):
        raise BadInput(f"model {name} has no recurrent state: legal are hybrid and state-space models; choose another")
    kv = keys_and_values(cache)
    reader.read(ids[half:], cache, half)
    stale = State(half, snapshot(cache, tokens).layers)
    right, wrong = (reader.read(ids[half:], restore(reader, one, kv), half) for one in (state, stale))
    pieces, lost = read_in_pieces(reader, ids, (half, tokens))
    found = Probe(
        Agreement(largest_difference(right, cold), largest_difference(right, pieces), largest_difference(lost, cold)),
        largest_difference(wrong, cold),
    )
    if not found.right.is_exact(tolerance):
        raise BadInput(
            f"model {name} loses its recurrent state: reading {tokens - half} tokens after a restored {half} changes a "
            f"logit by {found.right.whole:.2g}, and {tolerance:g} is legal. Jamba, Mamba 1 and Falcon Mamba are known "
            "for it: their scan starts from zero whenever it reads more than one token; choose another model"
        )
    if not found.stale_difference > 10 * tolerance:
        raise BadInput(
            f"model {name}: even a wrong state changes no logit by more than {found.stale_difference:.2g}, so that "
            f"exactness within {tolerance:g} would prove nothing; choose a model whose state matters"
        )
    return found
