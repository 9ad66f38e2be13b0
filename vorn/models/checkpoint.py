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

from vorn.records import BadInput

T = TypeVar("T")
_PACKAGED = "pkg://"  # pkg://package.name/folder is a folder inside an installed package
_BLOCK = 1 << 20  # bytes hashed at a time
_MOST_BLOCKS = 64  # of one file: hashing all of a large checkpoint would take longer than many a run
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been found but whose weights are not loaded yet.

    Attributes:
        source: directory, or id on the Hugging Face Hub.
        options: what every `from_pretrained` of it gets.
        tokenizer: a fast one, which tells offsets.
        config: of the decoder's text part.
        dtype: the weights' dtype, resolved.
        weights_digest: hash of weights and tokenizer files, or of the Hub's commit.
    """

    source: str
    options: Mapping[str, Any]
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

    def load(self, *, attn_implementation: str, device: torch.device) -> PreTrainedModel:
        """The model in eval mode on `device`. Raises BadInput if files are missing or damaged, or lack weights."""
        model, info = _attempt(
            self.source,
            lambda: AutoModelForCausalLM.from_pretrained(
                self.source,
                dtype=self.dtype,
                attn_implementation=attn_implementation,
                output_loading_info=True,
                **self.options,
            ),
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise BadInput(
                f"model.id={self.source!r} lacks {len(missing)} weights, such as {missing[0]}, which would be random; "
                "give a complete checkpoint of a causal language model"
            )
        return model.to(device).eval()


def find_checkpoint(model_cfg: Mapping[str, Any], device: torch.device) -> Checkpoint:
    """Locate a checkpoint and read its configuration and tokenizer.

    Args:
        model_cfg: the `model` group, resolved: id, revision, dtype, trust_remote_code.
        device: where it will run; decides what dtype `auto` means.
    Raises: BadInput if there is no such checkpoint, or its tokenizer cannot tell offsets.
    """
    source = _source(str(model_cfg["id"]))
    options = {"revision": model_cfg["revision"], "trust_remote_code": bool(model_cfg["trust_remote_code"])}
    config = _attempt(source, lambda: AutoConfig.from_pretrained(source, **options))
    tokenizer = _attempt(source, lambda: AutoTokenizer.from_pretrained(source, **options))
    if not tokenizer.is_fast:
        raise BadInput(
            f"model.id={source!r}: its tokenizer {type(tokenizer).__name__} tells no offsets, so that words, sentences "
            "and evidence cannot be located; a fast tokenizer is needed: add its tokenizer.json to the checkpoint"
        )
    return Checkpoint(
        source, options, tokenizer, config, _dtype(str(model_cfg["dtype"]), device), _digest(source, config)
    )


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every end-of-sequence id that the generation configuration or the tokenizer names."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = [*named] if isinstance(named, list) else [named]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)


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


def _attempt(source: str, read: Callable[[], T]) -> T:
    """`read()`, with one message instead of a traceback when the checkpoint cannot be had."""
    try:
        return read()
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"model.id={source!r} cannot be loaded ({type(error).__name__}: {reason}); check the id and revision, "
            "whether its files are complete, access to gated models (huggingface-cli login) and the network, or give "
            "a local folder"
        ) from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise BadInput(f"model.dtype={name!r}: legal values are auto, {', '.join(_DTYPES)}; choose one of them")
    return _DTYPES[name]


def _digest(source: str, config: PretrainedConfig) -> str:
    """Identity of a checkpoint's content: evenly spaced blocks of its files, or the Hub's commit."""
    folder = Path(source)
    if not folder.is_dir():
        commit = getattr(config, "_commit_hash", None)
        if not commit:
            raise BadInput(f"model.id={source!r}: the Hub names no commit for it, so that runs could not be told apart")
        return str(commit)
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
