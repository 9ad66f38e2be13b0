"""Finding and loading checkpoints: one message for each way in which it fails, and an identity of the content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vorn.models.checkpoint import eos_ids, find_checkpoint
from vorn.records import BadInput

CPU = torch.device("cpu")


def settings(source: Path | str, **changes: Any) -> dict[str, Any]:
    return {"id": str(source), "revision": None, "dtype": "auto", "trust_remote_code": False} | changes


@pytest.fixture
def copied(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "model"))


def load(source: Path) -> Any:
    return find_checkpoint(settings(source), CPU).load(attn_implementation="sdpa", device=CPU)


def test_a_folder_is_loaded_in_eval_mode_and_full_precision(random_checkpoint: Path) -> None:
    model = load(random_checkpoint)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_dtype_is_passed_through(random_checkpoint: Path) -> None:
    checkpoint = find_checkpoint(settings(random_checkpoint, dtype="bfloat16"), CPU)
    model = checkpoint.load(attn_implementation="sdpa", device=CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert checkpoint.dtype_name == "bfloat16"


def test_every_end_of_sequence_id_counts(random_checkpoint: Path, pocket_tokenizer: Any) -> None:
    model = load(random_checkpoint)
    model.generation_config.eos_token_id = [7, 9]
    assert eos_ids(model, pocket_tokenizer) == {7, 9, pocket_tokenizer.eos_token_id}
    model.generation_config.eos_token_id = None
    assert eos_ids(model, pocket_tokenizer) == {pocket_tokenizer.eos_token_id}


def test_the_digest_follows_content_and_not_place(copied: Path, random_checkpoint: Path) -> None:
    before = find_checkpoint(settings(random_checkpoint), CPU).weights_digest
    assert find_checkpoint(settings(copied), CPU).weights_digest == before
    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert find_checkpoint(settings(copied), CPU).weights_digest != before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nowhere" / "at" / "all", "there is no such folder"),
        (lambda path: path, "the folder has no config.json"),
    ],
)
def test_a_folder_without_a_model_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        find_checkpoint(settings(make(tmp_path)), CPU)


def test_an_unknown_hub_id_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match=r"model.id='nobody/nothing' cannot be loaded .* check the id"):
        find_checkpoint(settings("nobody/nothing"), CPU)


def test_half_a_checkpoint_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(copied)


def test_a_torn_weights_file_is_refused(copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(copied)


def test_weights_that_would_be_random_are_refused(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks 1 weights, such as model.layers.2.mlp.up_proj.weight"):
        load(copied)


def test_an_unknown_architecture_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "no_such_model"}))
    with pytest.raises(BadInput, match="no_such_model"):
        find_checkpoint(settings(copied), CPU)


def test_a_tokenizer_without_offsets_is_refused(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr("vorn.models.checkpoint.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(BadInput, match="its tokenizer Slow tells no offsets"):
        find_checkpoint(settings(random_checkpoint), CPU)


def test_an_unknown_dtype_is_refused(random_checkpoint: Path) -> None:
    with pytest.raises(BadInput, match=r"model.dtype='int3': legal values are auto, float32"):
        find_checkpoint(settings(random_checkpoint, dtype="int3"), CPU)
