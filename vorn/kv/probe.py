"""Whether a hybrid model goes on from its recurrent states, as reading in pieces and decoding rely on."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from vorn.kv.capture import Reader
from vorn.kv.layout import layout
from vorn.kv.recurrent import new_states
from vorn.records import BadInput

_TOKENS, _FIRST = 24, 11
_LEAST_CONTRAST = 10.0  # times that forgetting must move the logits more than going on does


@torch.inference_mode()
def check_states(model: PreTrainedModel) -> None:
    """Reads random tokens at once, in two pieces, and in two pieces with the state lost between them.

    Args:
        model: in eval mode.
    Raises: BadInput if the two pieces are not far nearer to the whole with the state than without it.
    """
    plan = layout(model)
    if not plan.states:
        return
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (1, _TOKENS), generator=torch.Generator().manual_seed(0)).to(model.device)
    positions = torch.arange(_TOKENS, device=model.device)

    def last_logits(first: int, *, forgets: bool) -> torch.Tensor:
        reader = Reader(model, plan, [], _TOKENS, 0)
        if first:
            reader.read(ids[:, :first], positions[:first])
        if forgets:
            reader.cache.states = new_states(plan.states)
        return reader.read(ids[:, first:], positions[first:]).float()

    whole = last_logits(0, forgets=False)
    kept, lost = ((last_logits(_FIRST, forgets=one) - whole).abs().max().item() for one in (False, True))
    if not kept * _LEAST_CONTRAST <= lost:
        raise BadInput(
            f"model {type(model).__name__} loses its recurrent state: reading {_TOKENS - _FIRST} tokens after "
            f"{_FIRST} others changes a logit by {kept:.2g}, and by {lost:.2g} without the state. Jamba is known for "
            "it: its scan starts from zero whenever it reads more than one token; choose another model"
        )
