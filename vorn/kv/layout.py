"""How a model's decoder layers keep keys and values, as its configuration tells: windows, shared caches, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from vorn.kv.signals import ModelShape
from vorn.records import BadInput

_FULL, _SLIDING = "full_attention", "sliding_attention"
_BOTH = ("hybrid", "hybrid_sliding")  # attention and a recurrent state side by side
_ATTENDING = (_FULL, _SLIDING, *_BOTH)
_RECURRENT = ("linear_attention", "conv", *_BOTH)
_WITHOUT = "dummy"  # no memory of other tokens at all: experts or a perceptron alone


@dataclass(frozen=True)
class Layout:
    """Sizes of a model's decoder, and what each of its caches holds.

    Attributes:
        shape: layers, heads, and which cache each layer reads.
        windows: positions that a query sees through each cache, itself included; None for all.
        states: recurrent states of each decoder layer that has some.
    """

    shape: ModelShape
    windows: tuple[int | None, ...]
    states: Mapping[int, int] = field(default_factory=dict)


def layout(model: PreTrainedModel) -> Layout:
    """What the decoder of a causal LM keeps.

    Raises: BadInput for layers that are neither softmax attention over all positions or a sliding window nor keep a
        recurrent state, or that share a cache in an unknown way; and for a model without attention.
    """
    config = model.get_decoder().config
    layers = len(model.get_decoder().layers)
    kinds, settings = get_layer_types_and_kwargs(config)
    cache_of = _cache_of(config, layers)
    owners = sorted(set(cache_of))
    for index in owners:
        if kinds[index] not in (*_ATTENDING, *_RECURRENT, _WITHOUT):
            raise BadInput(
                f"model: its layer {index} is of type {kinds[index]!r}; a cache is pruned exactly beside layers of "
                f"{', '.join(sorted({*_ATTENDING, *_RECURRENT}))} alone; choose a model with these layers only"
            )
    attends = [index for index in range(layers) if kinds[cache_of[index]] in _ATTENDING]
    states = {index: settings[index]["number_of_states"] for index in range(layers) if kinds[index] in _RECURRENT}
    if len(attends) < layers:
        _check_hybrid(attends, cache_of)
        owners, cache_of = attends, list(range(len(attends)))
    kv_heads = [_kv_heads(config, index) for index in owners]
    most = max(kv_heads)
    if any(most % heads for heads in kv_heads):
        raise BadInput(
            f"model: its layers have {sorted(set(kv_heads))} KV heads, of which one count does not divide the largest, "
            "so that kept sets per head cannot be told; choose another model"
        )
    shape = ModelShape(
        len(attends),
        config.num_attention_heads,
        most,
        None if cache_of == list(range(len(attends))) else tuple(cache_of),
        None if min(kv_heads) == most else tuple(kv_heads),
        None if len(attends) == layers else tuple(attends),
        None if len(attends) == layers else layers,
    )
    return Layout(shape, tuple(settings[index].get("sliding_window") for index in owners), states)


def _check_hybrid(attends: Sequence[int], cache_of: Sequence[int]) -> None:
    """Raises BadInput for a model with layers without attention that has no others, or in which some share a cache."""
    if not attends:
        raise BadInput("model: no layer has attention, so that there are no keys and values to evict; choose another")
    if list(cache_of) != list(range(len(cache_of))):
        raise BadInput(
            "model: it has recurrent layers, and layers that share keys and values, which is not known here together; "
            "choose another model"
        )


def model_shape(model: PreTrainedModel) -> ModelShape:
    """Layers, query heads, KV heads and caches of a causal LM's decoder."""
    return layout(model).shape


def _kv_heads(config: PretrainedConfig, layer: int) -> int:
    # Architectures without grouped queries have no such field: every query head has its own KV head.
    own = config.per_layer_config[layer]
    return getattr(own, "num_key_value_heads", None) or int(own.num_attention_heads)


def _cache_of(config: PretrainedConfig, layers: int) -> list[int]:
    """The layer whose cache each layer reads: its own, or that of the storing layer of its type.

    Whether the model really does so is checked while it reads a prompt.
    """
    modes: Sequence[str | None] = getattr(config, "kv_sharing_modes", None) or [None] * layers
    stored: dict[str, int] = {}
    cache_of: list[int] = []
    for index, mode in enumerate(modes):
        if mode == "store":
            stored[config.layer_types[index]] = index
        if mode == "reuse" and index > max(cache_of, default=-1) and config.layer_types[index] in stored:
            cache_of.append(stored[config.layer_types[index]])
        elif mode in (None, "store") and len(set(cache_of)) == index:
            cache_of.append(index)
        else:
            raise BadInput(
                f"model: its layer {index} shares keys and values in a way ({mode!r}) that is not known here; "
                "choose a model whose last layers read the caches of earlier ones"
            )
    return cache_of
