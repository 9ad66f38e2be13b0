"""What an analysis lets a model read: the tokens of a text, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer

from vorn.records import BadInput


def prompts(model: str, vocabulary: int, *, tokens: int, count: int, text: Path | None) -> list[Sequence[int]]:
    """`count` prompts of `tokens` token ids each.

    Args:
        model: whose tokenizer reads the text: a local folder or a Hub id.
        vocabulary: random ids are drawn below it.
        tokens: of each prompt.
        count: of prompts.
        text: file whose beginning is cut into prompts; None for random ids, the same for every model.
    Raises: BadInput for a number below 1, a file that is not there, or a text that is too short.
    """
    for name, value in (("tokens", tokens), ("prompts", count)):
        if value < 1:
            raise BadInput(f"--{name}={value}: legal is a whole number >= 1")
    if text is None:
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(vocabulary, (tokens,), generator=generator).tolist() for _ in range(count)]
    if not text.is_file():
        raise BadInput(f"--text={str(text)!r} is no file; give a text file, or leave it out to read random tokens")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"--text={str(text)!r}: model {model!r} has no tokenizer ({reason}); leave --text out to read random tokens"
        ) from error
    ids: list[int] = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"]
    if len(ids) < tokens * count:
        raise BadInput(
            f"--text={str(text)!r} has {len(ids)} tokens, and {count} prompts of {tokens} take {tokens * count}: give "
            "a longer text, or read fewer tokens"
        )
    return [ids[number * tokens : (number + 1) * tokens] for number in range(count)]
