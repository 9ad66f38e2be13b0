from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
import torch
from kv_oracles import KeptSets, masked_logits
from tiny_models import CACHE_OF, FAMILIES, NOISE, VOCAB, WINDOW, prompt, tiny_model
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vorn.kv.capture import Prefill, prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.layout import model_shape
from vorn.kv.retention import Kept, retain
from vorn.kv.scorers.h2o import H2O
from vorn.kv.units import UnitRule
from vorn.records import BadInput

TOKENS = 2 * WINDOW + 5
NEW = 12
# Root mean square of the differences between two ways to compute logits in bfloat16, whose own is about 1.2. Measured:
# at most 0.06, for another kept set 0.7 and more. A mixture of experts may send a token to another expert.
BFLOAT16, BFLOAT16_EXPERTS = 0.15, 0.4
FULL = Branch(None)
ANY_RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=1)  # for single tokens it means nothing
families = pytest.mark.parametrize("family", list(FAMILIES))


def read(family: str, tokens: int = TOKENS, seed: int = 0) -> Prefill:
    return prefill(tiny_model(family), prompt(tokens, seed), frozenset(), chunk_tokens=None, room=NEW, seed=0)


class Logits(defaultdict[int, list[Tensor]]):
    """Collects every branch's logits, step by step."""

    def __init__(self) -> None:
        super().__init__(list)

    def __call__(self, branches: Sequence[int], step: int, logits: Tensor) -> None:
        for branch, row in zip(branches, logits, strict=True):
            assert len(self[branch]) == step
            self[branch].append(row)


def run(
    family: str,
    branches: Sequence[Branch],
    read_prompt: Prefill,
    seed: int = 0,
    model: PreTrainedModel | None = None,
    **changes: object,
) -> Decoding:
    settings = {
        "first_token": "refeed",
        "last_token": int(prompt(read_prompt.signals.prompt_tokens, seed)[0, -1]),
        "max_new_tokens": NEW,
        "eos_ids": frozenset(),
        "pad_id": None,
        "max_cells": 64,
        "max_bytes": 2**31,
    }
    return decode(model or tiny_model(family), read_prompt, branches, **settings | changes)


def drawn_set(generator: torch.Generator, count: int, must: Sequence[int] = ()) -> list[int]:
    order = torch.randperm(TOKENS, generator=generator).tolist()
    return sorted({*must, *[p for p in order if p not in must][: count - len(must)]})


def padded(sets: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, sets))
    return torch.tensor([[*one, *[-1] * (width - len(one))] for one in sets])


def drawn_branches(family: str) -> list[Branch]:
    """Small sets: one for all layers, others per layer, others per head; of different counts, some without T - 1.

    T - WINDOW is in each: only the refed token at T - 1 can see it through the window, a later one cannot.
    """
    generator, edge = torch.Generator().manual_seed(3), TOKENS - WINDOW
    one = drawn_set(generator, 20, [edge, TOKENS - 1])
    heads_of = heads_per_cache(family)
    per_layer = [drawn_set(generator, 14 + 3 * layer, [edge]) for layer in range(len(heads_of))]
    per_head = [
        [drawn_set(generator, 10 + 4 * head + layer, [edge, TOKENS - 1][: 1 + head]) for head in range(heads)]
        for layer, heads in enumerate(heads_of)
    ]
    kept = (
        (padded([one]),),
        tuple(padded([one_layer]) for one_layer in per_layer),
        tuple(padded(heads) for heads in per_head),
        (torch.tensor([[TOKENS - 1]]),),
    )
    return [Branch(Kept(positions, TOKENS)) for positions in kept]


