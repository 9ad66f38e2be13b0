"""Budgets held while decoding. Oracle: forwards without a cache, whose visible columns a loop over the rule decides."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from kv_oracles import Seen, masked_forward
from tiny_models import CACHE_OF, NOISE, WINDOW, prompt, tiny_model
from torch import Tensor

from vorn.kv.capture import prefill
from vorn.kv.decode import Branch, Decoding, decode
from vorn.kv.held import HeldGroup
from vorn.kv.hold import EveryStep, Hold, SentenceEnd, Trigger
from vorn.kv.layout import model_shape
from vorn.kv.retention import Kept, retain
from vorn.kv.rules import DecodeStep, DecodingScorer
from vorn.kv.scorers.h2o import H2O
from vorn.kv.scorers.random import Random
from vorn.kv.scorers.sink_recent import SinkRecent
from vorn.kv.scorers.tova import Tova
from vorn.kv.scorers.vorn import Vorn
from vorn.kv.signals import PrefillSignals
from vorn.kv.units import UnitRule

TOKENS, NEW, SEED = WINDOW + 6, 6, 5
FILLED = UnitRule(fill=True, fit="prefix", pool="max", top_k=1)
WHOLE = UnitRule(fill=False, fit="drop_lowest", pool="mean", top_k=1)
SCORERS: dict[str, DecodingScorer] = {
    "tova": Tova(),
    "h2o": H2O(),
    "vorn": Vorn(layer=1, window=4, direction="mean"),
    "sink_recent": SinkRecent(sinks=3),
    "random": Random(seed=1),
}
PER_LAYER, PER_HEAD = {"tova", "h2o"}, {"h2o"}
Sets = dict[tuple[int, int], set[int]]  # (cache, KV head) -> positions held
EVERY_STEP = EveryStep()
PERIODS: set[int] = set()  # tokens that end a sentence


@dataclass
class Cell:
    """One cell of a run."""

    name: str
    budget: int
    sinks: int = 2
    recent: int = 3
    trigger: Trigger = EVERY_STEP
    unit_ids: list[int] | None = None
    rule: UnitRule = FILLED


@dataclass
class Run:
    """What a run of the engine showed: logits and sets by branch and step, and the widest buffers."""

    decoding: Decoding
    kept: list[Kept]
    logits: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    sets: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    slots: dict[int, int] = field(default_factory=dict)


def run(
    family: str,
    cells: Sequence[Cell],
    first_token: str = "refeed",
    tokens: int = TOKENS,
    eos_ids: frozenset[int] = frozenset(),
    answer: tuple[int, ...] = (),
) -> Run:
    model = tiny_model(family)
    needs = frozenset().union(*(SCORERS[cell.name].needs(model_shape(model)) for cell in cells))
    read = prefill(model, prompt(tokens), needs, chunk_tokens=None, room=NEW, seed=SEED)
    branches = []
    for cell in cells:
        scorer = SCORERS[cell.name]
        units = {"unit_ids": cell.unit_ids, "rule": cell.rule}
        kept = retain(read.signals.scores(scorer), cell.budget, sinks=cell.sinks, recent=cell.recent, **units)
        hold = Hold(scorer, cell.budget, cell.sinks, cell.recent, cell.trigger, **units)
        branches.append(Branch(kept, hold))
    done = Run(None, [branch.kept for branch in branches])

    def note(running: Sequence[int], step: int, rows: Tensor) -> None:
        for branch, row in zip(running, rows, strict=True):
            done.logits[branch].append(row)

    def noting(group: HeldGroup, fed: Sequence[int]) -> dict[int, str]:
        errors = original(group, fed)
        for row, branch in enumerate(group.branches):
            done.sets[branch].append(group.positions[:, row].clone())
            done.slots[branch] = max(layer.keys.shape[2] for layer in group.layers)
        return errors

    original = HeldGroup.end_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldGroup, "end_step", noting)
        done.decoding = decode(
            model, read, branches, first_token=first_token, last_token=int(prompt(tokens)[0, -1]), max_new_tokens=NEW,
            eos_ids=eos_ids, pad_id=None, max_cells=64, max_bytes=2**31, on_logits=note, answer=answer,
        )  # fmt: skip
    return done


class Told:
    """One cell, step by step as the rule is told: plain sets, and a forward over everything at each step."""

    def __init__(self, family: str, cell: Cell, kept: Kept, tokens: int, first_new: int) -> None:
        self.cell, self.tokens, self.first_new, self.family = cell, tokens, first_new, family
        model = tiny_model(family)
        attentions = [module for module in model.get_decoder().modules() if hasattr(module, "k_proj")]
        self.cache_of = CACHE_OF.get(family, tuple(range(len(attentions))))
        self.first_reader = {
            cache: self.cache_of.index(cache) for cache in dict.fromkeys(self.cache_of) if cache is not None
        }
        self.heads = {
            cache: attentions[cache].k_proj.out_features // attentions[cache].head_dim for cache in self.first_reader
        }
        self.is_shared = cell.name not in PER_LAYER or cell.unit_ids is not None
        self.sets: Sets = {}
        for cache, heads in self.heads.items():
            rows = kept.positions[cache % len(kept.positions)].tolist()
            for head in range(heads):
                own = rows[head * len(rows) // heads]
                self.sets[cache, head] = {p for p in own if 0 <= p < first_new}
        self.visible: dict[int, Sets] = {}
        whole = masked_forward(model, prompt(tokens), lambda layer, head, row: range(row + 1))
        self.windows = whole.windows
        self.sums = {key: torch.cat([self.attention(whole, key).sum(dim=0), torch.zeros(NEW)]) for key in self.sets}

    def attention(self, seen: Seen, key: tuple[int, int]) -> Tensor:
        """Mean weights [T, T] over the query heads of a KV head, and over the layers that read its cache."""
        cache, head = key
        readers = [layer for layer, index in enumerate(self.cache_of) if index == cache]
        per_head = len(seen.weights[readers[0]]) // self.heads[cache]
        own = slice(head * per_head, (head + 1) * per_head)
        return torch.cat([seen.weights[layer][own] for layer in readers]).mean(dim=0)

    def step(self, ids: Tensor, position: int) -> Tensor:
        """Logits of the token at `position`; the sets afterwards are those of the rule."""
        if not self.is_shared:
            for (cache, _), held in self.sets.items():
                window = self.windows[self.first_reader[cache]]
                held -= {p for p in held if window and p <= position - window}
        for held in self.sets.values():
            held.add(position)
        self.visible[position] = {key: set(held) for key, held in self.sets.items()}

        def visible(layer: int, head: int, row: int) -> range | set[int]:
            return range(row + 1) if row < self.first_new else self.visible[row][self.cache_of[layer], head]

        seen = masked_forward(tiny_model(self.family), ids[:, : position + 1], visible)
        self.learn(seen, position)
        if self.is_due(int(ids[0, position])):
            self.evict(seen, position)
        return seen.logits[-1]

    def learn(self, seen: Seen, position: int) -> None:
        if position >= self.tokens:
            for key in self.sets:
                self.sums[key][: position + 1] += self.attention(seen, key)[position]
        self.states = seen.states[1]

    def is_due(self, token: int) -> bool:
        held, trigger = max(map(len, self.sets.values())), self.cell.trigger
        if isinstance(trigger, SentenceEnd):
            return token in PERIODS or held > self.cell.budget + int(self.cell.budget * trigger.overflow_percent / 100)
        return True

    def score(self, seen: Seen, keys: list[tuple[int, int]], position: int, p: int) -> float:
        """The score of position p in the set that these heads share."""
        match self.cell.name:
            case "tova":
                return self.mean_of_caches(keys, lambda key: float(self.attention(seen, key)[position, p]))
            case "h2o":
                return self.mean_of_caches(keys, lambda key: float(self.sums[key][p]))
            case "vorn":
                direction = self.states[position - 3 : position + 1].mean(dim=0)
                return float(torch.cosine_similarity(self.states[p], direction, dim=0))
            case "sink_recent":
                return 1e9 if p < 3 else p
        text = json.dumps([1, SEED, position], separators=(",", ":"))
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) >> 1
        return float(torch.randperm(position + 1, generator=torch.Generator().manual_seed(seed))[p])

    def mean_of_caches(self, keys: list[tuple[int, int]], value: Callable[[tuple[int, int]], float]) -> float:
        by_cache = defaultdict(list)
        for key in keys:
            by_cache[key[0]].append(value(key))
        return sum(sum(v) / len(v) for v in by_cache.values()) / len(by_cache)

    def evict(self, seen: Seen, position: int) -> None:
        groups: dict[object, list[tuple[int, int]]] = defaultdict(list)
        for cache, head in self.sets:
            group = 0 if self.is_shared else (cache, head if self.cell.name in PER_HEAD else 0)
            groups[group].append((cache, head))
        for keys in groups.values():
            held = self.sets[keys[0]]
            if len(held) <= self.cell.budget:
                continue
            scores = {p: self.score(seen, keys, position, p) for p in held}
            gone = self.units_gone(scores, position) if self.cell.unit_ids else self.tokens_gone(scores, position)
            for key in keys:
                self.sets[key] = self.sets[key] - gone

    def is_guarded(self, p: int, position: int) -> bool:
        return p < self.cell.sinks or p > position - self.cell.recent

    def tokens_gone(self, scores: dict[int, float], position: int) -> set[int]:
        free = [p for p in scores if not self.is_guarded(p, position)]
        return set(sorted(free, key=lambda p: (scores[p], -p))[: len(scores) - self.cell.budget])

    def units_gone(self, scores: dict[int, float], position: int) -> set[int]:
        """The paper's selector: units that touch a guard stay, of the others the lowest mean goes until it fits."""
        ids = self.cell.unit_ids
        unit_of = {p: ids[p] if p < self.tokens else f"decoded {p:03}" for p in scores}
        members = defaultdict(list)
        for p, unit in unit_of.items():
            members[unit].append(p)
        gone: set[int] = set()
        free = [u for u, own in members.items() if not any(self.is_guarded(p, position) for p in own)]
        for unit in sorted(free, key=lambda u: (sum(scores[p] for p in members[u]) / len(members[u]), -members[u][0])):
            if len(scores) - len(gone) <= self.cell.budget:
                break
            gone |= set(members[unit])
        return gone


