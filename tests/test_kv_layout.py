"""What a model's layers cache: read from its configuration, checked while it reads."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import CACHE_OF, FAMILIES, WINDOW, prompt, tiny_model
from transformers import Gemma4TextConfig, GPTNeoXConfig, Llama4TextConfig, Mamba2Config

from vorn.kv import capture
from vorn.kv.attention import LastAttention
from vorn.kv.capture import prefill
from vorn.kv.layout import Layout, layout, model_shape
from vorn.kv.signals import ModelShape, PrefillSignals, Signal
from vorn.records import BadInput

TOKENS, ROOM = WINDOW + 9, 3
W = WINDOW


def read(family: str, chunk_tokens: int | None = None) -> capture.Prefill:
    return prefill(tiny_model(family), prompt(TOKENS), frozenset(), chunk_tokens=chunk_tokens, room=ROOM, seed=0)


@pytest.mark.parametrize(
    ("family", "shape", "windows"),
    [
        ("llama", ModelShape(4, 4, 2), [None] * 4),
        ("mistral", ModelShape(4, 4, 2), [W] * 4),
        ("qwen2_window", ModelShape(4, 4, 2), [None, None, W, W]),
        ("gemma3_wrapped", ModelShape(5, 4, 2), [W, W, None, W, None]),
        ("gemma4_wrapped", ModelShape(6, 4, 2, CACHE_OF["gemma4"]), [W, None, W, None]),
        ("gemma4_kv", ModelShape(4, 8, 4, None, (4, 2, 4, 2)), [W, None, W, None]),
    ],
)
def test_layout(family: str, shape: ModelShape, windows: list[int | None]) -> None:
    assert layout(tiny_model(family)) == Layout(shape, tuple(windows))


@pytest.mark.parametrize(("family", "states"), [("bamba", [0, 2]), ("nemotron_h", [0]), ("falcon_h1", [0, 1, 2])])
def test_the_layout_of_a_hybrid_tells_attention_from_states(family: str, states: list[int]) -> None:
    attends, depth = ((1, 3), 4) if family != "falcon_h1" else (None, None)  # Falcon H1 has both in every layer
    shape = ModelShape(len(attends or range(3)), 4, 2, attends=attends, decoder_layers=depth)
    assert layout(tiny_model(family)) == Layout(shape, (None,) * shape.layers, dict.fromkeys(states, 1))
    assert shape.depth == len(tiny_model(family).get_decoder().layers)


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(BadInput, match="no layer has attention"):
        layout(without_weights(Mamba2Config(num_hidden_layers=3), 3))


def without_weights(config: Any, layers: int) -> Any:
    return SimpleNamespace(get_decoder=lambda: SimpleNamespace(config=config, layers=[None] * layers))


def test_without_grouped_queries_every_query_head_has_a_kv_head() -> None:
    config = GPTNeoXConfig(num_attention_heads=8, num_hidden_layers=3)
    assert model_shape(without_weights(config, 3)) == ModelShape(layers=3, query_heads=8, kv_heads=8)


def test_attention_in_chunks_is_refused() -> None:
    config = Llama4TextConfig(num_hidden_layers=4)
    with pytest.raises(BadInput, match="layer 0 is of type 'chunked_attention'"):
        layout(without_weights(config, 4))


@pytest.mark.parametrize(
    "modes", [["reuse", "store", "store", None], [None, "store", "reuse", None], [None, None, None, "reuse_a_part"]]
)
def test_unknown_sharing_is_refused(modes: list[str | None]) -> None:
    class Sharing(Gemma4TextConfig):
        kv_sharing_modes = modes

    with pytest.raises(BadInput, match=r"shares keys and values in a way|of type 'dummy'"):
        layout(without_weights(Sharing(num_hidden_layers=4, layer_types=["full_attention"] * 4), 4))


def test_heads_that_do_not_divide_are_refused() -> None:
    config = Gemma4TextConfig(
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        num_attention_heads=6,
        num_key_value_heads=3,
        attention_k_eq_v=True,
        num_global_key_value_heads=2,
    )
    with pytest.raises(BadInput, match=r"layers have \[2, 3\] KV heads"):
        layout(without_weights(config, 2))


def test_a_layer_that_reads_another_cache_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    true = layout(tiny_model("gemma4"))
    false = replace(true, shape=replace(true.shape, cache_of=(0, 1, 2, 3, 0, 3)))
    monkeypatch.setattr(capture, "layout", lambda model: false)
    with pytest.raises(BadInput, match="its layer 4 does not read the keys of layer 0"):
        read("gemma4")


def test_a_window_that_is_not_the_configured_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model("ministral").get_decoder().layers[2].self_attn, "sliding_window", 8)
    with pytest.raises(BadInput, match=r"its layer 2 attends through a window of 8 positions.*says 24"):
        read("ministral")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk_tokens", [None, 7])
def test_a_sliding_layer_keeps_its_window_and_no_more(family: str, chunk_tokens: int | None) -> None:
    windows = layout(tiny_model(family)).windows
    for layer, window in zip(read(family, chunk_tokens).cache.layers, windows, strict=True):
        kept = TOKENS if window is None else window
        assert layer.keys.shape[2] == layer.values.shape[2] == kept + ROOM
        assert layer.first == TOKENS - kept


def test_scores_of_layers_that_share_a_cache_and_of_rows_that_share_a_head_are_averaged() -> None:
    cache_of, heads_of = (0, 1, 2, 1, 2, 1), (4, 2, 1)
    shape = ModelShape(layers=6, query_heads=8, kv_heads=4, cache_of=cache_of, heads_of=heads_of)
    scores = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0))
    got = shape.per_cache(scores)
    assert got.shape == (3, 4, 5)
    for cache, heads in enumerate(heads_of):
        for row in range(4):
            same = [r for r in range(4) if r * heads // 4 == row * heads // 4]
            terms = [scores[layer, r] for layer in range(6) if cache_of[layer] == cache for r in same]
            torch.testing.assert_close(got[cache, row], sum(terms) / len(terms))
    assert torch.equal(shape.per_cache(scores[:1, :1]), scores[:1, :1])  # one set for all
    assert shape.per_cache(scores[:1]).shape == (3, 4, 5)  # one for all layers, but not for all heads
    assert shape.per_cache(scores[:, :1]).shape == (3, 1, 5)


def test_a_policy_gets_scores_per_cache() -> None:
    class Scorer:
        def needs(self, shape: ModelShape) -> frozenset[Signal]:
            return frozenset({LastAttention()})

        def __call__(self, signals: PrefillSignals) -> torch.Tensor:
            return signals[LastAttention()].mean(dim=1, keepdim=True)

    read = prefill(
        tiny_model("gemma4"), prompt(TOKENS), Scorer().needs(None), chunk_tokens=None, room=0, seed=0
    ).signals
    by_layer = Scorer()(read)
    assert by_layer.shape == (6, 1, TOKENS)
    torch.testing.assert_close(read.scores(Scorer())[2:], (by_layer[2:4] + by_layer[4:]) / 2)
