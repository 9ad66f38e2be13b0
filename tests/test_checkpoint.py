"""Finding and loading checkpoints: one message for each way in which it fails, and an identity of the content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import FineGrainedFP8Config, GenerationConfig

from vorn.models import checkpoint as checkpoint_module
from vorn.models.checkpoint import find_checkpoint
from vorn.models.generation import eos_ids, not_applied
from vorn.records import BadInput

CPU = torch.device("cpu")


def settings(source: Path | str, **changes: Any) -> dict[str, Any]:
    return {"id": str(source), "revision": None, "dtype": "auto", "trust_remote_code": False} | changes


@pytest.fixture
def copied(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "model"))


def load(source: Path, **changes: Any) -> Any:
    how = {"attn_implementation": "sdpa", "device": CPU, "device_map": None, "quantization": None} | changes
    return find_checkpoint(settings(source), CPU).load(**how)


def test_a_folder_is_loaded_in_eval_mode_and_full_precision(random_checkpoint: Path) -> None:
    model = load(random_checkpoint)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_dtype_is_passed_through(random_checkpoint: Path) -> None:
    checkpoint = find_checkpoint(settings(random_checkpoint, dtype="bfloat16"), CPU)
    model = checkpoint.load(attn_implementation="sdpa", device=CPU, device_map=None, quantization=None)
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


def test_generation_settings_that_steer_are_named_and_neutral_ones_are_not() -> None:
    assert not_applied(None) == {}
    assert not_applied(GenerationConfig(repetition_penalty=1.0, num_beams=1, max_new_tokens=9, temperature=0.7)) == {}
    steering = GenerationConfig(repetition_penalty=1.05, do_sample=True, suppress_tokens=[3])
    assert not_applied(steering) == {"repetition_penalty": 1.05, "do_sample": True, "suppress_tokens": [3]}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What from_pretrained of the weights is given, where the package that spreads models is installed."""
    seen: dict[str, Any] = {}
    original = checkpoint_module.AutoModelForCausalLM.from_pretrained

    def from_pretrained(source: str, **options: Any) -> Any:
        seen.update(options)
        return original(source, **{k: v for k, v in options.items() if k not in ("device_map", "quantization_config")})

    monkeypatch.setattr(checkpoint_module.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(checkpoint_module, "is_accelerate_available", lambda: True)
    return seen


def test_a_device_map_is_passed_through(random_checkpoint: Path, recorded: dict[str, Any]) -> None:
    load(random_checkpoint, device_map="auto")
    assert recorded["device_map"] == "auto"
    assert recorded["use_safetensors"] is True
    assert recorded["trust_remote_code"] is False
    assert "quantization_config" not in recorded


def test_a_device_map_loads_the_same_model(random_checkpoint: Path) -> None:
    """With the real package: all parts on the one device that is there, and nothing of the outcome changes."""
    ids = torch.arange(1, 9)[None]
    spread, whole = load(random_checkpoint, device_map="auto"), load(random_checkpoint)
    assert {parameter.device for parameter in spread.parameters()} == {CPU}
    with torch.inference_mode():
        assert torch.equal(spread(ids).logits, whole(ids).logits)


def test_quantization_options_become_transformers_own(random_checkpoint: Path, recorded: dict[str, Any]) -> None:
    load(random_checkpoint, quantization={"quant_method": "fp8", "weight_block_size": [64, 64]})
    made = recorded["quantization_config"]
    assert isinstance(made, FineGrainedFP8Config)
    assert tuple(made.weight_block_size) == (64, 64)
    assert recorded["device_map"] == {"": CPU}  # a quantised model must not be moved later


def test_unknown_quantization_is_refused(random_checkpoint: Path, recorded: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"Unknown quantization type, got magic"):
        load(random_checkpoint, quantization={"quant_method": "magic"})


@pytest.mark.parametrize("changes", [{"device_map": "auto"}, {"quantization": {"quant_method": "hqq"}}])
def test_a_missing_package_is_named(
    random_checkpoint: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "is_accelerate_available", lambda: False)
    with pytest.raises(BadInput, match=r"need the package accelerate.*pip install 'vorn\[devices\]'"):
        load(random_checkpoint, **changes)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_parts_that_wait_elsewhere_are_refused(random_checkpoint: Path, place: str) -> None:
    model = load(random_checkpoint)
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": place}
    with pytest.raises(BadInput, match=r"no room on the devices for 1 of 2 parts, such as model.layers.1"):
        checkpoint_module._check_placement(model)
    model.hf_device_map = {"": "cpu"}
    checkpoint_module._check_placement(model)


def test_pickled_weights_are_refused(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model.id='.*model' cannot be loaded: .*safetensors"):
        load(copied)


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


def test_a_folder_without_a_tokenizer_is_refused(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(BadInput, match=r"/model' has no tokenizer files; save the tokenizer there too"):
        find_checkpoint(settings(copied), CPU)
    Path(copied, "tokenizer_config.json").write_text("{}")
    with pytest.raises(BadInput, match="no tokenizer files"):
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