def check(family: str, cells: Sequence[Cell], first_token: str = "refeed", tokens: int = TOKENS) -> Run:
    """Logits and kept sets of every cell equal the oracle's at every step."""
    got = run(family, cells, first_token, tokens)
    first_new = tokens - (first_token == "refeed")
    for branch, cell in enumerate(cells):
        ids = torch.cat([prompt(tokens), torch.tensor([got.decoding.cells[branch].token_ids])], dim=1)
        told = Told(family, cell, got.kept[branch], tokens, first_new)
        for step, positions in enumerate(got.sets[branch]):
            want = told.step(ids, first_new + step)
            index = step + (first_token == "prefill")
            torch.testing.assert_close(got.logits[branch][index], want, rtol=0, atol=5e-5 * NOISE.get(family, 1))
            for (cache, head), held in told.sets.items():
                layer = positions[cache % len(positions)].tolist()
                row = layer[head * len(layer) // told.heads[cache]]
                assert {p for p in row if p >= 0} == held, (cell.name, step, cache, head)
        assert len(got.sets[branch]) == NEW - (first_token == "prefill")
    return got


SENTENCES = [position // 5 for position in range(TOKENS)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "mistral", "gemma4", "gemma4_kv", "qwen3_5", "bamba"])
def test_every_rule_equals_masked_forwards_step_by_step(family: str) -> None:
    cells = [*(Cell(name, 9) for name in SCORERS), Cell("h2o", 14), Cell("tova", 13, sinks=0, recent=1)]
    got = check(family, cells)
    assert {cell.batch_rows for cell in got.decoding.cells} == {len(cells)}
    for branch, cell in enumerate(cells):
        assert got.slots[branch] <= 15  # the larger budget of the group and the token read last
        held = (got.sets[branch][-1] >= 0).sum(dim=-1)
        assert held.amax() <= cell.budget  # what a sliding layer has left behind may leave it with less
        if family in ("llama", "qwen3"):
            assert (held == cell.budget).all()


def test_the_first_token_may_come_from_the_prefill() -> None:
    check("llama", [Cell(name, 8) for name in SCORERS], first_token="prefill")


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_units_are_dropped_whole_and_decoded_tokens_one_by_one(family: str) -> None:
    cells = [Cell(name, 12, unit_ids=SENTENCES, rule=WHOLE) for name in ("h2o", "tova", "vorn")]
    got = check(family, cells)
    counts = [int((sets >= 0).sum()) for sets in got.sets[0]]
    assert any(after < before for before, after in pairwise(counts))  # a sentence went


def test_a_prompt_within_the_budget_is_held_as_soon_as_decoding_exceeds_it() -> None:
    got = check("llama", [Cell(name, 12) for name in SCORERS], tokens=9)
    for branch in range(len(SCORERS)):
        counts = [int((sets[0, 0] >= 0).sum()) for sets in got.sets[branch]]
        assert counts == [9, 10, 11, 12, 12, 12]


def test_with_sentences_for_a_trigger_a_fifth_more_is_held_until_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    free = run("llama", [Cell("tova", 10)]).decoding.cells[0].token_ids
    monkeypatch.setattr(sys.modules[__name__], "PERIODS", {free[1]})
    for overflow, want in ((20, [10, 11, 10, 11, 12, 10]), (0, [10] * 6), (100, [10, 11, 10, 11, 12, 13])):
        trigger = SentenceEnd(PERIODS.__contains__, overflow)
        got = check("llama", [Cell("tova", 10, trigger=trigger), Cell("h2o", 10, trigger=trigger)])
        assert [int((sets[0, 0] >= 0).sum()) for sets in got.sets[0]] == want
        assert got.slots[0] == min(11 + overflow // 10, 9 + NEW)


def test_guards_that_units_cannot_hold_any_more_are_an_error_of_that_row_alone() -> None:
    """The last two positions touch the last sentence and a decoded token, and all of the last sentence must stay."""
    tight = Cell("vorn", 7, sinks=2, recent=2, unit_ids=SENTENCES, rule=WHOLE)
    roomy = Cell("vorn", 12, sinks=2, recent=2, unit_ids=SENTENCES, rule=WHOLE)
    tight.unit_ids = [0, 0, *range(1, TOKENS - 6), *[TOKENS - 6] * 5]
    got = run("llama", [tight, roomy])
    assert got.decoding.cells[0].error.startswith("BadInput: budget of 7 tokens cannot hold the 8 tokens of the units")
    assert got.decoding.cells[1].error is None
    assert len(got.decoding.cells[1].token_ids) == NEW
    assert len(got.decoding.cells[0].token_ids) == 2  # the refed token's, and that of the step whose eviction failed
    ended = frozenset(got.decoding.cells[0].token_ids[:1])
    assert run("llama", [tight, roomy], eos_ids=ended).decoding.cells[0].error is None  # it was over by then


def test_an_answer_is_weighed_while_the_budget_is_held_anew() -> None:
    """What decoding has evicted from a row is there again when the answer is fed."""
    cells = [*(Cell(name, 8) for name in SCORERS), Cell("vorn", 12, unit_ids=SENTENCES, rule=WHOLE)]
    answer = prompt(5, seed=7)
    got = run("llama", cells, answer=tuple(answer[0].tolist()))
    ids = torch.cat([prompt(TOKENS), answer], dim=1)
    for branch, cell in enumerate(cells):
        told = Told("llama", cell, got.kept[branch], TOKENS, TOKENS - 1)
        rows = [told.step(ids, TOKENS - 1 + step).double().log_softmax(dim=0) for step in range(5)]
        nats = -sum(float(row[token]) for row, token in zip(rows, answer[0].tolist(), strict=True))
        assert got.decoding.cells[branch].answer_nll == pytest.approx(nats, abs=5e-4)


def test_h2o_adds_each_query_once() -> None:
    """The refed token's attention is in the prompt's sums; a new entry begins with what its own query gave it."""
    rule = H2O().decode_rule(PrefillSignals({}, 3, model_shape(tiny_model("llama")), 0, torch.device("cpu")))
    held, weights = torch.tensor([[[[0, 1, -1]]]]), torch.tensor([[[[0.5, 0.25, 0.25]]]])
    rule.start(held, torch.tensor([[[7.0, 5.0, 3.0]]]))
    for position, slot, want in ((2, 2, [7.0, 5.0, 3.0]), (3, 1, [7.5, 0.25, 3.25]), (4, 0, [0.5, 0.5, 3.5])):
        held = held.clone()
        held[..., slot] = position
        step = DecodeStep(position, held, torch.tensor([[[[slot]]]]), weights, None)
        rule.observe(step)
        assert rule.scores(step).tolist() == [[[want]]]


def test_heads_of_different_counts_are_refused() -> None:
    uneven = Kept((torch.tensor([[0, 1, 2, TOKENS - 1], [0, 1, TOKENS - 1, -1]]),), TOKENS)
    read = prefill(tiny_model("llama"), prompt(TOKENS), frozenset(), chunk_tokens=None, room=NEW, seed=SEED)
    hold = Hold(SCORERS["random"], 4, 0, 1, EVERY_STEP, None, FILLED)
    with pytest.raises(ValueError, match="as many kept entries in every head; choose allocation=uniform"):
        decode(
            tiny_model("llama"), read, [Branch(uneven, hold)], first_token="refeed", last_token=0, max_new_tokens=NEW,
            eos_ids=frozenset(), pad_id=None, max_cells=64, max_bytes=2**31,
        )  # fmt: skip
