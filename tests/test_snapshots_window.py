"""Window replays against models that really read the window alone, and against the exact state."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from vorn.records import BadInput
from vorn.snapshots.material import prompts
from vorn.snapshots.states import Reader, State, keys_and_values, snapshot
from vorn.snapshots.tiny import VOCABULARY, tiny_model
from vorn.snapshots.window import fidelities, head_cosines, main, window_state

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::UserWarning:transformers")]
MATCHED = 60


def recurrent(state: State) -> list[torch.Tensor]:
    return [one for layer in state.layers if layer for one in layer[1].values() if one is not None]


def read(reader: Reader, ids: list[int]) -> State:
    cache = reader.fresh()
    reader.read(ids, cache, 0)
    return snapshot(cache, len(ids))


def test_without_attention_a_window_is_a_prompt_of_its_own() -> None:
    """Mamba 2 knows no positions: the oracle is a fresh model that reads the window and nothing else."""
    reader = Reader(tiny_model("mamba2"))
    ids = list(prompts("", VOCABULARY, tokens=MATCHED + 9, count=1, text=None)[0])
    exact = read(reader, ids[:MATCHED])
    kv = keys_and_values(reader.fresh())
    alone = recurrent(read(reader, ids[MATCHED - 20 : MATCHED]))
    found = window_state(reader, ids, MATCHED, 20, exact, kv)
    assert found.depth == MATCHED
    for one, other in zip(recurrent(found), alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    loop = []
    for one, other in zip(recurrent(found), recurrent(exact), strict=True):
        for left, right in zip(one[0].tolist(), other[0].tolist(), strict=True):
            a, b = ([one for row in rows for one in row] for rows in (left, right))
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            loop.append(dot / math.hypot(*a) / math.hypot(*b))
    assert head_cosines(found, exact).tolist() == pytest.approx(loop, rel=1e-9)
    assert min(loop) < 0.99


@pytest.mark.parametrize("family", ["zamba2", "qwen3_next"])
def test_a_window_over_everything_is_exact_and_a_short_one_is_not(family: str) -> None:
    reader = Reader(tiny_model(family))
    texts = prompts("", VOCABULARY, tokens=MATCHED + 9, count=2, text=None)
    short, whole = fidelities(reader, texts, [1, MATCHED], matched=MATCHED, new_tokens=3)
    assert (whole.cosine_min, whole.greedy_equal) == (pytest.approx(1.0, abs=1e-5), 2)
    assert whole.logit_difference_max <= 2e-5
    assert whole.kl_max < 1e-9
    assert short.cosine_min < 0.5
    assert short.kl_mean > 1e-7
    assert short.logit_difference_max > 1e-3


def test_the_divergence_is_that_of_the_two_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: logits of (ln 3, 0) and (0, 0) are (3/4, 1/4) and (1/2, 1/2)."""
    reader = Reader(tiny_model("mamba2"))
    given = iter([torch.tensor([math.log(3), 0.0]), torch.tensor([0.0, 0.0])])
    plain = reader.read

    def scripted(ids: list[int], cache: object, start: int) -> torch.Tensor:
        logits = plain(ids, cache, start)  # type: ignore[arg-type]
        return next(given) if len(ids) == 9 else logits

    monkeypatch.setattr(reader, "read", scripted)
    texts = prompts("", VOCABULARY, tokens=MATCHED + 9, count=1, text=None)
    (row,) = fidelities(reader, texts, [5], matched=MATCHED, new_tokens=1)
    assert row.kl_mean == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)
    assert row.logit_difference_max == pytest.approx(math.log(3))


def test_the_command_prints_and_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--matched", "30", "--tokens", "34", "--prompts", "2", "--new", "2"]
    assert main(["tiny/mamba2", "--tau", "4", "30", *sizes, "--out", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = list(csv.DictReader((tmp_path / "window.csv").read_text().splitlines()))
    assert [row["tau"] for row in rows] == ["4", "30"]
    assert [float(row["kl_mean"]) for row in rows] == [one["kl_mean"] for one in said]
    assert main(["tiny/mamba2", "--tau", "31", *sizes]) == 1
    assert "--tau=31: legal is 1 to --matched=30" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"--matched=34 of prompts of 34 tokens: legal is 1 to 33"):
        fidelities(Reader(tiny_model("mamba2")), [[1] * 34], [4], matched=34, new_tokens=2)


def test_what_cannot_resume_exactly_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A window beside a resume that has lost its state would say nothing."""
    assert main(["tiny/jamba", "--tau", "4", "--matched", "30", "--tokens", "34", "--prompts", "1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "JambaForCausalLM loses its recurrent state" in said.err
