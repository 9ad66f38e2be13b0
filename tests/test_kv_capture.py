from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, HYBRIDS, NOISE, WINDOW, prompt, tiny_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vorn.kv import attention as attention_module
from vorn.kv.attention import ColumnSums, LastAttention
from vorn.kv.capture import Prefill, prefill
from vorn.kv.retention import Kept, keep_all
from vorn.kv.signals import ModelShape, Residual, Signal
from vorn.records import BadInput

TOKENS = 2 * WINDOW + 5
ALL: frozenset[Signal] = frozenset({Residual(1), Residual(2), LastAttention(), ColumnSums()})
families = pytest.mark.parametrize("family", list(FAMILIES))


def read(family: str, chunk_tokens: int | None = None, wanted: frozenset[Signal] = ALL) -> Prefill:
    return prefill(tiny_model(family), prompt(TOKENS), wanted, chunk_tokens=chunk_tokens, room=4, seed=0)


@families
@pytest.mark.parametrize(("chunk_tokens", "block"), [(None, 128), (None, 9), (20, 9), (7, 128), (1, 128)])
def test_attention_signals_equal_eager_attention(
    family: str, chunk_tokens: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "BLOCK_ROWS", block)
    with torch.no_grad():
        eager = tiny_model(family, "eager")(prompt(TOKENS), output_attentions=True)
    got = read(family, chunk_tokens).signals
    attentions = [one for one in eager.attentions if one is not None]  # [1, H, T, T] of the layers that have attention
    assert len(attentions) == got[LastAttention()].shape[0]
    for layer, attention in enumerate(attentions):
        noise = NOISE.get(family, 1)
        torch.testing.assert_close(got[LastAttention()][layer], attention[0, :, -1], rtol=0, atol=5e-6 * noise)
        torch.testing.assert_close(got[ColumnSums()][layer], attention[0].sum(dim=1), rtol=0, atol=2e-5 * noise)


@families
def test_residual_is_the_hidden_state_after_its_layer_bit_for_bit(family: str) -> None:
    with torch.no_grad():
        hidden = tiny_model(family)(prompt(TOKENS), output_hidden_states=True).hidden_states
    below_last = range(len(hidden) - 2)  # the last one comes after the final norm
    got = read(family, wanted=frozenset(map(Residual, below_last))).signals
    for layer in below_last:
        # A hybrid's last token is read by itself, for the state before it, and is rounded otherwise.
        apart = 2e-5 * NOISE.get(family, 1) if family in HYBRIDS else 0.0
        torch.testing.assert_close(got[Residual(layer)], hidden[layer + 1][0], rtol=0, atol=apart)
        assert not torch.equal(got[Residual(layer)], hidden[layer][0])


@families
def test_prefill_is_the_ordinary_forward(family: str) -> None:
    with torch.no_grad():
        want = tiny_model(family)(prompt(TOKENS)).logits[0, -1]
    torch.testing.assert_close(read(family).last_logits, want, rtol=0, atol=1e-5)


@families
@pytest.mark.parametrize("chunk_tokens", [20, 1])
def test_chunks_equal_the_whole(family: str, chunk_tokens: int) -> None:
    whole, chunked = read(family), read(family, chunk_tokens)
    noise = NOISE.get(family, 1) if family in HYBRIDS else 1
    torch.testing.assert_close(chunked.last_logits, whole.last_logits, rtol=0, atol=5e-5 * noise)
    for signal in ALL:
        torch.testing.assert_close(chunked.signals[signal], whole.signals[signal], rtol=1e-5, atol=5e-5 * noise)
    for one, other in zip(chunked.cache.layers, whole.cache.layers, strict=True):
        assert (one.get_seq_length(), one.first) == (TOKENS, other.first)
        used = slice(TOKENS - one.first)
        torch.testing.assert_close(one.keys[:, :, used], other.keys[:, :, used], rtol=0, atol=5e-5 * noise)
        torch.testing.assert_close(one.values[:, :, used], other.values[:, :, used], rtol=0, atol=5e-5 * noise)


