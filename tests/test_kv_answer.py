"""The likelihood of an answer from pruned caches. Oracle: log-softmax of one masked forward over everything."""

from __future__ import annotations

import itertools

import pytest
import torch
from kv_oracles import masked_logits
from test_kv_decode import FULL, TOKENS, drawn_branches, families, kept_sets
from tiny_models import NOISE, prompt, tiny_model
from torch import Tensor

from vorn.kv.capture import prefill
from vorn.kv.decode import Branch, Decoding, decode

NEW, ANSWER, QUESTION = 2, prompt(5, seed=7), prompt(6, seed=8)  # the answer is longer than what is generated


def run(family: str, branches: list[Branch], **changes: object) -> Decoding:
    room = 0 if "question" in changes else ANSWER.shape[1]
    read = prefill(tiny_model(family), prompt(TOKENS), frozenset(), chunk_tokens=None, room=room, seed=0)
    settings = {
        "first_token": "refeed", "last_token": int(prompt(TOKENS)[0, -1]), "max_new_tokens": NEW,
        "eos_ids": frozenset(), "pad_id": None, "max_cells": 64, "max_bytes": 2**31,
        "answer": tuple(ANSWER[0].tolist()),
    }  # fmt: skip
    return decode(tiny_model(family), read, branches, **settings | changes)


def wanted(family: str, branch: Branch, first_new: int, before: Tensor) -> float:
    """Nats of the answer behind `before`, whose rows from `first_new` on see kept prompt columns only."""
    ids = torch.cat([before, ANSWER], dim=1)
    logits = masked_logits(tiny_model(family), ids, kept_sets(family, branch), first_new)
    rows = logits[before.shape[1] - 1 : -1].double().log_softmax(-1)
    return -float(rows.gather(1, ANSWER.T).sum())


@families
def test_answers_are_weighed_from_each_cells_cache(family: str) -> None:
    branches = [drawn_branches(family)[2], FULL]
    got = run(family, branches)
    for cell, branch in zip(got.cells, branches, strict=True):
        want = wanted(family, branch, TOKENS - 1, prompt(TOKENS))
        assert cell.answer_nll == pytest.approx(want, abs=5e-4 * NOISE.get(family, 1))


@pytest.mark.parametrize("question", [False, True])
def test_an_answer_follows_a_question_or_the_prefills_own_logits(question: bool) -> None:
    branches = [*drawn_branches("llama"), FULL]
    extra = {"question": tuple(QUESTION[0].tolist())} if question else {}
    got = run("llama", branches, first_token="prefill", **extra)
    before = torch.cat([prompt(TOKENS), QUESTION], dim=1) if question else prompt(TOKENS)
    for cell, branch in zip(got.cells, branches, strict=True):
        assert cell.answer_nll == pytest.approx(wanted("llama", branch, TOKENS, before), abs=5e-4)
    found = sorted(cell.answer_nll for cell in got.cells)
    assert min(more - less for less, more in itertools.pairwise(found)) > 0.01  # what was evicted matters


def test_weighing_changes_nothing_and_ends_with_the_answer() -> None:
    branches = [*drawn_branches("llama"), FULL]
    with_answer, without = run("llama", branches).cells, run("llama", branches, answer=()).cells
    assert [cell.token_ids for cell in with_answer] == [cell.token_ids for cell in without]
    assert {cell.answer_nll for cell in without} == {None}
    # A generated text, weighed as if it were the answer, is what greedy decoding found likely at each step.
    own = run("llama", [FULL], answer=with_answer[-1].token_ids[:1]).cells[0]
    others = [run("llama", [FULL], answer=(token,)).cells[0].answer_nll for token in (1, 2, 3)]
    assert own.answer_nll < min(others)


def test_a_likelihood_that_is_no_number_is_an_error() -> None:
    def poison(module: object, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., int(ANSWER[0, 0])] = torch.nan
        return output

    handle = tiny_model("llama").lm_head.register_forward_hook(poison)
    try:
        (cell,) = run("llama", [FULL]).cells
    finally:
        handle.remove()
    assert (cell.answer_nll, cell.error) == (None, "the answer's log-likelihood is nan")
    assert len(cell.token_ids) == NEW
