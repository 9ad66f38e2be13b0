"""Positions re-assigned inside the cache. Oracle: one forward in which attention rotates unrotated keys itself."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from tiny_models import WINDOW, prompt, tiny_model
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vorn.kv.capture import prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.hold import EveryStep, Hold, SentenceEnd
from vorn.kv.policy import CellPolicy
from vorn.kv.retention import Kept
from vorn.kv.rotary import LayerRotation, rotate_back
from vorn.kv.scorers.sink_recent import SinkRecent
from vorn.kv.units import Tokens, UnitRule
from vorn.records import BadInput

TOKENS, NEW = 2 * WINDOW + 5, 6
RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=3)


def turned(states: Tensor, positions: list[int], theta: float, share: float) -> Tensor:
    """[n, D] states, of which the first `share` is rotated by RoPE as complex numbers.

    Of R rotated dimensions, d is the real part and d + R / 2 the imaginary one.
    """
    width = int(states.shape[-1] * share)
    rest, states = states.double()[:, width:], states[:, :width]
    real, imaginary = states.double().chunk(2, dim=-1)
    speeds = theta ** (-torch.arange(real.shape[-1], dtype=torch.float64) / real.shape[-1])
    angles = torch.tensor(positions, dtype=torch.float64)[:, None] * speeds
    result = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([result.real, result.imag, rest], dim=-1)


def reference(family: str, ids: Tensor, kept: list[int], first_new: int) -> Tensor:
    """Logits [T + n, V]: rows from `first_new` on see kept columns only, and all of these at their rank."""
    inside = [p for p in kept if p < first_new]
    return ranked(family, ids, lambda row: [*inside, *range(first_new, row + 1)], first_new)


def ranked(family: str, ids: Tensor, sees: Callable[[int], list[int]], first_new: int) -> Tensor:
    """Logits [T + n, V]: rows from `first_new` on see, in order, what `sees` says, each column at its rank there."""
    model, tokens = tiny_model(family), ids.shape[1]
    rope = model.config.rope_parameters
    rotated = {"theta": rope["rope_theta"], "share": rope.get("partial_rotary_factor", 1.0)}

    def attention(module, query, key, value, mask, *, scaling, **_):
        output = torch.empty_like(query)
        for head in range(query.shape[1]):
            keys, values = key[0, head // 2], value[0, head // 2].double()
            for row in range(tokens):
                seen = sees(row) if row >= first_new else list(range(row + 1))
                q = turned(query[0, head, row : row + 1], [len(seen) - 1], **rotated)
                k = turned(keys[seen], list(range(len(seen))), **rotated)
                output[0, head, row] = (q @ k.T * scaling).softmax(-1)[0] @ values[seen]
        return output.transpose(1, 2), None

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(sys.modules[type(model).__module__], "apply_rotary_pos_emb", lambda q, k, *_, **__: (q, k))
        patch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", attention)
        return model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]


def run(
    family: str, branches: list[Branch], first_token: str, tokens: int = TOKENS
) -> tuple[Decoding, dict[int, list[Tensor]]]:
    logits: dict[int, list[Tensor]] = defaultdict(list)

    def note(running: list[int], step: int, rows: Tensor) -> None:
        for branch, row in zip(running, rows, strict=True):
            logits[branch].append(row)

    read = prefill(tiny_model(family), prompt(tokens), frozenset(), chunk_tokens=None, room=NEW, seed=0)
    done = decode(
        tiny_model(family), read, branches, first_token=first_token, last_token=int(prompt(tokens)[0, -1]),
        max_new_tokens=NEW, eos_ids=frozenset(), pad_id=None, max_cells=8, max_bytes=2**30, on_logits=note,
    )  # fmt: skip
    return done, logits


def kept(*positions: int, is_compact: bool = True, tokens: int = TOKENS) -> Kept:
    return Kept((torch.tensor([positions]),), tokens, is_compact)


SETS = [(0, 1, 2, 3, *range(40, TOKENS)), (5, 17, 18, 30), (0, 20, 21, TOKENS - 1)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen3_5", "bamba"])
@pytest.mark.parametrize("first_token", ["refeed", "prefill"])
def test_compact_rows_equal_a_forward_with_keys_rotated_anew(family: str, first_token: str) -> None:
    branches = [Branch(kept(*SETS[0])), Branch(kept(*SETS[1], is_compact=False)), Branch(None), Branch(kept(*SETS[2]))]
    done, logits = run(family, branches, first_token)
    for index, chosen in ((0, SETS[0]), (3, SETS[2])):
        ids = torch.cat([prompt(TOKENS), torch.tensor([done.cells[index].token_ids])], dim=1)
        want = reference(family, ids, list(chosen), TOKENS - (first_token == "refeed"))[TOKENS - 1 : -1]
        torch.testing.assert_close(torch.stack(logits[index]), want, rtol=0, atol=5e-5)
    plain = run(family, [Branch(kept(*SETS[0], is_compact=False)), branches[1], Branch(None)], first_token)[1]
    assert (logits[0][-1] - plain[0][-1]).abs().max() > 0.01  # positions matter here
    for one, other in ((1, 1), (2, 2)):  # and neighbours in the batch are as they were
        torch.testing.assert_close(torch.stack(logits[one]), torch.stack(plain[other]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_streaming_llm_holds_its_budget_at_ranks_inside_the_cache(family: str) -> None:
    """Rows of budget 8 after each token, and of 10 whose cache is cut back from 13 to 10."""
    late = SentenceEnd(lambda token: False, 20)
    settings = [(8, EveryStep(), kept(0, 1, 2, *range(TOKENS - 5, TOKENS))),
                (10, late, kept(0, 1, 2, *range(TOKENS - 7, TOKENS)))]  # fmt: skip
    holds = [Hold(SinkRecent(sinks=3), budget, 0, 1, trigger, None, RULE) for budget, trigger, _ in settings]
    branches = [Branch(chosen, hold) for (_, _, chosen), hold in zip(settings, holds, strict=True)]
    done, logits = run(family, [*branches, Branch(None)], "refeed")
    held = {0: [8, 9, 9, 9, 9, 9], 1: [10, 11, 12, 13, 11, 12]}  # as each row's query sees it, itself included
    for index in (0, 1):
        ids = torch.cat([prompt(TOKENS), torch.tensor([done.cells[index].token_ids])], dim=1)

        def sees(row: int, counts: list[int] = held[index]) -> list[int]:
            return [0, 1, 2, *range(row - counts[row - TOKENS + 1] + 4, row + 1)]

        want = ranked(family, ids[:, :-1], sees, TOKENS - 1)[TOKENS - 1 :]
        torch.testing.assert_close(torch.stack(logits[index]), want, rtol=0, atol=5e-5)


def test_what_cannot_be_compacted_is_refused() -> None:
    two = Kept((torch.tensor([[0, 1], [2, 3]]),), TOKENS, True)
    with pytest.raises(BadInput, match="positions=compact needs one set for all layers and heads"):
        run("llama", [Branch(two)], "refeed")
    hold = Hold(SinkRecent(sinks=3), 9, 0, 1, EveryStep(), None, RULE)
    with pytest.raises(BadInput, match=r"positions=compact: layer 0 sees only the last \d+ positions"):
        run("mistral", [Branch(kept(*range(9), tokens=WINDOW - 1), hold)], "refeed", WINDOW - 1)
    with pytest.raises(BadInput, match="positions=compact: the model has layers with a sliding window"):
        run("mistral", [Branch(kept(*SETS[0]))], "refeed")


def test_a_compact_policy_marks_what_it_keeps() -> None:
    signals = prefill(tiny_model("llama"), prompt(TOKENS), frozenset(), chunk_tokens=None, room=1, seed=0).signals
    for is_compact in (True, False):
        policy = CellPolicy(SinkRecent(sinks=4), Tokens(), RULE, is_compact=is_compact)
        got = policy.keep(signals, range(TOKENS), 10, sinks=0, recent=1)
        assert got.is_compact is is_compact
        assert got.positions[0].tolist() == [[0, 1, 2, 3, *range(TOKENS - 6, TOKENS)]]


@pytest.mark.parametrize("family", ["llama", "bamba", "qwen3_5"])
def test_undoing_a_rotation_gives_back_what_was_turned(family: str) -> None:
    decoder = tiny_model(family).get_decoder()
    rope = decoder.config.rope_parameters
    states, positions = torch.randn(7, 16, generator=torch.Generator().manual_seed(1)), [0, 3, 4, 50, 51, 52, 900]
    there = turned(states, positions, rope["rope_theta"], rope.get("partial_rotary_factor", 1.0)).float()
    tables = LayerRotation(decoder, 1, 16).tables(torch.tensor(positions))
    torch.testing.assert_close(rotate_back(there, tables), states, rtol=0, atol=1e-4)
    assert (there - states)[1:].abs().amax(dim=0)[: tables[0].shape[-1]].min() > 0.01
