"""Where a checkpoint lies, what identifies it, and how it is loaded: one path for every Hugging Face causal LM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import is_accelerate_available

from vorn.models import hub
from vorn.records import BadInput

T = TypeVar("T")
_PACKAGED = "pkg://"  # pkg://package.name/folder is a folder inside an installed package
_BLOCK = 1 << 20  # bytes hashed at a time
_MOST_BLOCKS = 64  # of one file: hashing all of a large checkpoint would take longer than many a run
# What holds a vocabulary, in any format that transformers reads; code of its own may make one.
_VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken", "*.bpe", "tekken.json", "vocab*", "*.py")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been found but whose weights are not loaded yet.

    Attributes:
        source: directory, or id on the Hugging Face Hub.
        options: what every `from_pretrained` of it gets.
        unreachable: why the Hub did not answer, so that the local cache is read; None if it did, or for a directory.
        tokenizer: a fast one, which tells offsets.
        config: of the decoder's text part.
        dtype: the weights' dtype, resolved.
        weights_digest: hash of weights and tokenizer files, or of the Hub's commit.
    """

    source: str
    options: Mapping[str, Any]
    unreachable: str | None
    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    dtype: torch.dtype
    weights_digest: str

    @property
    def context_tokens(self) -> int | None:
        """Most positions that the model was made for; None if its configuration does not tell."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    @property
    def dtype_name(self) -> str:
        """For example "float32"."""
        return str(self.dtype).removeprefix("torch.")

    def load(
        self,
        *,
        attn_implementation: str,
        device: torch.device,
        device_map: str | Mapping[str, Any] | None,
        quantization: Mapping[str, Any] | None,
    ) -> PreTrainedModel:
        """The model in eval mode.

        Args:
            attn_implementation: transformers' name of it.
            device: where all of it goes without a `device_map`.
            device_map: transformers' `auto` or a map from modules to devices, for a model that one device cannot hold.
            quantization: transformers' own options, `quant_method` among them.
        Raises: BadInput if files are missing or damaged, or lack weights, or parts of it would not be on a device.
        """
        extra: dict[str, Any] = {}
        if device_map is not None or quantization is not None:
            if not is_accelerate_available():
                raise BadInput(
                    "model.device_map and model.quantization need the package accelerate, which is not installed: "
                    "pip install 'vorn[devices]' (or accelerate), or give null for both"
                )
            extra["device_map"] = {"": device} if device_map is None else device_map
        if quantization is not None:
            extra["quantization_config"] = _attempt(
                self.source, self.unreachable, lambda: AutoQuantizationConfig.from_dict(dict(quantization))
            )
        model, info = _attempt(
            self.source,
            self.unreachable,
            lambda: AutoModelForCausalLM.from_pretrained(
                self.source,
                dtype=self.dtype,
                attn_implementation=attn_implementation,
                use_safetensors=True,  # the other format is Python's pickle, which runs what it holds
                output_loading_info=True,
                **extra,
                **self.options,
            ),
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise BadInput(
                f"model.id={self.source!r} lacks {len(missing)} weights, such as {missing[0]}, which would be random; "
                "give a complete checkpoint of a causal language model"
            )
        _check_placement(model)
        return (model if extra else model.to(device)).eval()


def _check_placement(model: PreTrainedModel) -> None:
    """Raises BadInput if parts of a model that is spread over devices wait on the CPU or the disk."""
    places: Mapping[str, object] = getattr(model, "hf_device_map", None) or {}
    slow = sorted(name for name, place in places.items() if str(place) in ("cpu", "disk"))
    if slow and len(slow) < len(places):
        raise BadInput(
            f"model.device_map: no room on the devices for {len(slow)} of {len(places)} parts, such as {slow[0]}; they "
            "would wait on the CPU or the disk; times and memory would mean nothing; use more or larger devices, "
            "model.quantization or a smaller model"
        )


def find_checkpoint(model_cfg: Mapping[str, Any], device: torch.device) -> Checkpoint:
    """Locate a checkpoint and read its configuration and tokenizer.

    Args:
        model_cfg: the `model` group, resolved: id, revision, dtype, trust_remote_code.
        device: where it will run; decides what dtype `auto` means.
    Raises: BadInput if there is no such checkpoint, or its tokenizer cannot tell offsets.
    """
    source = _source(str(model_cfg["id"]))
    options: dict[str, Any] = {"trust_remote_code": bool(model_cfg["trust_remote_code"])}
    unreachable = None
    if not (is_local := Path(source).is_dir()):
        place = hub.find(source, model_cfg["revision"])
        unreachable = place.unreachable
        options |= {"revision": place.commit or model_cfg["revision"], "local_files_only": unreachable is not None}
    config = _attempt(source, unreachable, lambda: AutoConfig.from_pretrained(source, **options))
    if is_local and not any(any(Path(source).glob(pattern)) for pattern in _VOCABULARIES):
        # transformers would make a tokenizer without words for many an architecture
        raise BadInput(
            f"model.id={source!r} has no tokenizer files; save the tokenizer there too: tokenizer.save_pretrained(...)"
        )
    tokenizer = _attempt(source, unreachable, lambda: AutoTokenizer.from_pretrained(source, **options))
    if not tokenizer.is_fast:
        raise BadInput(
            f"model.id={source!r}: its tokenizer {type(tokenizer).__name__} tells no offsets, so that words, sentences "
            "and evidence cannot be located; a fast tokenizer is needed: add its tokenizer.json to the checkpoint"
        )
    dtype = _dtype(str(model_cfg["dtype"]), device)
    content = _digest(Path(source)) if is_local else options["revision"]
    if content is None:
        raise BadInput(f"model.id={source!r}: the Hub names no commit for it, so that runs could not be told apart")
    return Checkpoint(source, options, unreachable, tokenizer, config, dtype, content)


def _source(name: str) -> str:
    """A directory or a Hub id; raises BadInput for what looks like a directory but holds no checkpoint."""
    if name.startswith(_PACKAGED):
        package, _, folder = name.removeprefix(_PACKAGED).partition("/")
        name = str(files(package).joinpath(folder))
    path = Path(name).expanduser()
    looks_local = path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not (path / "config.json").is_file():
        raise BadInput(
            f"model.id={name!r}: {'the folder has no config.json' if path.is_dir() else 'there is no such folder'}; "
            "give a folder written by save_pretrained, or an id on the Hugging Face Hub such as organisation/model"
        )
    return str(path) if looks_local else name


def _attempt(source: str, unreachable: str | None, read: Callable[[], T]) -> T:
    """`read()`, with one message instead of a traceback when the checkpoint cannot be had."""
    try:
        return read()
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise hub.refusal(source, error, unreachable) from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise BadInput(f"model.dtype={name!r}: legal values are auto, {', '.join(_DTYPES)}; choose one of them")
    return _DTYPES[name]


def _digest(folder: Path) -> str:
    """Identity of a checkpoint's content: evenly spaced blocks of its files."""
    found = hashlib.sha256()
    for path in sorted(_weights_and_tokenizer(folder)):
        size = path.stat().st_size
        found.update(f"{path.name}:{size}\n".encode())
        blocks = -(-size // _BLOCK)
        step = max(1, blocks // _MOST_BLOCKS)
        with path.open("rb") as file:
            for block in range(0, blocks, step):
                file.seek(block * _BLOCK)
                found.update(file.read(_BLOCK))
    return found.hexdigest()[:16]


def _weights_and_tokenizer(folder: Path) -> Iterable[Path]:
    for pattern in ("*.safetensors", "*.bin", "*.json", "*.model", "*.txt", "*.jinja"):
        yield from folder.glob(pattern)
