"""Whether a hybrid model goes on from its recurrent states, as reading in pieces and decoding rely on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vorn.kv.capture import Reader
from vorn.kv.layout import layout
from vorn.kv.recurrent import forget_recurrent, new_states
from vorn.records import BadInput

# Few tokens follow the cut, since many would outlive the state: in half precision rounding would hide that it is gone.
_TOKENS, _FIRST = 24, 22
_LEAST_CONTRAST = 10.0  # times that forgetting must move the logits more than going on does


@torch.inference_mode()
def check_states(model: PreTrainedModel) -> None:
    """Reads random tokens at once, in two pieces, and in two pieces with the states lost between them.

    Args:
        model: in eval mode.
    Raises: BadInput if the model cannot be read so, if it does not look at its states when it reads several tokens, or
        if the two pieces are not far nearer to the whole with the states than without them.
    """
    plan = layout(model)
    if not plan.states:
        return
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (1, _TOKENS), generator=torch.Generator().manual_seed(0)).to(model.device)
    positions = torch.arange(_TOKENS, device=model.device)

    def last_logits(first: int, between: Callable[[Reader], None] | None = None) -> Tensor:
        reader = Reader(model, plan, [], _TOKENS, 0)
        if first:
            reader.read(ids[:, :first], positions[:first])
        if between is not None:
            between(reader)
        return reader.read(ids[:, first:], positions[first:]).float()

    def lose(reader: Reader) -> None:
        reader.cache.states = new_states(plan.states)

    name = type(model).__name__
    try:
        whole, kept, lost = last_logits(0), last_logits(_FIRST), last_logits(_FIRST, lose)
        blind = last_logits(_FIRST, lambda reader: forget_recurrent(reader.cache.states))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        said = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        raise BadInput(f"model {name} cannot be read with a cache of this project's ({said}); use another") from error
    if torch.equal(blind, kept):
        raise BadInput(
            f"model {name} loses its recurrent state: how it reads {_TOKENS - _FIRST} tokens does not depend on it, as "
            "is known of Jamba, whose scan starts from zero whenever it reads more than one token; choose another model"
        )
    near, far = ((one - whole).abs().max().item() for one in (kept, lost))
    if not near * _LEAST_CONTRAST < far:
        raise BadInput(
            f"model {name} does not go on from its states as if it had read everything at once: a logit differs by "
            f"{near:.2g}, and by {far:.2g} if the states are lost; choose another model, or model.dtype=float32"
        )
