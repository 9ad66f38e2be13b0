"""Decay horizons against decays multiplied out token by token, and against what a model does to its own state."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from vorn.records import BadInput
from vorn.snapshots.decay import envelopes, horizons, main, prefill_log_decays
from vorn.snapshots.material import prompts
from vorn.snapshots.states import Reader, State, keys_and_values, restore, snapshot
from vorn.snapshots.tiny import VOCABULARY, tiny_model

TOKENS = 40


def test_a_horizon_is_where_a_thousandth_is_left() -> None:
    decays = [0.5, 0.9, 0.958, 0.9995]
    counted = []
    for decay in decays:
        left, tokens = 1.0, 0
        while left > 1e-3:
            left, tokens = left * decay, tokens + 1
        counted.append(tokens)
    for decay, tokens in zip(decays, counted, strict=True):
        assert math.ceil(horizons(torch.tensor([decay], dtype=torch.float64)).median) == tokens
    found = horizons(torch.tensor(decays, dtype=torch.float64))
    assert (found.heads, found.share_within_512, found.share_beyond_8192) == (4, 0.75, 0.25)


@pytest.mark.parametrize(("family", "heads"), [("qwen3_5", 3 * 4), ("mamba2", 3 * 8)])
def test_envelopes_follow_the_formula_head_by_head(family: str, heads: int) -> None:
    model = tiny_model(family)
    wanted = []
    weights = dict(model.named_parameters())
    for name, rate in weights.items():
        if name.endswith("A_log"):
            bias = weights[name.replace("A_log", "dt_bias")]
            for a, b in zip(rate.tolist(), bias.tolist(), strict=True):
                wanted.append(math.exp(-math.exp(a) * math.log1p(math.exp(b))))
    assert len(wanted) == heads
    assert torch.cat([*envelopes(model).values()]).tolist() == pytest.approx(wanted, rel=1e-9)


def test_a_model_without_such_heads_is_refused() -> None:
    with pytest.raises(BadInput, match="MambaForCausalLM has no head with A_log and dt_bias"):
        envelopes(tiny_model("mamba"))


def pushed(state: State, place: int, push: torch.Tensor) -> State:
    """The state with `push` added to every head of one linear layer."""
    layers = list(state.layers)
    conv, recurrent, kernels = layers[place] or ({}, {}, {})
    layers[place] = (conv, {index: one + push for index, one in recurrent.items() if one is not None}, kernels)
    return State(state.depth, tuple(layers))


@pytest.mark.integration
@pytest.mark.parametrize("family", ["qwen3_next", "bamba", "mamba2"])
@pytest.mark.filterwarnings("ignore::UserWarning:transformers")
def test_decays_of_a_prefill_are_what_the_model_does_to_its_state(family: str) -> None:
    """Oracle: two steps of one token from states that differ by a push; the difference shrinks by the decay.

    Mamba 2 multiplies it by the decay alone. A gated delta net also projects one direction out of it, which leaves the
    largest singular value of a pushed identity alone.
    """
    reader = Reader(tiny_model(family))
    (ids,) = prompts("", VOCABULARY, tokens=TOKENS, count=1, text=None)
    found = prefill_log_decays(reader, ids)
    assert all(one.shape[0] == TOKENS for one in found.values())
    cache = reader.fresh()
    reader.read(ids[:-1], cache, 0)
    before, kv = snapshot(cache, TOKENS - 1), keys_and_values(cache)
    places = [place for place, layer in enumerate(before.layers) if layer]
    assert len(places) == len(found)
    for place, decays in zip(places, found.values(), strict=True):
        push, after = torch.eye(16), []
        for state in (before, pushed(before, place, push)):
            resumed = restore(reader, state, kv)
            reader.read(ids[-1:], resumed, TOKENS - 1)
            layer = snapshot(resumed, TOKENS).layers[place]
            assert layer is not None
            after += [one[0].double() for one in layer[1].values() if one is not None]
        largest = torch.linalg.matrix_norm(after[1] - after[0], ord=2)  # [heads]
        assert torch.allclose(decays[-1].exp(), largest, rtol=1e-3, atol=1e-5)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::UserWarning:transformers")
def test_the_command_writes_every_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny/mamba2", "--prefill", "30", "--out", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "decay.csv").read_text().splitlines()))
    assert len(rows) == said["parameters"]["heads"] == said["prefill"]["heads"] == 24
    for kind, column in (("parameters", "envelope_horizon"), ("prefill", "prefill_horizon")):
        assert said[kind]["median"] == pytest.approx(statistics.median(float(row[column]) for row in rows))
    assert rows[0]["prefill_horizon"] != rows[0]["envelope_horizon"]
    assert all((tmp_path / name).stat().st_size for name in ("decay.png", "decay.svg"))
    assert main(["tiny/mamba2", "--text", "x"]) == 1
    assert "--text='x' without --prefill" in capsys.readouterr().err
    assert main(["tiny/mamba2", "--prefill", "0"]) == 1
    assert "--prefill=0: legal is at least 1 token" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::UserWarning:transformers")
def test_a_model_in_a_folder_is_as_the_one_that_was_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model("nemotron_h").save_pretrained(tmp_path)
    said = []
    for name in ("tiny/nemotron_h", str(tmp_path)):
        assert main([name, "--prefill", "30"]) == 0
        said.append(capsys.readouterr().out.splitlines()[-1])
    assert said[0] == said[1]
    text = tmp_path / "text.txt"
    text.write_text("The lake lies still.")
    assert main([str(tmp_path), "--prefill", "3", "--text", str(text)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "vorn.snapshots.decay:" in line]
    assert "has no tokenizer (" in line
    assert line.endswith("leave --text out to read random tokens")


def test_a_text_is_cut_into_prompts(tmp_path: Path, pocket_tokenizer: Any) -> None:
    pocket_tokenizer.save_pretrained(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("The lake lies still. " * 30)
    whole = pocket_tokenizer(text.read_text(), add_special_tokens=False)["input_ids"]
    found = prompts(str(tmp_path), VOCABULARY, tokens=20, count=3, text=text)
    assert [one for prompt in found for one in prompt] == whole[:60]
    with pytest.raises(BadInput, match=rf"has {len(whole)} tokens, and 3 prompts of 9000 take 27000"):
        prompts(str(tmp_path), VOCABULARY, tokens=9000, count=3, text=text)
    with pytest.raises(BadInput, match=r"nowhere' is no file"):
        prompts(str(tmp_path), VOCABULARY, tokens=9, count=1, text=tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"has no tokenizer"):
        prompts(str(tmp_path / "empty"), VOCABULARY, tokens=9, count=1, text=text)
    with pytest.raises(BadInput, match=r"--tokens=0: legal is"):
        prompts("", VOCABULARY, tokens=0, count=1, text=None)
