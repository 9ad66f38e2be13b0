"""How large the tensors of a prefill get: never prompt times prompt, and on sliding layers a chunk and a window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import prompt, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vorn.kv.attention import BLOCK_ROWS, ColumnSums, LastAttention
from vorn.kv.capture import prefill

HEADS = 4


class Largest(TorchDispatchMode):
    """Notes the most elements that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // 4 for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def largest(family: str, tokens: int, chunk_tokens: int | None) -> int:
    wanted = frozenset({ColumnSums(), LastAttention()})
    with Largest() as seen:
        prefill(tiny_model(family), prompt(tokens), wanted, chunk_tokens=chunk_tokens, room=2, seed=0)
    return seen.elements


@pytest.mark.parametrize("chunk_tokens", [None, 100])
def test_column_sums_hold_blocks_of_rows(chunk_tokens: int | None) -> None:
    tokens = 10 * BLOCK_ROWS
    assert largest("llama", tokens, chunk_tokens) <= HEADS * BLOCK_ROWS * tokens  # a tenth of tokens * tokens


def test_in_chunks_a_sliding_model_needs_no_more_for_a_longer_prompt() -> None:
    short, long = largest("mistral", 320, 160), largest("mistral", 640, 160)
    assert long == short


def test_in_one_forward_it_does() -> None:
    """Guards the test above: were masks and attention not seen, it could not fail."""
    assert largest("mistral", 640, None) > 3 * largest("mistral", 320, None)
