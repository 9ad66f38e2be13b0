"""Tiny random models of the real architectures, the same weights in every process."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 256
WINDOW = 24  # shorter than every prompt of the tests, so that sliding layers really slide

_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.15,  # large enough for logits that differ between tokens by about 1
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
# Gemma's `query_pre_attn_scalar` below differs from the head's width, so that the usual scaling would be wrong.
_MIXED = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def _gemma2() -> PreTrainedModel:
    config = Gemma2Config(
        **_COMMON,
        num_hidden_layers=4,
        sliding_window=WINDOW,
        query_pre_attn_scalar=25,
        attn_logit_softcapping=5.0,
        layer_types=_MIXED[1:],
    )
    return _make(Gemma2ForCausalLM, config)


def _gemma3() -> PreTrainedModel:
    config = Gemma3TextConfig(
        **_COMMON, num_hidden_layers=5, sliding_window=WINDOW, query_pre_attn_scalar=25, layer_types=_MIXED
    )
    return _make(Gemma3ForCausalLM, config)


def _make(architecture: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    return architecture(config).eval()


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: _make(LlamaForCausalLM, LlamaConfig(**_COMMON, num_hidden_layers=4)),
    "mistral": lambda: _make(MistralForCausalLM, MistralConfig(**_COMMON, num_hidden_layers=4, sliding_window=WINDOW)),
    "qwen3": lambda: _make(Qwen3ForCausalLM, Qwen3Config(**_COMMON, num_hidden_layers=4)),
    "gemma3": _gemma3,
    "gemma2": _gemma2,  # soft-capped attention, which has no SDPA form and runs eagerly
}


@functools.cache
def tiny_model(family: str, attention: str | None = None) -> PreTrainedModel:
    """A random fp32 model in eval mode; the same weights whatever the attention implementation."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = FAMILIES[family]()
    model.requires_grad_(False)
    if attention is not None:
        model.set_attn_implementation(attention)
    return model


def prompt(tokens: int, seed: int = 0) -> torch.Tensor:
    """Random token ids [1, tokens]."""
    return torch.randint(VOCAB, (1, tokens), generator=torch.Generator().manual_seed(seed))
