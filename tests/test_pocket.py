"""The pocket models' training data and training loop, and the checkpoint that ships."""

from __future__ import annotations

import argparse
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vorn.models.pocket.families import FAMILIES
from vorn.models.pocket.rows import IGNORED, NeedleLevel, NeedleRows, successor_rows
from vorn.models.pocket.train import LEVELS, Curriculum, Progress, Run, main
from vorn.records import BadInput

FULL = NeedleLevel(length=700, haystack=0.8)


def test_supervised_is_what_the_row_has_shown_before() -> None:
    ids, labels = successor_rows(np.random.default_rng(0), 8, 300, np.arange(500, 600))
    supervised = 0
    for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True):
        shown: dict[int, set[int]] = {}
        for symbol, following, label in zip(row, row[1:], wanted, strict=False):
            if label != IGNORED:
                assert label == following
                assert following in shown[symbol]  # its first appearance is never supervised
                supervised += 1
            shown.setdefault(symbol, set()).add(following)
    assert supervised > 8 * 300 * 0.4


def test_every_row_draws_its_own_map() -> None:
    ids, labels = successor_rows(np.random.default_rng(0), 2, 400, np.arange(24))
    maps = [
        {row[at]: label for at, label in enumerate(wanted) if label != IGNORED}
        for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True)
    ]
    shared = set(maps[0]) & set(maps[1])
    assert any(maps[0][symbol] != maps[1][symbol] for symbol in shared)


@pytest.mark.parametrize("level", [LEVELS[0], LEVELS[2], FULL])
def test_supervised_are_the_values_of_the_asked_keys(pocket_tokenizer: Any, level: NeedleLevel) -> None:
    ids, labels = NeedleRows(pocket_tokenizer, seed=3, sentences=200).batch(8, level)
    assert ids.shape == labels.shape
    assert ids.shape[1] <= level.length
    for row, wanted in zip(ids, labels, strict=True):
        text = pocket_tokenizer.decode(row)
        answers = pocket_tokenizer.decode(wanted[wanted != IGNORED]).split("<|end|>")
        values = [answer.strip() for answer in answers if answer.strip()]
        assert values
        for value in values:
            assert text.count(value) >= 2  # in a needle and in an answer
        assert set(np.roll(row, -1)[wanted != IGNORED]) == set(wanted[wanted != IGNORED])


def test_training_never_sees_what_evaluation_asks(pocket_tokenizer: Any) -> None:
    ids, _ = NeedleRows(pocket_tokenizer, seed=3, sentences=200).batch(64, FULL)
    text = " ".join(pocket_tokenizer.batch_decode(ids))
    pairs = re.findall(r"numbers for (\S+) is: (\d{7})\.", text)
    assert len(pairs) > 200
    assert all(zlib.crc32(part.encode()) % 8 != 0 for pair in pairs for part in pair)


def test_a_whole_row_is_tokenized_like_the_task_s_text(pocket_tokenizer: Any) -> None:
    ids, _ = NeedleRows(pocket_tokenizer, seed=4, sentences=200).batch(4, FULL)
    for row in ids:
        kept = row[row != pocket_tokenizer.pad_token_id][1:].tolist()
        assert pocket_tokenizer(pocket_tokenizer.decode(kept), add_special_tokens=False).input_ids == kept


def arguments(work: Path, **changes: Any) -> argparse.Namespace:
    values = {
        "family": "llama",
        "longest": 2176,
        "seed": 0,
        "matrix_lr": 1e-2,
        "other_lr": 3e-3,
        "batch_tokens": 1024,
        "tokens": 10**6,
        "work": work,
    }
    return argparse.Namespace(**(values | changes))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = Run(arguments(tmp_path))
    ids, labels = map(torch.from_numpy, NeedleRows(run.tokenizer, seed=9, sentences=50).batch(4, LEVELS[0]))

    def loss() -> float:
        with torch.no_grad():
            return run.model(ids).logits[labels != IGNORED].log_softmax(-1).gather(
                1, labels[labels != IGNORED][:, None]
            ).mean().neg().item()  # fmt: skip

    before = loss()
    for _ in range(30):
        run.step()
    assert abs(before - np.log(len(run.tokenizer))) < 0.5  # nats; an untrained model knows nothing
    assert loss() < before - 1.5


def test_a_resumed_training_continues_as_if_never_stopped(tmp_path: Path) -> None:
    whole = Run(arguments(tmp_path / "a"))
    expected = [whole.step() for _ in range(6)]
    first = Run(arguments(tmp_path / "b"))
    seen = [first.step() for _ in range(3)]
    first.save()
    second = Run(arguments(tmp_path / "b"))
    assert second.resume()
    seen += [second.step() for _ in range(3)]
    assert seen == expected


def test_rows_grow_no_longer_than_asked_for(pocket_tokenizer: Any) -> None:
    curriculum, progress = Curriculum(pocket_tokenizer, seed=0, batch_tokens=1024, longest=512), Progress(accuracy=0.9)
    lengths = set()
    for _ in range(200):
        curriculum.advance(progress, 1.0)
        (ids, _), _ = curriculum.batch(progress)
        lengths.add(ids.shape[1])
    assert 320 < max(lengths) <= 512


def test_another_family_s_state_is_refused(tmp_path: Path) -> None:
    Run(arguments(tmp_path)).save()
    with pytest.raises(BadInput, match=r"state in it is of another family than --family=qwen3; give each family"):
        Run(arguments(tmp_path, family="qwen3")).resume()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command_writes_a_loadable_checkpoint(tmp_path: Path, family: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    threads = torch.get_num_threads()
    try:
        main(
            f"--family {family} --out {tmp_path / 'out'} --work {tmp_path / 'work'} --tokens 3000 --batch-tokens 1024 "
            "--threads 1".split()
        )
    finally:
        torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.model_type == family
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer(" 1234567", add_special_tokens=False).tokens() == ["Ġ123", "456", "7"]
