"""The re-reading contract against a plain loop over full forwards: same tokens, same kept sets, at every step."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES as ALL_FAMILIES
from tiny_models import WINDOW, prompt, tiny_model

from vorn.kv.capture import Reader, prefill
from vorn.kv.greedy import Greedy
from vorn.kv.layout import layout, model_shape
from vorn.kv.policy import CellPolicy
from vorn.kv.reforward import ReforwardCell, Reforwarded, _Run, check_attention, is_cached, reforward
from vorn.kv.scorers.attention_mass import AttentionMass
from vorn.kv.scorers.expected_attention import ExpectedProducts
from vorn.kv.scorers.h2o import H2O
from vorn.kv.scorers.redraw import Redraw
from vorn.kv.scorers.sink_recent import SinkRecent
from vorn.kv.scorers.tova import Tova
from vorn.kv.scorers.vorn import Vorn
from vorn.kv.signals import Scorer
from vorn.kv.units import Adaptive, Sentences, Tokens, Unit, UnitRule
from vorn.records import BadInput

TOKENS, BUDGET, NEW, LAYER, TEXT, SEED = 61, 30, 6, 2, "a prompt", 17
EOS: frozenset[int] = frozenset()
FAMILIES = ("llama", "mistral", "qwen3", "gemma2")
UNITS = [token // 7 for token in range(TOKENS)]


@dataclass
class Step:
    """What a full forward of the active tokens shows, and what the loop remembers."""

    positions: list[int]
    hidden: np.ndarray  # [n, D] after layer LAYER
    last_row: np.ndarray  # [n] attention of the last token in the final layer, mean over heads
    total: np.ndarray  # [n] its sum over steps
    rows: np.ndarray  # [n] attention of the last token, mean over layers and heads
    columns: np.ndarray  # [n] attention of all tokens, summed over them, mean over layers and heads


def full_forward(family: str, ids: list[int], positions: list[int]) -> tuple[torch.Tensor, Step]:
    """Eager, without a cache, under masks written out here: by place among the tokens, not by position."""
    model = tiny_model(family, "eager")
    places = torch.arange(len(ids))
    distance = places[:, None] - places
    masks = {
        "full_attention": torch.where(distance < 0, -torch.inf, 0.0)[None, None],
        "sliding_attention": torch.where((distance < 0) | (distance >= WINDOW), -torch.inf, 0.0)[None, None],
    }
    plain = "sliding_attention" if family == "mistral" else "full_attention"
    with torch.no_grad():
        out = model(
            torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            attention_mask=masks if hasattr(model.config, "layer_types") else masks[plain],
            use_cache=False,
            output_attentions=True,
            output_hidden_states=True,
        )
    every = torch.cat(out.attentions)  # [L, H, n, n]
    rows, columns = every[:, :, -1].mean(dim=(0, 1)).numpy(), every.sum(dim=2).mean(dim=(0, 1)).numpy()
    row = every[-1, :, -1].mean(dim=0).numpy()
    hidden = out.hidden_states[LAYER + 1][0].numpy()
    return out.logits[0, -1], Step(positions, hidden, row, np.zeros(0), rows, columns)


def by_vorn(step: Step) -> list[float]:
    direction = step.hidden[-16:].mean(axis=0)
    norm = np.linalg.norm(direction)
    return [float(h @ direction / (np.linalg.norm(h) * norm)) for h in step.hidden]


def best(scores: list[float], guards: set[int]) -> set[int]:
    kept = set(guards)
    while len(kept) < BUDGET:
        kept.add(min(set(range(len(scores))) - kept, key=lambda p: (-scores[p], p)))
    return kept


def drop_units(scores: list[float], guards: set[int], positions: list[int]) -> set[int]:
    """Whole sentences go, the lowest maximum first, the later among equals; generated tokens are sentences of one."""
    unit = {place: UNITS[p] if p < TOKENS else 1000 + p for place, p in enumerate(positions)}
    kept, required = set(unit), {unit[place] for place in guards}
    while len(kept) > BUDGET:
        left = {unit[place] for place in kept} - required
        worst = min(left, key=lambda u: (max(scores[p] for p in unit if unit[p] == u), -u))
        kept = {place for place in kept if unit[place] != worst}
    return kept


def guards_of(n: int) -> set[int]:
    return {0, *range(max(0, n - 16), n)}


def drawn(step: Step, guards: set[int]) -> set[int]:
    key = hashlib.sha256(TEXT.encode() + b"17" + np.array(step.positions, dtype=np.int64).tobytes()).digest()
    candidates = [place for place in range(len(step.positions)) if place not in guards]
    rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
    return guards | set(rng.choice(candidates, size=BUDGET - len(guards), replace=False).tolist())


def guarded(scores: Callable[[Step], list[float]]) -> Callable[[Step], set[int]]:
    return lambda step: best(scores(step), guards_of(len(step.positions)))


def sentences(scores: Callable[[Step], list[float]]) -> Callable[[Step], set[int]]:
    return lambda step: drop_units(scores(step), guards_of(len(step.positions)), step.positions)


def adaptive(step: Step) -> set[int]:
    """Sentences where the best of them stands out more than the best token does, decided anew at each dropping."""
    scores = by_vorn(step)
    unit = [UNITS[p] if p < TOKENS else 1000 + p for p in step.positions]
    pooled = [max(s for s, u in zip(scores, unit, strict=True) if u == one) for one in sorted(set(unit))]
    peaks = [(max(values) - np.mean(values)) / np.std(values) for values in (pooled, scores)]
    by_sentence = bool(peaks[0] > peaks[1])
    CHOSEN.append(by_sentence)
    return (sentences if by_sentence else guarded)(by_vorn)(step)


CHOSEN: list[bool] = []  # what `adaptive` decided
LAST, TOTAL = lambda step: step.last_row.tolist(), lambda step: step.total.tolist()
LAST_ROW, STEPS = (AttentionMass(layers="final", heads="mean", queries=queries) for queries in (1, "steps"))
VORN = Vorn(layer=LAYER, window=16, direction="mean")
TOKEN, SENTENCE, ADAPTIVE = Tokens(), Sentences("marks"), Adaptive("marks")
SELECTORS: dict[str, tuple[Scorer, Unit, tuple[int, int], Callable[[Step], set[int]]]] = {
    "vorn": (VORN, TOKEN, (1, 16), guarded(by_vorn)),
    "tova": (LAST_ROW, TOKEN, (1, 16), guarded(LAST)),
    "h2o": (STEPS, TOKEN, (1, 16), guarded(TOTAL)),
    "random": (Redraw(SEED), TOKEN, (1, 16), lambda s: drawn(s, guards_of(len(s.positions)))),
    "random, no guards": (Redraw(SEED), TOKEN, (0, 0), lambda s: drawn(s, set())),
    "sliding_window": (
        SinkRecent(0), TOKEN, (0, 0), lambda s: set(range(len(s.positions) - BUDGET, len(s.positions))),
    ),
    "prefix_suffix": (
        SinkRecent(12), TOKEN, (0, 0),
        lambda s: {*range(12), *range(len(s.positions) - BUDGET + 12, len(s.positions))},
    ),
    "sentence_vorn": (VORN, SENTENCE, (1, 16), sentences(by_vorn)),
    "sentence_h2o": (STEPS, SENTENCE, (1, 16), sentences(TOTAL)),
    "sentence_tova, no guards": (LAST_ROW, SENTENCE, (0, 0), lambda s: drop_units(LAST(s), set(), s.positions)),
    # The published forms score layers and heads apart; here their mean decides, as it does for units.
    "published tova": (Tova(), TOKEN, (1, 16), guarded(lambda s: s.rows.tolist())),
    "published h2o": (H2O(), TOKEN, (1, 16), guarded(lambda s: s.columns.tolist())),
}  # fmt: skip


def loop(
    family: str, select: Callable[[Step], set[int]], budget: int, next_token: Callable[[torch.Tensor], int | None]
) -> list[tuple[int, ...]]:
    """The released loop: a forward of the active tokens, a dropping, a second forward, a token."""
    ids, positions, total = prompt(TOKENS)[0].tolist(), list(range(TOKENS)), np.zeros(TOKENS, dtype=np.float32)
    active: list[tuple[int, ...]] = []
    while True:
        logits, step = full_forward(family, ids, positions)
        step.total = total = total + step.last_row
        if len(ids) > budget:
            kept = sorted(select(step))
            ids, positions, total = [ids[k] for k in kept], [positions[k] for k in kept], total[kept]
            logits, _ = full_forward(family, ids, positions)
        active.append(tuple(positions))
        token = next_token(logits)
        if token is None:
            return active
        ids, positions = [*ids, token], [*positions, TOKENS + len(active) - 1]
        total = np.append(total, np.float32(0))


def harness(
    family: str, select: Callable[[Step], set[int]], budget: int = BUDGET, pad: int = -1
) -> tuple[list[int], list[tuple[int, ...]]]:
    """The tokens that the loop finds best, and what it had before each."""
    tokens: list[int] = []

    def best(logits: torch.Tensor) -> int | None:
        if pad >= 0:
            logits[pad] = -torch.inf
        tokens.append(int(logits.argmax()))
        return tokens[-1] if len(tokens) < NEW else None

    return tokens, loop(family, select, budget, best)


def run(
    family: str,
    name: str,
    *,
    cached: bool,
    budget: int = BUDGET,
    eos: frozenset[int] = EOS,
    pad: int | None = None,
    answer: tuple[int, ...] = (),
    chunk: int | None = None,
) -> Reforwarded:
    scorer, unit, (sinks, recent), _ = SELECTORS[name]
    rule = UnitRule(fill=False, fit="drop_lowest", pool="max", top_k=3)
    policy = CellPolicy(scorer, unit, rule)
    model, ids = tiny_model(family), prompt(TOKENS)
    read = prefill(model, ids, policy.needs(model_shape(model)), chunk_tokens=None, room=0, seed=0)
    cell = ReforwardCell(policy, budget, sinks, recent, UNITS)
    return reforward(
        model, read, ids[0].tolist(), cell, Greedy(NEW, eos, pad), text=TEXT, cached=cached, chunk_tokens=chunk,
        answer=answer,
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", list(SELECTORS))
def test_tokens_and_kept_sets_are_those_of_the_released_loop(family: str, name: str) -> None:
    tokens, active = harness(family, SELECTORS[name][3])
    for cached in (True, False):
        got = run(family, name, cached=cached)
        assert got.error is None
        assert list(got.active) == active, cached
        assert list(got.token_ids) == tokens, cached
        assert max(map(len, got.active)) <= BUDGET


@pytest.mark.parametrize(("family", "name"), [("gemma2", "h2o"), ("mistral", "published h2o"), ("qwen3", "vorn")])
def test_what_is_read_again_comes_in_chunks(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same loop, and the lengths of what is read."""
    read, lengths = Reader.read, list[int]()
    monkeypatch.setattr(Reader, "read", lambda self, chunk, at: lengths.append(chunk.shape[1]) or read(self, chunk, at))
    tokens, active = harness(family, SELECTORS[name][3])
    for cached, again in ((True, [1]), (False, [11, 11, 9])):
        got = run(family, name, cached=cached, chunk=11)
        assert (list(got.token_ids), list(got.active)) == (tokens, active)
        assert lengths == [TOKENS, *([11, 11, 8, *again] * NEW)[: -len(again)]]
        assert (got.forwards, got.forward_tokens) == (len(lengths) - 1, sum(lengths) - TOKENS)
        lengths.clear()


