"""Published policies on tiny models against loops over eager attention and a plain transformers cache."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from tiny_models import WINDOW, prompt, tiny_model
from torch import Tensor
from transformers import DynamicCache

from vorn.kv.capture import prefill
from vorn.kv.layout import model_shape
from vorn.kv.scorers.attention_mass import AttentionMass
from vorn.kv.scorers.expected_attention import ExpectedAttention
from vorn.kv.scorers.h2o import H2O
from vorn.kv.scorers.keydiff import KeyDiff
from vorn.kv.scorers.knorm import Knorm
from vorn.kv.scorers.snapkv import SnapKV
from vorn.kv.scorers.tova import Tova
from vorn.kv.signals import PrefillSignals, Scorer
from vorn.records import BadInput

TOKENS = 2 * WINDOW + 5
FAMILIES = ("llama", "qwen3", "gemma3")  # plain; query and key norm; norm, sliding layers and two kinds of RoPE
families = pytest.mark.parametrize("family", FAMILIES)
chunks = pytest.mark.parametrize("chunk_tokens", [None, 7])


def read(family: str, scorer: Scorer, chunk_tokens: int | None = None) -> PrefillSignals:
    model = tiny_model(family)
    wanted = scorer.needs(model_shape(model))
    return prefill(model, prompt(TOKENS), wanted, chunk_tokens=chunk_tokens, room=1, seed=0).signals


@functools.cache
def entries(family: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keys and values [Hkv, T, D] of each layer, as an ordinary forward stores them."""
    cache = DynamicCache()
    with torch.no_grad():
        tiny_model(family)(prompt(TOKENS), past_key_values=cache)
    pairs = [(layer.keys[0].double().numpy(), layer.values[0].double().numpy()) for layer in cache.layers]
    return [keys for keys, _ in pairs], [values for _, values in pairs]


@functools.cache
def eager_attention(family: str) -> list[np.ndarray]:
    """[H, T, T] of each layer."""
    with torch.no_grad():
        out = tiny_model(family, "eager")(prompt(TOKENS), output_attentions=True)
    return [attention[0].double().numpy() for attention in out.attentions]


def compare(got: Tensor, want: list[np.ndarray], rtol: float = 1e-4, atol: float = 1e-5) -> None:
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), np.stack(want), rtol=rtol, atol=atol)


@families
@chunks
def test_knorm_is_minus_the_norm_of_the_stored_key(family: str, chunk_tokens: int | None) -> None:
    scorer = Knorm()
    want = [[[-math.sqrt(sum(x * x for x in key)) for key in head] for head in layer] for layer in entries(family)[0]]
    compare(scorer(read(family, scorer, chunk_tokens)), np.array(want))


@families
@chunks
def test_keydiff_is_minus_the_cosine_with_the_mean_unit_key(family: str, chunk_tokens: int | None) -> None:
    scorer = KeyDiff()
    want = []
    for layer in entries(family)[0]:
        rows = []
        for head in layer:
            mean = sum(key / math.sqrt(key @ key) for key in head) / len(head)
            rows.append([-(key @ mean) / math.sqrt((key @ key) * (mean @ mean)) for key in head])
        want.append(rows)
    compare(scorer(read(family, scorer, chunk_tokens)), np.array(want))


