"""Slow references for the engine: no cache, no surgery, no vectorised selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

KeptSets = Callable[[int, int], set[int]]  # (layer, KV head) -> kept prompt positions
Visible = Callable[[int, int, int], Iterable[int]]  # (layer, KV head, row) -> columns


@dataclass
class Seen:
    """One forward without a cache: logits [T, V]; by layer weights [H, T, T], outputs [T, D] and the window."""

    logits: Tensor
    weights: dict[int, Tensor]
    states: dict[int, Tensor]
    windows: dict[int, int | None]


def masked_forward(model: PreTrainedModel, ids: Tensor, visible: Visible) -> Seen:
    """A forward in which row r of a layer's KV head sees the columns `visible` says, as far as they are in its window.

    ids: [1, T]. Every (layer, head) has its own mask, made by a loop over rows.
    """
    tokens = ids.shape[1]
    seen = Seen(torch.empty(0), {}, {}, {})

    def attention(module, query, key, value, mask, *, scaling, softcap=None, sliding_window=None, **_):
        output, group = torch.empty_like(query), query.shape[1] // key.shape[1]
        weights = torch.empty(query.shape[1], tokens, tokens)
        for head in range(query.shape[1]):
            hidden = torch.ones(tokens, tokens, dtype=torch.bool)
            for row in range(tokens):
                first = 0 if sliding_window is None else row - sliding_window + 1
                columns = visible(module.layer_idx, head // group, row)
                hidden[row, [column for column in columns if first <= column <= row]] = False
            scores = query[0, head] @ key[0, head // group].T * scaling
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            weights[head] = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            output[0, head] = weights[head].to(value.dtype) @ value[0, head // group]
        seen.weights[module.layer_idx], seen.windows[module.layer_idx] = weights, sliding_window
        return output.transpose(1, 2), None

    def note(layer):
        def hook(module, inputs, output):
            seen.states[layer] = output[0] if isinstance(output, Tensor) else output[0][0]

        return hook

    name = model.get_decoder().config._attn_implementation
    hooks = [layer.register_forward_hook(note(i)) for i, layer in enumerate(model.get_decoder().layers)]
    try:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, name, attention)
            seen.logits = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def masked_logits(model: PreTrainedModel, ids: Tensor, kept: KeptSets, first_new: int) -> Tensor:
    """Logits [T + n, V] of one forward without a cache, in which evicted columns are hidden from rows >= first_new.

    ids: [1, T + n], prompt and generated tokens.
    """

    def visible(layer: int, head: int, row: int) -> Iterable[int]:
        return range(row + 1) if row < first_new else {*kept(layer, head), *range(first_new, row + 1)}

    return masked_forward(model, ids, visible).logits


def rank_tokens(scores: Sequence[float], budget: int, sinks: int, recent: int) -> set[int]:
    """Kept tokens of one head: guards, then one at a time the best of the rest, the lower position among equals."""
    tokens = len(scores)
    if budget >= tokens:
        return set(range(tokens))
    kept = {p for p in range(tokens) if p < sinks or p >= tokens - recent}
    while len(kept) < budget:
        kept.add(min((p for p in range(tokens) if p not in kept), key=lambda p: (-scores[p], p)))
    return kept


def pooled(scores: Sequence[float], unit_ids: Sequence[int], pool: str, top_k: int) -> dict[int, Fraction]:
    """Score of each unit, in exact fractions."""
    result = {}
    for unit in set(unit_ids):
        members = sorted((Fraction(s) for s, u in zip(scores, unit_ids, strict=True) if u == unit), reverse=True)
        chosen = {"max": members[:1], "mean": members, "topk_mean": members[:top_k]}[pool]
        result[unit] = sum(chosen) / len(chosen)
    return result


def rank_units(
    scores: Sequence[float],
    unit_ids: Sequence[int],
    budget: int,
    sinks: int,
    recent: int,
    *,
    fill: bool,
    fit: str,
    pool: str,
    top_k: int,
) -> set[int] | None:
    """Kept tokens under a unit rule, step by step as the rule is told; None if whole guard units exceed the budget."""
    tokens = len(scores)
    if budget >= tokens:
        return set(range(tokens))
    unit_scores = pooled(scores, unit_ids, pool, top_k)
    members = {unit: {p for p in range(tokens) if unit_ids[p] == unit} for unit in unit_scores}
    guards = {p for p in range(tokens) if p < sinks or p >= tokens - recent}
    if fit == "prefix":
        kept = set(guards)
        for unit in sorted(members, key=lambda u: (-unit_scores[u], u)):
            if len(kept | members[unit]) > budget:
                break
            kept |= members[unit]
    else:
        kept = set(range(tokens))
        droppable = {unit for unit in members if not members[unit] & guards}
        while len(kept) > budget and droppable:
            lowest = min(droppable, key=lambda u: (unit_scores[u], -u))
            droppable.remove(lowest)
            kept -= members[lowest]
        if len(kept) > budget:
            return None
    if fill:
        while len(kept) < budget:
            kept.add(min((p for p in range(tokens) if p not in kept), key=lambda p: (-scores[p], p)))
    return kept