class Bomb:
    """A signal whose accumulator fails in the middle of the forward."""

    residual_layers = frozenset({2})

    def accumulator(self, shape: ModelShape, prompt_tokens: int) -> Bomb:
        return self

    def on_attention(self, layer: int, call: object) -> None:
        pass

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        raise KeyboardInterrupt


def traces(model: PreTrainedModel) -> tuple[dict[str, object], list[int]]:
    """What a prefill could leave behind: overridden attention functions and hooks of the decoder's layers."""
    return dict(ALL_ATTENTION_FUNCTIONS._local_mapping), [len(x._forward_hooks) for x in model.get_decoder().layers]


class Witness(Bomb):
    """Notes the traces while the forward runs."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.seen: tuple[dict[str, object], list[int]] = ({}, [])

    def on_residual(self, layer: int, hidden: Tensor, first: int) -> None:
        self.seen = traces(self.model)

    def result(self) -> Tensor:
        return torch.zeros(0)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_nothing_stays_behind(family: str) -> None:
    # A model of its own: transformers leaves hooks on models that were asked for their hidden states.
    model = tiny_model.__wrapped__(family)
    witness = Witness(model)
    prefill(model, prompt(TOKENS), frozenset({witness}), chunk_tokens=None, room=0, seed=0)
    assert list(witness.seen[0]) == [model.config._attn_implementation]
    assert witness.seen[1] == [0, 0, 1, 0]
    assert traces(model) == ({}, [0] * 4)
    with pytest.raises(KeyboardInterrupt):
        prefill(model, prompt(TOKENS), frozenset({Bomb(), Residual(1)}), chunk_tokens=None, room=0, seed=0)
    assert traces(model) == ({}, [0] * 4)


def test_an_override_that_was_there_before_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def theirs(*args: Tensor, **kwargs: object) -> object:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", theirs)
    read("llama")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is theirs
    assert len(calls) == 4  # once per layer: ours calls theirs


def test_an_attention_without_mask_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_model("mistral").config
    name = "no_mask"
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, name, ALL_ATTENTION_FUNCTIONS["sdpa"])
    monkeypatch.setattr(config, "_attn_implementation_internal", name)
    assert name not in ALL_MASK_ATTENTION_FUNCTIONS
    with pytest.raises(BadInput, match=r"model.attn_implementation='no_mask': transformers has no mask function.*sdpa"):
        read("mistral")


def test_an_unknown_attention_argument_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    attention = model.get_decoder().layers[0].self_attn
    forward = attention.forward
    monkeypatch.setattr(attention, "forward", lambda *args, **kwargs: forward(*args, s_aux=1, **kwargs))
    with pytest.raises(BadInput, match="attention takes s_aux"):
        read("llama")


def test_bad_arguments_are_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(BadInput, match=r"input_ids have shape \(2, 3\)"):
        prefill(model, torch.zeros(2, 3, dtype=torch.long), frozenset(), chunk_tokens=None, room=0, seed=0)
    with pytest.raises(BadInput, match=r"prefill.chunk_tokens=0"):
        prefill(model, prompt(5), frozenset(), chunk_tokens=0, room=0, seed=0)
    with pytest.raises(BadInput, match="room=-1"):
        prefill(model, prompt(5), frozenset(), chunk_tokens=None, room=-1, seed=0)
    model.train()
    try:
        with pytest.raises(BadInput, match="training mode"):
            prefill(model, prompt(5), frozenset(), chunk_tokens=None, room=0, seed=0)
    finally:
        model.eval()


def test_an_undeclared_signal_is_refused() -> None:
    with pytest.raises(BadInput, match=r"signal LastAttention\(queries=1\) was not captured.*Residual\(layer=1\)"):
        read("llama", wanted=frozenset({Residual(1)})).signals[LastAttention()]


def test_kv_bytes_count_what_is_kept() -> None:
    cache = read("llama").cache
    entry = 2 * 16 * 4  # key and value, head_dim 16, float32
    assert cache.kv_bytes(keep_all(TOKENS)) == 4 * 2 * TOKENS * entry  # 4 layers, 2 KV heads
    uneven = Kept((torch.tensor([[0, 3, -1], [1, 2, 3]]), *[torch.tensor([[5]])] * 3), TOKENS)
    assert cache.kv_bytes(uneven) == (5 + 3 * 2) * entry