def snapkv_by_hand(attention: np.ndarray, window: int, kernel: int, pooling: str, position: int) -> float:
    """Score of one position from [H, T, T] attention of one KV head's queries, by the published order of steps."""
    heads, tokens, _ = attention.shape
    total = 0.0
    for head in range(heads):
        near = [
            sum(attention[head, row, place] for row in range(tokens - window, tokens))
            for place in range(position - kernel // 2, position + kernel // 2 + 1)
            if 0 <= place < tokens - window
        ]
        total += max(near) if pooling == "max" else sum(near) / kernel
    return total / heads


@families
@pytest.mark.parametrize(("pooling", "kernel", "window"), [("avg", 5, 11), ("max", 7, 30), ("avg", 1, 1)])
@chunks
def test_snapkv_sums_rows_drops_the_window_pools_and_averages_groups(
    family: str, pooling: str, kernel: int, window: int, chunk_tokens: int | None
) -> None:
    scorer = SnapKV(window=window, kernel=kernel, pooling=pooling)
    got = scorer(read(family, scorer, chunk_tokens))
    before = TOKENS - window
    want = [
        [[snapkv_by_hand(layer[g : g + 2], window, kernel, pooling, p) for p in range(before)] for g in (0, 2)]
        for layer in eager_attention(family)
    ]
    compare(got[..., :before], np.array(want))
    for layer in got:
        for head in layer:
            assert head[before:].min() > layer[:, :before].max()
            assert head[before:].tolist() == sorted(head[before:].tolist())


def pre_rotary_queries(family: str) -> list[np.ndarray]:
    """[H, T, D] of each layer, from hooks on the modules whose output RoPE turns."""
    model, found, handles = tiny_model(family), [], []
    for layer in model.get_decoder().layers:
        attention = layer.self_attn
        module = getattr(attention, "q_norm", None) or attention.q_proj

        def keep(module: object, inputs: object, output: Tensor) -> None:
            states = output[0].reshape(TOKENS, -1, 16) if output.shape[1] == TOKENS else output[0].transpose(0, 1)
            found.append(states.transpose(0, 1).double().numpy())

        handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            model(prompt(TOKENS))
    finally:
        for handle in handles:
            handle.remove()
    return found


def mean_rotation(family: str, layer: int, positions: range) -> np.ndarray:
    """[D, D] matrix, entry by entry from the definition of RoPE."""
    config = tiny_model(family).config
    parameters = config.rope_parameters
    base = (parameters.get(config.layer_types[layer], parameters) if family == "gemma3" else parameters)["rope_theta"]
    matrix = np.zeros((16, 16))
    for position in positions:
        for pair in range(8):
            angle = position * base ** (-2 * pair / 16)
            matrix[pair, pair] += math.cos(angle)
            matrix[pair + 8, pair + 8] += math.cos(angle)
            matrix[pair, pair + 8] -= math.sin(angle)
            matrix[pair + 8, pair] += math.sin(angle)
    return matrix / len(positions)


@families
@chunks
@pytest.mark.parametrize(("sinks", "epsilon"), [(4, 0.0), (0, 0.02)])
def test_expected_attention_is_its_formula(family: str, chunk_tokens: int | None, sinks: int, epsilon: float) -> None:
    scorer = ExpectedAttention(sinks=sinks, future=20, epsilon=epsilon)
    got = scorer(read(family, scorer, chunk_tokens))
    keys, values = entries(family)
    queries = pre_rotary_queries(family)
    want = []
    for layer in range(len(keys)):
        turn = mean_rotation(family, layer, range(TOKENS, TOKENS + 20))
        scaling = tiny_model(family).get_decoder().layers[layer].self_attn.scaling
        rows = np.zeros((2, TOKENS - sinks))
        for head in range(4):
            seen = queries[layer][head, sinks:]
            mean, covariance = seen.mean(axis=0), np.cov(seen.T, bias=True)
            products = []
            for key in keys[layer][head // 2, sinks:]:
                linear = key @ (turn @ mean) * scaling
                products.append(linear + scaling**2 / 2 * key @ (turn @ covariance @ turn.T) @ key)
            weights = np.exp(np.array(products) - max(products))
            rows[head // 2] += weights / weights.sum() / 2
        want.append([(rows[g] + epsilon) * np.linalg.norm(values[layer][g, sinks:], axis=1) for g in (0, 1)])
    compare(got[..., sinks:], np.array(want), rtol=2e-3, atol=1e-6)
    for layer in got:
        for head in layer:
            assert head[:sinks].tolist() == sorted(head[:sinks].tolist(), reverse=True)
            assert sinks == 0 or head[:sinks].min() > layer[:, sinks:].max()


@pytest.mark.parametrize("chunk_tokens", [None, 7])
@pytest.mark.parametrize(
    ("layers", "heads", "queries"),
    [("all", "mean", 1), ("final", "mean", 1), ("1+final", "group", 9), ("50%", "3", 70), ("0", "group", None)],
)
def test_attention_mass_sums_what_it_names(layers: str, heads: str, queries: int | None, chunk_tokens: int) -> None:
    scorer = AttentionMass(layers=layers, heads=heads, queries=queries)
    if queries == 70:  # more than the prompt has
        with pytest.raises(BadInput, match=rf"queries=70 .*more than a prompt of {TOKENS} tokens has"):
            scorer(read("llama", scorer, chunk_tokens))
        return
    got = scorer(read("llama", scorer, chunk_tokens))
    rows = range(TOKENS) if queries is None else range(TOKENS - queries, TOKENS)
    attention = eager_attention("llama")
    sets = {"all": [[0], [1], [2], [3]], "final": [[3]], "1+final": [[1, 3]], "0": [[0]]}[layers]
    groups = {"mean": [[0, 1, 2, 3]], "group": [[0, 1], [2, 3]]}[heads]
    want = [
        [sum(attention[layer][head, row] for layer in one for head in group for row in rows) / len(one) / len(group)
         for group in groups]
        for one in sets
    ]  # fmt: skip
    compare(got, np.array(want))


def test_attention_mass_of_a_single_head_and_its_refusals() -> None:
    scorer = AttentionMass(layers="50%", heads="3", queries=2)
    got = scorer(read("llama", scorer))
    compare(got, [eager_attention("llama")[2][3, -2:].sum(axis=0)[None]])
    for changes, message in (
        ({"heads": "4"}, "query heads 0 to 3"),
        ({"layers": "4"}, "layers of an attention-mass policy=4: the model has layers with attention 0 to 3"),
        ({"layers": "1+1"}, "names layer 1 twice"),
        ({"layers": "last"}, "'last' names no layer"),
        ({"layers": "100%"}, "layers with attention 0 to 3"),
        ({"layers": "-1"}, "'-1' names no layer"),
        ({"layers": "1.5"}, "'1.5' names no layer"),
    ):
        with pytest.raises(BadInput, match=message):
            read("llama", AttentionMass(**{"layers": "all", "heads": "mean", "queries": 1} | changes))
    for changes in ({"heads": "both"}, {"queries": 0}, {"queries": "last"}):
        with pytest.raises(BadInput, match="of an attention-mass policy"):
            AttentionMass(**{"layers": "all", "heads": "mean", "queries": 1} | changes)


@pytest.mark.parametrize(
    ("published", "general"),
    [
        (Tova(), AttentionMass(layers="all", heads="mean", queries=1)),
        (H2O(), AttentionMass(layers="all", heads="group", queries=None)),
        # After the prompt alone there was one step, whose last query is the prompt's.
        (Tova(), AttentionMass(layers="all", heads="mean", queries="steps")),
    ],
)
def test_tova_and_h2o_are_cases_of_attention_mass(published: Scorer, general: Scorer) -> None:
    want = published(read("gemma3", published))
    for chunk_tokens in (None, 10):
        torch.testing.assert_close(general(read("gemma3", general, chunk_tokens)), want, rtol=0, atol=2e-5)
    assert torch.equal(general(read("gemma3", general)), want)


def test_refusals_of_parameters() -> None:
    for make, message in (
        (lambda: SnapKV(window=0, kernel=5, pooling="avg"), "window=0 of a SnapKV policy"),
        (lambda: SnapKV(window=8, kernel=4, pooling="avg"), "kernel=4 .*odd number"),
        (lambda: SnapKV(window=8, kernel=5, pooling="mean"), "pooling='mean' .*legal values are avg, max"),
        (lambda: ExpectedAttention(sinks=-1, future=1, epsilon=0.0), "expected_attention.sinks=-1"),
        (lambda: ExpectedAttention(sinks=0, future=0, epsilon=0.0), "expected_attention.future=0"),
        (lambda: ExpectedAttention(sinks=0, future=1, epsilon=-1.0), "expected_attention.epsilon=-1.0"),
    ):
        with pytest.raises(BadInput, match=message):
            make()
    for scorer in (
        SnapKV(window=TOKENS, kernel=5, pooling="avg"),
        ExpectedAttention(sinks=TOKENS, future=4, epsilon=0.0),
    ):
        with pytest.raises(BadInput, match=rf"{TOKENS}.* the prompt"):
            scorer(read("llama", scorer))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rotary_emb": None}, "it has none"),
        ({"rope_type": "dynamic"}, "depends on the length of the text"),
        ({"head_dim": 8}, "it turns 8 of 16 dimensions"),
    ],
)
def test_a_rotation_that_cannot_be_undone_is_refused(
    changes: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = tiny_model("llama").get_decoder()
    rotary = decoder.rotary_emb
    if "rope_type" in changes:
        monkeypatch.setattr(rotary, "rope_type", "dynamic")
    from vorn.kv.rotary import LayerRotation

    if "rotary_emb" in changes:
        monkeypatch.setattr(type(decoder), "rotary_emb", None, raising=False)
        monkeypatch.delitem(decoder._modules, "rotary_emb")
    if "head_dim" in changes:
        monkeypatch.setattr(rotary, "forward", lambda like, positions: (torch.ones(1, 5, 8), torch.ones(1, 5, 8)))
    with pytest.raises(BadInput, match=reason):
        LayerRotation(decoder, 0, 16).tables(torch.arange(5))