def kept_sets(family: str, branch: Branch) -> KeptSets:
    """What a branch keeps for each layer and KV head: where a layer has no cache, what the cache that it reads has.

    Of a set with more rows than the layer has KV heads, as many following rows belong to each head.
    """
    heads_of = heads_per_cache(family)

    def kept(layer: int, head: int) -> set[int]:
        if branch.kept is None:
            return set(range(TOKENS))
        cache = CACHE_OF.get(family, range(100))[layer]
        assert cache is not None
        rows = branch.kept.positions[cache % len(branch.kept.positions)].tolist()
        return set(rows[head * len(rows) // heads_of[cache]]) - {-1}

    return kept


def heads_per_cache(family: str) -> list[int]:
    """KV heads of each layer that has a cache of its own, from the widths of the weights."""
    attentions = [module for module in tiny_model(family).get_decoder().modules() if hasattr(module, "k_proj")]
    owners = {cache for cache in CACHE_OF.get(family, range(len(attentions))) if cache is not None}
    return [attentions[owner].k_proj.out_features // attentions[owner].head_dim for owner in sorted(owners)]


@families
@pytest.mark.parametrize(("tokens", "seed"), [(TOKENS, 0), (1, 1)])
@pytest.mark.parametrize("first_token", ["refeed", "prefill"])
def test_full_equals_generate(family: str, seed: int, tokens: int, first_token: str) -> None:
    ids = prompt(tokens, seed)
    neutral = GenerationConfig(max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    want = tiny_model(family).generate(ids, attention_mask=torch.ones_like(ids), generation_config=neutral)
    got = run(family, [FULL], read(family, tokens, seed), seed, first_token=first_token)
    assert list(got.cells[0].token_ids) == want[0, tokens:].tolist()
    assert got.cells[0].error is None


@families
@pytest.mark.parametrize("first_token", ["refeed", "prefill"])
def test_pruned_logits_equal_a_masked_forward_without_a_cache(family: str, first_token: str) -> None:
    model, logits = tiny_model(family), Logits()
    branches = [*drawn_branches(family), FULL]
    got = run(family, branches, read(family), first_token=first_token, on_logits=logits)
    first_new = TOKENS - 1 if first_token == "refeed" else TOKENS
    for index, branch in enumerate(branches):
        ids = torch.cat([prompt(TOKENS), torch.tensor([got.cells[index].token_ids])], dim=1)

        want = masked_logits(model, ids, kept_sets(family, branch), first_new)[TOKENS - 1 : -1]
        torch.testing.assert_close(torch.stack(logits[index]), want, rtol=0, atol=5e-5 * NOISE.get(family, 1))


@families
def test_bfloat16_stays_within_its_own_tolerance_of_the_masked_forward(family: str) -> None:
    model, logits = tiny_model(family, dtype=torch.bfloat16), Logits()
    branch = drawn_branches(family)[1]
    read_prompt = prefill(model, prompt(TOKENS), frozenset(), chunk_tokens=None, room=NEW, seed=0)
    got = run(family, [branch], read_prompt, model=model, on_logits=logits)
    ids = torch.cat([prompt(TOKENS), torch.tensor([got.cells[0].token_ids])], dim=1)
    want = masked_logits(model, ids, kept_sets(family, branch), TOKENS - 1)[TOKENS - 1 : -1]
    assert got.cells[0].token_ids == tuple(torch.stack(logits[0]).argmax(dim=1).tolist())
    error = (torch.stack(logits[0]) - want).float().square().mean().sqrt()
    assert error < (BFLOAT16_EXPERTS if "moe" in family else BFLOAT16)


@families
def test_per_head_scores_of_a_policy_prune_every_family_exactly(family: str) -> None:
    """From the prefill's signals through scores and retention to logits, where caches and heads are shared as well."""
    model, logits = tiny_model(family), Logits()
    read_prompt = prefill(model, prompt(TOKENS), H2O().needs(model_shape(model)), chunk_tokens=20, room=NEW, seed=0)
    scores = read_prompt.signals.scores(H2O())
    branch = Branch(retain(scores, 16, unit_ids=None, rule=ANY_RULE, sinks=2, recent=1))
    got = run(family, [branch], read_prompt, on_logits=logits)
    ids = torch.cat([prompt(TOKENS), torch.tensor([got.cells[0].token_ids])], dim=1)
    want = masked_logits(model, ids, kept_sets(family, branch), TOKENS - 1)[TOKENS - 1 : -1]
    torch.testing.assert_close(torch.stack(logits[0]), want, rtol=0, atol=5e-5 * NOISE.get(family, 1))


@families
def test_transformers_never_guesses_at_packed_sequences(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes gaps between positions for borders between texts if it gets neither a cache nor a mask."""
    asked: list[Tensor] = []
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", asked.append)
    tiny_model(family)(prompt(5), position_ids=torch.tensor([[0, 1, 2, 7, 8]]), use_cache=False)
    assert bool(asked) == (family != "granite_hybrid"), "the function that guesses has another name now"
    asked.clear()
    name = tiny_model(family).get_decoder().config._attn_implementation
    read_prompt = prefill(tiny_model(family), prompt(TOKENS), frozenset(), chunk_tokens=20, room=NEW, seed=0)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, name, lambda **_: asked.append(torch.empty(0)))
    run(family, drawn_branches(family), read_prompt)
    assert asked == []  # nor makes masks while cells decode: by slots, they would see too far through a window


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_pruning_changes_logits(family: str) -> None:
    """Guards the tests above: were eviction without effect, they could not see a wrong mask."""
    logits = Logits()
    run(family, [*drawn_branches(family), FULL], read(family), on_logits=logits)
    for branch in range(4):
        assert (logits[branch][0] - logits[4][0]).abs().max() > 0.05


@families
def test_a_cell_in_a_panel_equals_the_cell_alone(family: str) -> None:
    generator = torch.Generator().manual_seed(5)
    counts = [1, 3, 40, 8, 17, TOKENS, 25, 12]
    branches = [Branch(Kept((torch.tensor([drawn_set(generator, n)]),), TOKENS)) for n in counts]
    branches = [*branches, *drawn_branches(family), FULL, FULL]
    read_prompt, together = read(family), Logits()
    panel = run(family, branches, read_prompt, on_logits=together)
    assert {cell.batch_rows for cell in panel.cells} == {len(branches)}
    for index, branch in enumerate(branches):
        alone = Logits()
        single = run(family, [branch], read_prompt, on_logits=alone).cells[0]
        assert single.token_ids == panel.cells[index].token_ids
        assert single.batch_rows == 1
        torch.testing.assert_close(
            torch.stack(together[index]), torch.stack(alone[0]), rtol=0, atol=5e-5 * NOISE.get(family, 1)
        )


def test_two_full_cells_agree_and_leave_the_prefill_as_it_was() -> None:
    read_prompt = read("llama")
    before = [layer.keys[:, :, :TOKENS].clone() for layer in read_prompt.cache.layers]
    first = run("llama", [FULL, FULL], read_prompt)
    assert first.cells[0].token_ids == first.cells[1].token_ids
    for layer, keys in zip(read_prompt.cache.layers, before, strict=True):
        assert torch.equal(layer.keys[:, :, :TOKENS], keys)
    assert run("llama", [FULL], read_prompt, first_token="prefill").cells[0].token_ids == first.cells[0].token_ids


def test_two_full_cells_may_part_ways() -> None:
    """As they can in half precision: each needs a cache of its own."""
    read_prompt = read("llama")
    free = run("llama", [FULL], read_prompt).cells[0].token_ids

    def run_diverted(branches: Sequence[Branch]) -> Decoding:
        """Decoding in which the first row cannot take the best token at step 1."""
        calls: list[int] = []

        def divert(module: object, inputs: object, output: Tensor) -> Tensor:
            calls.append(1)
            output = output.clone()
            if len(calls) == 2:
                output[0, :, free[1]] = torch.nan
            return output

        handle = tiny_model("llama").lm_head.register_forward_hook(divert)
        try:
            return run("llama", branches, read_prompt)
        finally:
            handle.remove()

    alone, (diverted, other) = run_diverted([FULL]).cells[0], run_diverted([FULL, FULL]).cells
    assert alone.token_ids[:2] != free[:2]
    assert diverted.token_ids == alone.token_ids
    assert other.token_ids == free


def test_limits_make_more_batches_with_the_same_tokens() -> None:
    read_prompt, branches = read("qwen3"), [*drawn_branches("qwen3"), FULL]
    at_once = run("qwen3", branches, read_prompt)
    for limits, rows in (
        ({"max_cells": 2}, [1, 2, 2, 2, 2]),
        ({"max_cells": 1}, [1] * 5),
        ({"max_bytes": 1}, [1] * 5),
    ):
        got = run("qwen3", branches, read_prompt, **limits)
        assert [cell.token_ids for cell in got.cells] == [cell.token_ids for cell in at_once.cells]
        assert sorted(cell.batch_rows for cell in got.cells) == rows


def test_any_end_of_sequence_id_ends_a_row_and_no_other() -> None:
    read_prompt, branches = read("llama"), [*drawn_branches("llama"), FULL]
    free = [list(cell.token_ids) for cell in run("llama", branches, read_prompt).cells]
    ends = {free[0][4], free[1][0], free[4][7]}
    got = run("llama", branches, read_prompt, eos_ids=frozenset(ends))
    for cell, ids in zip(got.cells, free, strict=True):
        stop = next((place for place, token in enumerate(ids) if token in ends), NEW)
        assert list(cell.token_ids) == ids[:stop]
        assert cell.error is None
    assert got.cells[1].token_ids == ()


@pytest.mark.parametrize("first_token", ["refeed", "prefill"])
def test_the_pad_token_is_never_generated_unless_it_ends_the_row(first_token: str) -> None:
    read_prompt, logits = read("llama"), Logits()
    pad = run("llama", [FULL], read_prompt, first_token=first_token).cells[0].token_ids[0]
    cell = run("llama", [FULL], read_prompt, first_token=first_token, pad_id=pad, on_logits=logits).cells[0]
    second_best = logits[0][0].topk(2).indices.tolist()
    assert second_best[0] == pad
    assert cell.token_ids[0] == second_best[1]
    assert pad not in cell.token_ids
    ended = run("llama", [FULL], read_prompt, first_token=first_token, pad_id=pad, eos_ids=frozenset({pad})).cells[0]
    assert ended.token_ids == ()


def test_nan_logits_are_passed_over_and_a_row_of_nan_is_an_error() -> None:
    model, read_prompt, branches = tiny_model("llama"), read("llama"), [*drawn_branches("llama"), FULL]
    free = [cell.token_ids for cell in run("llama", branches, read_prompt).cells]
    poisoned: list[int] = []

    def poison(module: object, inputs: object, output: Tensor) -> Tensor:
        # One call per step. `full` is row 0, the other rows come by length: branch 3 (one position) is row 1.
        poisoned.append(len(output))
        output = output.clone()
        if len(poisoned) == 3:
            output[1] = torch.nan
            output[0, :, : free[4][2]] = torch.nan  # all below the best token: it stays the best
        return output

    handle = model.lm_head.register_forward_hook(poison)
    try:
        got = run("llama", branches, read_prompt)
    finally:
        handle.remove()
    assert got.cells[3].error == "all logits are NaN at step 2"
    assert got.cells[3].token_ids == free[3][:2]
    assert [got.cells[row].token_ids for row in (0, 1, 2, 4)] == [free[row] for row in (0, 1, 2, 4)]
    assert [got.cells[row].error for row in (0, 1, 2, 4)] == [None] * 4
    assert poisoned == [5, 5, 5] + [4] * (NEW - 3)  # the group of the failed row left the batch


def test_length_one_and_logits_seen() -> None:
    read_prompt, logits = read("llama"), Logits()
    got = run("llama", [FULL], read_prompt, max_new_tokens=1, first_token="prefill", on_logits=logits)
    assert got.cells[0].token_ids == (int(read_prompt.last_logits.argmax()),)
    assert logits[0][0].shape == (VOCAB,)


def test_the_attention_override_is_undone_after_a_failure() -> None:
    def stop(branches: Sequence[int], step: int, logits: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("llama", [FULL], read("llama"), on_logits=stop)
    assert ALL_ATTENTION_FUNCTIONS._local_mapping == {}


def test_bad_arguments_are_refused() -> None:
    read_prompt = read("llama")
    for changes, message in (
        ({"first_token": "last"}, r"decode.first_token='last': legal values are refeed, prefill"),
        ({"max_new_tokens": 0}, r"task.max_new_tokens=0"),
        ({"max_cells": 0}, r"decode.max_cells=0"),
        ({"max_bytes": 0}, r"decode.max_bytes=0"),
        ({"max_new_tokens": NEW + 2}, rf"room for {TOKENS + NEW} positions, decoding needs {TOKENS + NEW + 1}"),
    ):
        with pytest.raises(BadInput, match=message):
            run("llama", [FULL], read_prompt, **changes)
    with pytest.raises(BadInput, match="kept positions of 3 heads"):
        run("llama", [Branch(Kept((torch.zeros(3, 1, dtype=torch.long),), TOKENS))], read_prompt)
    with pytest.raises(BadInput, match="kept positions of 4 heads: a layer of 2 KV heads needs 1 or 2"):
        run("gemma4_kv", [Branch(Kept((torch.tensor([[30], [31], [30], [31]]),), TOKENS))], read("gemma4_kv"))
    with pytest.raises(ValueError, match="branch 0 was pruned for a prompt of 7 tokens"):
        run("llama", [Branch(Kept((torch.tensor([[0]]),), 7))], read_prompt)
