"""Recurrent states beside the caches: what is copied for a cell, and models that lose theirs."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, HYBRIDS, NOISE, prompt, tiny_model
from transformers import DynamicCache, FalconH1Config, FalconH1ForCausalLM, JambaConfig, JambaForCausalLM

from vorn.kv.capture import prefill
from vorn.kv.probe import check_states
from vorn.kv.recurrent import new_states, repeated
from vorn.memory import Relief
from vorn.module import EvictionModule
from vorn.records import BadInput
from vorn.work import Reading

TOKENS = 31


@pytest.mark.parametrize("family", HYBRIDS)
def test_states_are_those_of_an_ordinary_forward(family: str) -> None:
    model = tiny_model(family)
    read = prefill(model, prompt(TOKENS), frozenset(), chunk_tokens=13, room=4, seed=0)
    assert sorted(read.states) == [TOKENS - 1, TOKENS]
    for tokens in read.states:
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(prompt(TOKENS)[:, :tokens], past_key_values=cache, use_cache=True)
        for layer, states in read.states_at(tokens).items():
            for kind in ("conv_states", "recurrent_states"):
                got, want = getattr(states, kind)[0], getattr(cache.layers[layer], kind)[0]
                torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5 * NOISE.get(family, 1))


def test_what_a_row_makes_of_its_copy_changes_no_other() -> None:
    read = prefill(tiny_model("bamba"), prompt(TOKENS), frozenset(), chunk_tokens=None, room=4, seed=0)
    before = read.states_at(TOKENS)[0].recurrent_states[0].clone()
    rows = repeated(read.states_at(TOKENS), [4, 7, 9])
    state = rows.layers[0].recurrent_states[0]
    assert state.shape[0] == 3
    state[1] += 1.0
    assert torch.equal(read.states_at(TOKENS)[0].recurrent_states[0], before)
    left = rows.of([7, 9]).layers[0].recurrent_states[0]
    assert torch.equal(left, torch.cat([before + 1.0, before]))
    assert rows.of([7, 9]).rows == (7, 9)


def test_nothing_read_is_no_state() -> None:
    rows = repeated(new_states({0: 1}), [0, 1])
    assert rows.layers[0].recurrent_states[0] is None
    assert not rows.layers[0].has_previous_state[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_keep_their_states_pass(family: str, dtype: torch.dtype) -> None:
    check_states(tiny_model(family, dtype=dtype))


def test_a_deep_model_passes_in_half_precision() -> None:
    """Of 16 layers, where rounding grows."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = FalconH1ForCausalLM(
            FalconH1Config(
                vocab_size=64, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
                head_dim=16, num_hidden_layers=16, mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1,
                mamba_d_state=16, mamba_chunk_size=16, initializer_range=0.15,
            )
        )  # fmt: skip
    check_states(model.eval().to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_loses_its_states_is_refused_with_the_reason(dtype: torch.dtype) -> None:
    model = _jamba().to(dtype)
    with pytest.raises(BadInput, match=r"JambaForCausalLM loses its recurrent state: how it reads 2 tokens"):
        check_states(model)


def test_a_panel_is_refused_before_anything_is_measured() -> None:
    reading = Reading(
        evaluation_id="e", model="m", task="t", grade="ruler_all@2", max_new_tokens=1, max_cells=1, max_bytes=1,
        chunk_tokens=None,
    )  # fmt: skip
    module = EvictionModule(_jamba(), None, frozenset(), [], reading, Relief((), (), 1.0))
    with pytest.raises(BadInput, match="loses its recurrent state"):
        module.setup("predict")


def test_blocks_that_layers_share_are_refused() -> None:
    from vorn.snapshots.tiny import tiny_model as of_snapshots

    with pytest.raises(BadInput, match=r"Zamba2ForCausalLM cannot be read .* blocks that several layers share"):
        check_states(of_snapshots("zamba2"))


def _jamba() -> JambaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return JambaForCausalLM(
            JambaConfig(
                vocab_size=64,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=4,
                num_attention_heads=2,
                num_key_value_heads=2,
                attn_layer_period=4,
                attn_layer_offset=2,
                expert_layer_period=4,
                expert_layer_offset=3,
                num_experts=2,
                mamba_d_state=8,
                initializer_range=0.15,
                pad_token_id=None,
                bos_token_id=None,
                eos_token_id=None,
            )
        ).eval()
