"""A question fed over pruned caches of its context. Oracle: one masked forward over everything, no cache surgery."""

from __future__ import annotations

import pytest
import torch
from kv_oracles import masked_logits
from test_kv_compact import reference
from test_kv_decode import FULL, TOKENS, Logits, drawn_branches, drawn_set, families, kept_sets
from tiny_models import NOISE, WINDOW, prompt, tiny_model

from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.retention import Kept

NEW = 3
QUESTION = prompt(WINDOW + 6, seed=9)  # longer than a window: its last tokens do not see its first ones there


def read(family: str, tokens: int = TOKENS) -> Prefill:
    """A context, without room for anything behind it."""
    return prefill(tiny_model(family), prompt(tokens), frozenset(), chunk_tokens=None, room=0, seed=0)


def run(
    family: str, branches: list[Branch], logits: Logits, context: Prefill | None = None, **changes: object
) -> Decoding:
    settings = {
        "first_token": "prefill", "last_token": int(QUESTION[0, -1]), "max_new_tokens": NEW, "eos_ids": frozenset(),
        "pad_id": None, "max_cells": 64, "max_bytes": 2**31,
        "question": tuple(QUESTION[0].tolist()), "on_logits": logits,
    }  # fmt: skip
    return decode(tiny_model(family), context or read(family), branches, **settings | changes)


@families
def test_question_and_answer_see_kept_context_only(family: str) -> None:
    """T - WINDOW + 1 is in a set: only the question's first token can see it through a window."""
    generator, logits = torch.Generator().manual_seed(4), Logits()
    edge = Branch(Kept((torch.tensor([drawn_set(generator, 9, [TOKENS - WINDOW + 1])]),), TOKENS))
    per_head, one = drawn_branches(family)[2:]
    branches = [edge, per_head, one, FULL]  # the last two for groups of other lengths beside them
    got = run(family, branches, logits)
    assert {cell.batch_rows for cell in got.cells} == {len(branches)}
    for index, branch in enumerate(branches[:2]):
        ids = torch.cat([prompt(TOKENS), QUESTION, torch.tensor([got.cells[index].token_ids])], dim=1)
        want = masked_logits(tiny_model(family), ids, kept_sets(family, branch), TOKENS)[-NEW - 1 : -1]
        torch.testing.assert_close(torch.stack(logits[index]), want, rtol=0, atol=5e-5 * NOISE.get(family, 1))


def test_a_window_that_ends_within_the_question_moves_on() -> None:
    short, logits, kept = 10, Logits(), {0, 1, 4, 9}
    branch = Branch(Kept((torch.tensor([sorted(kept)]),), short))
    got = run("mistral", [branch], logits, read("mistral", short))
    ids = torch.cat([prompt(short), QUESTION, torch.tensor([got.cells[0].token_ids])], dim=1)
    want = masked_logits(tiny_model("mistral"), ids, lambda layer, head: kept, short)[-NEW - 1 : -1]
    torch.testing.assert_close(torch.stack(logits[0]), want, rtol=0, atol=5e-5)


def test_a_question_follows_compact_positions() -> None:
    chosen, logits = (0, 1, 20, 21, TOKENS - 3), Logits()
    branches = [Branch(Kept((torch.tensor([chosen]),), TOKENS, is_compact=True)), drawn_branches("llama")[0]]
    got = run("llama", branches, logits)
    ids = torch.cat([prompt(TOKENS), QUESTION, torch.tensor([got.cells[0].token_ids])], dim=1)
    want = reference("llama", ids, list(chosen), TOKENS)[-NEW - 1 : -1]
    torch.testing.assert_close(torch.stack(logits[0]), want, rtol=0, atol=5e-5)


def test_a_row_that_ends_at_once_leaves_the_others_alone() -> None:
    branches = drawn_branches("llama")
    free = [cell.token_ids for cell in run("llama", branches, Logits()).cells]
    ends = frozenset({free[0][0]})
    got = run("llama", branches, Logits(), eos_ids=ends).cells
    assert got[0].token_ids == ()
    for cell, ids in zip(got, free, strict=True):
        stop = next((place for place, token in enumerate(ids) if token in ends), NEW)
        assert cell.token_ids == ids[:stop]


def test_nothing_is_fed_twice() -> None:
    with pytest.raises(ValueError, match="of which nothing is fed again: pass first_token='prefill'"):
        run("llama", [FULL], Logits(), first_token="refeed")


def test_bytes_are_those_that_a_token_behind_the_question_can_see() -> None:
    """Oracle: entry by entry, over layers of which only the last see everything."""
    kept, tokens = {0, 7, TOKENS - WINDOW + 2, TOKENS - 4, TOKENS - 1}, TOKENS + 5
    cache, last = read("qwen2_window").cache, tokens  # the position of the first generated token
    held = [entry for entry in range(tokens) if entry in kept or entry >= TOKENS]
    config = tiny_model("qwen2_window").config
    entries = sum(kind == "full_attention" or last - entry <= WINDOW for kind in config.layer_types for entry in held)
    per_entry = config.num_key_value_heads * 2 * (config.hidden_size // config.num_attention_heads) * 4
    assert cache.kv_bytes(Kept((torch.tensor([sorted(kept)]),), TOKENS), 5) == entries * per_entry