def test_adaptive_units_are_decided_at_each_dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SELECTORS, "adaptive_vorn", (VORN, ADAPTIVE, (1, 16), adaptive))
    monkeypatch.setitem(globals(), "UNITS", [token // 12 for token in range(TOKENS)])
    tokens, active = harness("mistral", SELECTORS["adaptive_vorn"][3])
    got = run("mistral", "adaptive_vorn", cached=True)
    assert (list(got.token_ids), list(got.active), got.evictions) == (tokens, active, len(CHOSEN))
    assert set(CHOSEN) == {True, False}, "one side only"


def test_bytes_are_those_that_the_next_token_can_see() -> None:
    read = prefill(tiny_model("gemma2"), prompt(TOKENS), frozenset(), chunk_tokens=None, room=0, seed=0)
    for tokens in (WINDOW - 2, BUDGET):
        seen = [min(tokens, window) for window in (WINDOW, 99, WINDOW, 99)]
        assert read.cache.bytes_of(tokens) == sum(seen) * 2 * 2 * 16 * 4  # keys and values, heads, width, bytes


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("budget", "evictions"), [(TOKENS, 5), (TOKENS + 2, 3), (TOKENS + NEW, 0)])
def test_nothing_is_dropped_before_the_budget_is_exceeded(
    cached: bool, budget: int, evictions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "BUDGET", budget)
    tokens, active = harness("mistral", SELECTORS["h2o"][3], budget)
    got = run("mistral", "h2o", cached=cached, budget=budget)
    assert (list(got.token_ids), list(got.active), got.evictions) == (tokens, active, evictions)


@pytest.mark.parametrize("family", sorted(set(ALL_FAMILIES) - set(FAMILIES)))
def test_stored_states_are_exact_in_every_family(family: str) -> None:
    cached, plain = (run(family, "h2o", cached=one) for one in (True, False))
    assert (cached.token_ids, cached.active) == (plain.token_ids, plain.active)


@pytest.mark.parametrize("name", ["random, no guards", "sentence_tova, no guards"])
def test_generated_tokens_can_be_dropped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "BUDGET", 4)
    monkeypatch.setitem(globals(), "NEW", 12)
    monkeypatch.setitem(globals(), "UNITS", list(range(TOKENS)))
    tokens, active = harness("llama", SELECTORS[name][3], BUDGET)
    got = run("llama", name, cached=True, budget=BUDGET)
    assert (list(got.token_ids), list(got.active)) == (tokens, active)
    assert any(set(range(TOKENS, max(now))) - set(now) for now in active), "none was dropped"


