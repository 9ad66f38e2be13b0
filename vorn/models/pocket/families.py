"""The pocket models' architectures, random but for what would take long to learn.

In each of them embeddings of tokens of a kind have a part in common, and the heads of the first layer begin as looks
at the 1st, 2nd, ... token before (`look_back`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)

OFFSET_PAIRS = 6  # rotary pairs, from the fastest on, that the first layer's heads begin with
OFFSET_SHARPNESS = 14.0  # their attention logit at its peak

# First chunk of a number, later chunk, second word of a key, other words; what is left is a kind of its own.
_KINDS = (r"\u0120\d+", r"\d+", r"-[a-z]+", r"\u0120[a-z]+")


def llama(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A Llama of about 1.4M parameters."""
    torch.manual_seed(seed)
    return _prepared(LlamaForCausalLM(LlamaConfig(**_common(tokenizer))), tokenizer)


def qwen3(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The same size as a Qwen3: queries and keys are normalised per head, after their biases."""
    torch.manual_seed(seed)
    model = _prepared(Qwen3ForCausalLM(Qwen3Config(**_common(tokenizer))), tokenizer)
    # A normalised query and key score at most sqrt(width) times their norms' weights: what the biases were to score.
    first = model.model.layers[0].self_attn
    with torch.no_grad():
        for norm in (first.q_norm, first.k_norm):
            norm.weight.fill_(math.sqrt(OFFSET_SHARPNESS / math.sqrt(model.config.head_dim)))
    return model


def gemma2(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The same size as a Gemma 2: soft caps of 50 and 30, every other layer from the first on sees 256 tokens."""
    torch.manual_seed(seed)
    config = Gemma2Config(
        **_common(tokenizer),
        query_pre_attn_scalar=32,
        sliding_window=256,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )
    return _prepared(Gemma2ForCausalLM(config), tokenizer)


FAMILIES: dict[str, Callable[[PreTrainedTokenizerBase, int], PreTrainedModel]] = {
    "llama": llama,
    "qwen3": qwen3,
    "gemma2": gemma2,
}


def _common(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The configuration that all families share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "attention_bias": True,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _prepared(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    # Without it, that numbers follow keys would have to be learned a thousand times, once for each number.
    table = model.get_input_embeddings().weight
    kinds = torch.randn(len(_KINDS) + 1, table.shape[1]) * table.std()
    with torch.no_grad():
        table += kinds[[kind(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]]
        look_back(model)
    return model


def look_back(model: PreTrainedModel) -> None:
    """Set the first layer's query and key biases so that head h attends to h + 1 tokens before.

    A rotary score of two constant vectors depends on the distance d alone: the sum of cos(theta_i (d - d0)) over the
    rotary pairs i peaks at d0 if the query is the key rotated back by d0.
    """
    attention, config = model.model.layers[0].self_attn, model.config
    half = config.head_dim // 2
    angle = model.model.rotary_emb.inv_freq[:OFFSET_PAIRS]
    size = math.sqrt(OFFSET_SHARPNESS * math.sqrt(config.head_dim) / OFFSET_PAIRS)
    keys = attention.k_proj.bias.view(config.num_key_value_heads, 2, half)
    queries = attention.q_proj.bias.view(config.num_attention_heads, 2, half)
    keys[:, 0, :OFFSET_PAIRS] = size
    distance = torch.arange(1, config.num_attention_heads + 1)[:, None]
    queries[:, 0, :OFFSET_PAIRS] = size * torch.cos(distance * angle)
    queries[:, 1, :OFFSET_PAIRS] = -size * torch.sin(distance * angle)


def kind(token: str) -> int:
    """Which of a few kinds of tokens this is, by its spelling."""
    return next((number for number, form in enumerate(_KINDS) if re.fullmatch(form, token)), len(_KINDS))
