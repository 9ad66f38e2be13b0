"""Tiny random models of the real architectures, the same weights in every process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Ministral3Config,
    Ministral3ForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    SiglipVisionConfig,
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
_SLIDING_LAST = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]


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


def _gemma3_config() -> Gemma3TextConfig:
    return Gemma3TextConfig(
        **_COMMON, num_hidden_layers=5, sliding_window=WINDOW, query_pre_attn_scalar=25, layer_types=_MIXED
    )


def _gemma3_wrapped() -> PreTrainedModel:
    """The class that AutoModelForCausalLM makes of a Gemma 3 checkpoint that can see; it is read as text only."""
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    text = {**_gemma3_config().to_dict(), "pad_token_id": None}
    return _make(Gemma3ForConditionalGeneration, Gemma3Config(text_config=text, vision_config=vision.to_dict()))


def _gemma4_config() -> Gemma4TextConfig:
    """Like Gemma 4 E: per-layer inputs, wider heads in full layers, and the last layers read caches of earlier ones."""
    return Gemma4TextConfig(
        **_COMMON,
        num_hidden_layers=6,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 3,
        num_kv_shared_layers=2,
        global_head_dim=32,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB,
        use_double_wide_mlp=True,
        final_logit_softcapping=30.0,
    )


def _gemma4_kv() -> PreTrainedModel:
    """Like the large Gemma 4: full layers take their keys for values, and have fewer KV heads than sliding ones."""
    config = Gemma4TextConfig(
        **{**_COMMON, "num_attention_heads": 8, "num_key_value_heads": 4},
        num_hidden_layers=4,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 2,
        attention_k_eq_v=True,
        num_global_key_value_heads=2,
        global_head_dim=32,
        hidden_size_per_layer_input=0,
    )
    return _make(Gemma4ForCausalLM, config)


def _gemma4_wrapped() -> PreTrainedModel:
    """The class that AutoModelForCausalLM makes of a Gemma 4 checkpoint, without its towers for images and sound."""
    text = {**_gemma4_config().to_dict(), "pad_token_id": 0}
    config = Gemma4Config(text_config=text, vision_config=None, audio_config=None)
    return _make(Gemma4ForConditionalGeneration, config)


def _ministral3() -> PreTrainedModel:
    config = Ministral3Config(
        **_COMMON,
        num_hidden_layers=4,
        max_position_embeddings=128,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "llama_4_scaling_beta": 0.3,
            "original_max_position_embeddings": 16,  # queries beyond it are scaled: their position reaches attention
        },
    )
    return _make(Ministral3ForCausalLM, config)


def _qwen3_moe() -> PreTrainedModel:
    config = Qwen3MoeConfig(
        **_COMMON,
        num_hidden_layers=3,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
    )
    return _make(Qwen3MoeForCausalLM, config)


_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}
_GATED_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
}


def _hybrids() -> dict[str, Callable[[], PreTrainedModel]]:
    """Recurrent layers and layers with attention; the class of each by its name."""
    return {
        "qwen3_next": lambda: _make(
            Qwen3NextForCausalLM,
            Qwen3NextConfig(
                **_COMMON,
                **_GATED_DELTA,
                num_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=32,
                shared_expert_intermediate_size=32,
            ),
        ),
        "qwen3_5": lambda: _make(Qwen3_5ForCausalLM, Qwen3_5TextConfig(**_COMMON, **_GATED_DELTA)),
        "bamba": lambda: _make(
            BambaForCausalLM,
            BambaConfig(**_no_head_dim(), **_MAMBA, num_hidden_layers=4, attn_layer_indices=[1, 3]),
        ),
        "granite_hybrid": lambda: _make(
            GraniteMoeHybridForCausalLM,
            GraniteMoeHybridConfig(
                **_no_head_dim(),
                **_MAMBA,
                num_hidden_layers=4,
                layer_types=["mamba", "attention", "mamba", "attention"],
                num_local_experts=4,
                num_experts_per_tok=2,
                shared_intermediate_size=32,
            ),
        ),
        "nemotron_h": lambda: _make(
            NemotronHForCausalLM,
            NemotronHConfig(
                **_COMMON,
                mamba_num_heads=8,
                mamba_head_dim=16,
                ssm_state_size=16,
                n_groups=1,
                chunk_size=16,
                time_step_min=1e-9,  # a bound that its scan of several tokens has, and its step of one has not
                layers_block_type=["mamba", "attention", "moe", "attention"],
                n_routed_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=32,
                moe_shared_expert_intermediate_size=32,
            ),
        ),
        "falcon_h1": lambda: _make(
            FalconH1ForCausalLM,
            FalconH1Config(
                **_COMMON,
                num_hidden_layers=3,
                mamba_d_ssm=128,
                mamba_n_heads=8,
                mamba_d_head=16,
                mamba_n_groups=1,
                mamba_d_state=16,
                mamba_chunk_size=16,
            ),
        ),
    }


def _make(architecture: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    return architecture(config).eval()


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: _make(LlamaForCausalLM, LlamaConfig(**_COMMON, num_hidden_layers=4)),
    "mistral": lambda: _make(MistralForCausalLM, MistralConfig(**_COMMON, num_hidden_layers=4, sliding_window=WINDOW)),
    "mistral_full": lambda: _make(
        MistralForCausalLM, MistralConfig(**_COMMON, num_hidden_layers=3, sliding_window=None)
    ),
    "ministral": lambda: _make(
        MinistralForCausalLM,
        MinistralConfig(**_COMMON, num_hidden_layers=4, sliding_window=WINDOW, layer_types=_MIXED[1:]),
    ),
    "ministral3": _ministral3,
    "qwen2": lambda: _make(Qwen2ForCausalLM, Qwen2Config(**_no_head_dim(), num_hidden_layers=3)),
    "qwen2_window": lambda: _make(
        Qwen2ForCausalLM,
        Qwen2Config(
            **_no_head_dim(), num_hidden_layers=4, sliding_window=WINDOW, use_sliding_window=True, max_window_layers=2
        ),
    ),
    "qwen3": lambda: _make(Qwen3ForCausalLM, Qwen3Config(**_COMMON, num_hidden_layers=4)),
    "qwen3_moe": _qwen3_moe,
    "gemma2": _gemma2,  # soft-capped attention, which has no SDPA form and runs eagerly
    "gemma3": lambda: _make(Gemma3ForCausalLM, _gemma3_config()),
    "gemma3_wrapped": _gemma3_wrapped,
    "gemma4": lambda: _make(Gemma4ForCausalLM, _gemma4_config()),
    "gemma4_kv": _gemma4_kv,
    "gemma4_wrapped": _gemma4_wrapped,
    **_hybrids(),
}


def _no_head_dim() -> dict[str, object]:
    return {key: value for key, value in _COMMON.items() if key != "head_dim"}


# Which cache each layer reads, for the models in which some layers have none of their own.
CACHE_OF: Mapping[str, tuple[int | None, ...]] = {
    "gemma4": (0, 1, 2, 3, 2, 3),
    "gemma4_wrapped": (0, 1, 2, 3, 2, 3),
    **dict.fromkeys(["qwen3_next", "qwen3_5", "bamba", "granite_hybrid", "nemotron_h"], (None, 0, None, 1)),
}


# How many times the others' tolerance float32 needs: Gemma 4 does not scale its dot products down, and Ministral 3
# scales those of far positions up, so that their scores are larger and round more; gated delta nets divide by norms of
# small states. Measured: up to 5, 2 and 3 times; in float64 Qwen 3.5 alone differs from itself in a panel by 3e-15.
NOISE: Mapping[str, int] = {
    "gemma4": 6, "gemma4_kv": 6, "gemma4_wrapped": 6, "ministral3": 3, "qwen3_next": 6, "qwen3_5": 6,
}  # fmt: skip
HYBRIDS = tuple(_hybrids())


@functools.cache
def tiny_model(family: str, attention: str | None = None, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model in eval mode; the same weights, but for rounding, whatever attention implementation and dtype."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = FAMILIES[family]()
    model.requires_grad_(False).to(dtype)
    if attention is not None:
        model.set_attn_implementation(attention)
    return model


def prompt(tokens: int, seed: int = 0) -> torch.Tensor:
    """Random token ids [1, tokens]."""
    return torch.randint(VOCAB, (1, tokens), generator=torch.Generator().manual_seed(seed))
