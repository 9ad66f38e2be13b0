"""Every policy on models whose layers share caches or differ in KV heads: the budget is exact, and all cells decode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_policy_laws import POLICIES, made
from tiny_models import prompt, tiny_model
from transformers import PreTrainedModel

from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.layout import model_shape
from vorn.kv.retention import Kept
from vorn.kv.signals import Signal
from vorn.records import BadInput

TOKENS, BUDGET, EVIDENCE = 61, 20, (12, 13)

COMPACT = "streaming_llm"  # its positions cannot be moved into a sliding window


@pytest.mark.parametrize("family", ["gemma4", "gemma4_kv", "gemma2"])
def test_every_policy_keeps_its_budget_and_decodes(family: str) -> None:
    model = tiny_model(family)
    shape = model_shape(model)
    names = [name for name in POLICIES if name != COMPACT]
    policies = {name: made(name) for name in names}
    needs = frozenset[Signal]().union(*(policy.needs(shape) for policy in policies.values()))
    read = prefill(model, prompt(TOKENS), needs, chunk_tokens=None, room=3, seed=5, evidence=EVIDENCE)
    kept = {
        name: policy.keep(read.signals, list(range(TOKENS)), BUDGET, sinks=1, recent=2)
        for name, policy in policies.items()
    }
    for name, one in kept.items():
        assert one.mean_tokens == pytest.approx(BUDGET), name
        assert len(one.positions) in (1, shape.caches), name
    done = decoded(model, read, list(kept.values()))
    assert [len(cell.token_ids) for cell in done.cells] == [3] * len(kept)
    assert [cell.error for cell in done.cells] == [None] * len(kept)


def test_compact_positions_are_refused_where_a_layer_slides() -> None:
    model = tiny_model("gemma2")
    read = prefill(model, prompt(TOKENS), frozenset(), chunk_tokens=None, room=3, seed=5)
    kept = made(COMPACT).keep(read.signals, list(range(TOKENS)), BUDGET, sinks=1, recent=2)
    with pytest.raises(BadInput, match="positions=compact: the model has layers with a sliding window"):
        decoded(model, read, [replace(kept, is_compact=True)])


@torch.inference_mode()
def decoded(model: PreTrainedModel, read: Prefill, kept: list[Kept]) -> Decoding:
    return decode(
        model, read, [Branch(one) for one in kept], first_token="refeed", last_token=int(prompt(TOKENS)[0, -1]),
        max_new_tokens=3, eos_ids=frozenset(), pad_id=0, max_cells=64, max_bytes=1 << 30,
    )  # fmt: skip