def test_queries_are_turned_back_by_their_positions() -> None:
    # Only distances matter to RoPE, so that a text that begins at position 37 expects the same products.
    model, signal, found = tiny_model("llama"), ExpectedProducts(sinks=4, future=8), []
    for first in (0, 37):
        plan = layout(model)
        accumulator = signal.accumulator(plan.shape, TOKENS)
        Reader(model, plan, [accumulator], TOKENS, 0).read(prompt(TOKENS), torch.arange(first, first + TOKENS))
        found.append(accumulator.result())
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_ends_at_any_end_token_and_never_takes_the_pad_token() -> None:
    plain = run("llama", "tova", cached=True).token_ids
    pad = plain[2]
    tokens, _ = harness("llama", SELECTORS["tova"][3], pad=pad)
    assert list(run("llama", "tova", cached=True, pad=pad).token_ids) == tokens
    assert pad not in tokens
    ended = run("llama", "tova", cached=True, eos=frozenset({plain[3], 255}))
    assert (ended.token_ids, len(ended.active), ended.evictions) == (plain[:3], 4, 4)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("family", "name"), [("gemma2", "vorn"), ("llama", "h2o")])
def test_an_answer_is_weighed_in_the_same_loop(family: str, name: str, cached: bool) -> None:
    answer, nats = (7, 130, 22, 22), []

    def given(logits: torch.Tensor) -> int | None:
        nats.append(-float(logits.double().log_softmax(-1)[answer[len(nats)]]))
        return answer[len(nats) - 1] if len(nats) < len(answer) else None

    loop(family, SELECTORS[name][3], BUDGET, given)
    got, plain = run(family, name, cached=cached, answer=answer), run(family, name, cached=cached)
    assert got.answer_nll == pytest.approx(sum(nats), abs=1e-3)
    assert (plain.answer_nll, plain.token_ids, plain.active) == (None, got.token_ids, got.active)
    assert got.forwards == plain.forwards + 2 * len(answer) - 1


