"""The place where a model's attention function gives way to another, and what such a one may be asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vorn.kv.signals import ModelShape
from vorn.records import BadInput

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


# Keyword arguments of attention functions that leave its formula alone.
_HARMLESS = frozenset(
    {
        "dropout",
        "position_ids",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "is_causal",
    }
)


@contextmanager
def overridden_attention(
    model: PreTrainedModel, replace: Callable[[AttentionFunction], AttentionFunction]
) -> Iterator[None]:
    """Within it, the model's attention function is `replace(original)`; whatever happens, it is undone.

    The implementation's name stays as it is, so masks and every check of the name behave as in an ordinary forward.
    Raises BadInput if the implementation has no mask function: windows and chunks would silently be ignored.
    """
    name = model.get_decoder().config._attn_implementation
    if name not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise BadInput(
            f"model.attn_implementation={name!r}: transformers has no mask function for it, so sliding windows and "
            f"chunks would be ignored; choose one of {', '.join(sorted(ALL_MASK_ATTENTION_FUNCTIONS.keys()))}"
        )
    local = ALL_ATTENTION_FUNCTIONS._local_mapping
    saved = {name: local[name]} if name in local else {}
    original = ALL_ATTENTION_FUNCTIONS.get(name, _eager)
    local[name] = replace(original)
    try:
        yield
    finally:
        del local[name]
        local.update(saved)


def _eager(module: nn.Module, *args: Tensor | None, **kwargs: object) -> tuple[Tensor, Tensor | None]:
    """The eager attention of the module's own architecture, which transformers registers under no name."""
    eager: AttentionFunction = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, *args, **kwargs)


def layer_index(module: nn.Module, shape: ModelShape) -> int:
    """Which of the layers with attention a module of attention belongs to, 0-based.

    Raises: BadInput if it says a layer that has none by the model's configuration.
    """
    index: int = module.layer_idx  # type: ignore[assignment]
    if shape.attends is None:
        return index
    if index not in shape.attends:
        raise BadInput(
            f"model: an attention says that it is of layer {index}, and layers with attention are {shape.attends}; "
            "blocks that several layers share are not known here; choose another model"
        )
    return shape.attends.index(index)


def check_arguments(kwargs: dict[str, object]) -> None:
    """Raises BadInput for arguments that would change the attention formula in a way this project does not know."""
    unknown = sorted(name for name, value in kwargs.items() if value is not None and name not in _HARMLESS)
    if unknown:
        raise BadInput(
            f"model: its attention takes {', '.join(unknown)}, which capture and decoding here do not implement; "
            "choose a model whose attention is a softmax with optional soft cap and sliding window"
        )
