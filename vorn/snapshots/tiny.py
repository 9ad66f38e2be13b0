"""Tiny random hybrid models of the real architectures, the same weights in every process; for trying the engine out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from vorn.choices import unknown
from vorn.records import BadInput

VOCABULARY = 128
_TINY = "tiny/"

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.04,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_GATED_DELTA: dict[str, Any] = {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
_MAMBA: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}


def _make(name: str, config: str, **settings: Any) -> PreTrainedModel:
    model: PreTrainedModel = getattr(transformers, name)(getattr(transformers, config)(**settings))
    return model


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen3_next": lambda: _make("Qwen3NextForCausalLM", "Qwen3NextConfig", **_COMMON, **_GATED_DELTA, **_EXPERTS),
    "qwen3_5": lambda: _make("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", **_COMMON, **_GATED_DELTA),
    "bamba": lambda: _make(
        "BambaForCausalLM", "BambaConfig", **_COMMON, **_MAMBA, num_hidden_layers=4, attn_layer_indices=[2]
    ),
    "zamba2": lambda: _make(
        "Zamba2ForCausalLM", "Zamba2Config",
        **{name: value for name, value in _COMMON.items() if name != "num_key_value_heads"},
        num_key_value_heads=4, num_hidden_layers=4, layers_block_type=["mamba", "mamba", "hybrid", "mamba"],
        num_mem_blocks=1, n_mamba_heads=8, mamba_headdim=16, mamba_d_state=16, mamba_ngroups=1, chunk_size=16,
        use_long_context=False, attention_head_dim=32, use_shared_attention_adapter=False,
    ),
    "granite_hybrid": lambda: _make(
        "GraniteMoeHybridForCausalLM", "GraniteMoeHybridConfig", **_COMMON, **_MAMBA, num_hidden_layers=4,
        layer_types=["mamba", "mamba", "attention", "mamba"], num_local_experts=4, num_experts_per_tok=2,
        shared_intermediate_size=32,
    ),
    "nemotron_h": lambda: _make(
        "NemotronHForCausalLM", "NemotronHConfig", **_COMMON, head_dim=16, mamba_num_heads=8, mamba_head_dim=16,
        ssm_state_size=16, n_groups=1, chunk_size=16, layers_block_type=["mamba", "attention", "mamba", "moe"],
        n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, moe_shared_expert_intermediate_size=32,
    ),
    "falcon_h1": lambda: _make(
        "FalconH1ForCausalLM", "FalconH1Config", **_COMMON, head_dim=16, num_hidden_layers=3, mamba_d_ssm=128,
        mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=16, mamba_chunk_size=16,
    ),
    "mamba2": lambda: _make(
        "Mamba2ForCausalLM", "Mamba2Config", vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_heads=8,
        head_dim=16, state_size=16, n_groups=1, chunk_size=16, initializer_range=0.04, pad_token_id=None,
        bos_token_id=None, eos_token_id=None,
    ),
    "jamba": lambda: _make(
        "JambaForCausalLM", "JambaConfig", **_COMMON, num_hidden_layers=4, attn_layer_period=4, attn_layer_offset=2,
        expert_layer_period=4, expert_layer_offset=3, num_experts=2, mamba_d_state=16, mamba_expand=2,
        use_mamba_kernels=False,
    ),
    "mamba": lambda: _make(
        "MambaForCausalLM", "MambaConfig", vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, state_size=16,
        pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.04,
    ),
    "falcon_mamba": lambda: _make(
        "FalconMambaForCausalLM", "FalconMambaConfig", vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3,
        state_size=16, pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.04,
    ),
}  # fmt: skip


def tiny_model(family: str) -> PreTrainedModel:
    """A random fp32 model in eval mode. Raises BadInput for an unknown family."""
    if family not in FAMILIES:
        raise unknown("tiny model", family, FAMILIES, "Write engine.model=tiny/FAMILY, a folder, or a Hub id.")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(20)
        model = FAMILIES[family]()
        for name, weight in model.named_parameters():
            if weight.dim() >= 2 and "conv" not in name:
                weight.data.mul_(3.0)  # so that states matter
    return model.float().eval().requires_grad_(False)


def load_model(name: str, revision: str | None) -> PreTrainedModel:
    """`tiny/FAMILY`, a local folder, or a Hub id, in float32 and eval mode; weights as safetensors alone.

    Raises: BadInput for a model that is not there, or cannot be loaded.
    """
    if name.startswith(_TINY):
        return tiny_model(name.removeprefix(_TINY))
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"model {name!r} cannot be loaded ({reason}); give {_TINY}FAMILY ({', '.join(FAMILIES)}), a folder written "
            "by save_pretrained with safetensors, or an id on the Hugging Face Hub"
        ) from error
    return model.eval().requires_grad_(False)