def test_an_answer_is_weighed_without_the_cache_of_what_was_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ref[object]] = []
    begin, weigh, alive = Reader.__init__, _Run.weigh, list[int]()

    def noting(self: Reader, *args: Any) -> None:
        begin(self, *args)
        made.append(ref(self.cache))

    def counting(self: _Run, answer: Sequence[int]) -> float:
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        return weigh(self, answer)

    monkeypatch.setattr(Reader, "__init__", noting)
    monkeypatch.setattr(_Run, "weigh", counting)
    run("llama", "tova", cached=True, answer=(5, 6))
    assert len(made) > 1
    assert alive == [1]  # the prompt's


def test_cost_is_counted() -> None:
    cached, plain = (run("llama", "vorn", cached=one) for one in (True, False))
    # The prompt's reading is shared. Each step reads what is left; each but the first also scores a token more.
    assert (cached.forwards, cached.forward_tokens) == (2 * NEW - 1, NEW * BUDGET + NEW - 1)
    assert (plain.forwards, plain.forward_tokens) == (2 * NEW - 1, NEW * BUDGET + (NEW - 1) * (BUDGET + 1))
    assert cached.evictions == plain.evictions == NEW
    assert 0 < cached.score_s < cached.seconds


@pytest.mark.parametrize(
    ("setting", "dtype", "want"),
    [("auto", torch.float32, True), ("auto", torch.bfloat16, False), (False, torch.float32, False)],
)
def test_stored_states_are_used_where_they_are_exact(setting: str | bool, dtype: torch.dtype, want: bool) -> None:
    assert is_cached(setting, dtype) == want


def test_refusals() -> None:
    with pytest.raises(ValueError, match="budget of 12 tokens cannot hold"):
        run("llama", "vorn", cached=True, budget=12)
    with pytest.raises(BadInput, match="tokens of the units that the guards"):
        run("llama", "sentence_vorn", cached=True, budget=18)
    model = tiny_model.__wrapped__("llama")
    check_attention(model)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(BadInput, match=r"give model\.attn_implementation=sdpa"):
        check_attention(model)
