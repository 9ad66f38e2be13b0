from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from vorn.kv.attention import ColumnSums, LastAttention
from vorn.kv.policy import CellPolicy
from vorn.kv.scorers.evidence import EvidenceDrop, EvidenceKeep
from vorn.kv.scorers.h2o import H2O
from vorn.kv.scorers.random import Random
from vorn.kv.scorers.sink_recent import SinkRecent
from vorn.kv.scorers.tova import Tova
from vorn.kv.scorers.vorn import Vorn
from vorn.kv.signals import ModelShape, PrefillSignals, Residual, Scorer, Signal, fixture_seed
from vorn.kv.units import Adaptive, Sentences, Tokens, UnitRule
from vorn.records import BadInput

SHAPE = ModelShape(layers=6, query_heads=4, kv_heads=2)
RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=3)


def signals(tokens: int, captured: dict[Signal, Tensor] | None = None, seed: int = 7) -> PrefillSignals:
    return PrefillSignals(captured or {}, tokens, SHAPE, seed, torch.device("cpu"))


def drawn(*size: int) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("layer", "read"), [(None, 3), (0, 0), (5, 5), ("50%", 3), ("99.9%", 5), ("0%", 0)])
def test_vorn_is_the_cosine_with_the_mean_of_the_last_states(layer: int | str | None, read: int) -> None:
    states = (drawn(9, 5) - 0.3).double()
    scorer = Vorn(layer=layer, window=3, direction="mean")
    assert scorer.needs(SHAPE) == {Residual(read)}
    got = scorer(signals(9, {Residual(read): states.float()}))
    rows = states.tolist()
    mean = [sum(row[d] for row in rows[-3:]) / 3 for d in range(5)]
    want = [sum(a * b for a, b in zip(row, mean, strict=True)) / (math.hypot(*row) * math.hypot(*mean)) for row in rows]
    assert got.shape == (1, 1, 9)
    torch.testing.assert_close(got[0, 0].double(), torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_direction_of_unit_states_forgets_their_norms() -> None:
    states = drawn(9, 5) * torch.tensor([1.0, 1, 1, 1, 1, 1, 50, 1, 0.1])[:, None]
    got = Vorn(layer=1, window=3, direction="unit_mean")(signals(9, {Residual(1): states}))[0, 0]
    rows = [[x / math.hypot(*row) for x in row] for row in states.double().tolist()]
    mean = [sum(row[d] for row in rows[-3:]) / 3 for d in range(5)]
    want = [sum(a * b for a, b in zip(row, mean, strict=True)) / math.hypot(*mean) for row in rows]
    torch.testing.assert_close(got.double(), torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-6)
    plain = Vorn(layer=1, window=3, direction="mean")(signals(9, {Residual(1): states}))[0, 0]
    assert (got - plain).abs().max() > 0.01


def test_vorn_refuses_what_it_cannot_use() -> None:
    with pytest.raises(BadInput, match=r"policy.vorn.layer=6: the model has layers 0 to 5"):
        Vorn(layer=6, window=3, direction="mean").needs(SHAPE)
    with pytest.raises(BadInput, match=r"policy.vorn.layer=-1"):
        Vorn(layer=-1, window=3, direction="mean").needs(SHAPE)
    with pytest.raises(BadInput, match=r"policy.vorn.layer=100%: the model has layers 0 to 5"):
        Vorn(layer="100%", window=3, direction="mean").needs(SHAPE)
    with pytest.raises(BadInput, match=r"policy.vorn.direction='last'"):
        Vorn(layer=1, window=3, direction="last")
    with pytest.raises(BadInput, match=r"policy.vorn.window=10: longer than a prompt of 9 tokens"):
        Vorn(layer=1, window=10, direction="mean")(signals(9, {Residual(1): drawn(9, 5)}))
    with pytest.raises(BadInput, match=r"policy.vorn.window=0"):
        Vorn(layer=1, window=0, direction="mean")


def test_tova_is_the_mean_over_heads_per_layer() -> None:
    attention = drawn(6, 4, 9)
    got = Tova()(signals(9, {LastAttention(): attention}))
    assert Tova().needs(SHAPE) == {LastAttention()}
    assert got.shape == (6, 1, 9)
    for layer in range(6):
        for position in range(9):
            want = sum(attention[layer, head, position].item() for head in range(4)) / 4
            assert got[layer, 0, position].item() == pytest.approx(want, rel=1e-6)


def test_h2o_averages_the_query_heads_of_each_kv_head() -> None:
    sums = drawn(6, 4, 9)
    got = H2O()(signals(9, {ColumnSums(): sums}))
    assert H2O().needs(SHAPE) == {ColumnSums()}
    assert got.shape == (6, 2, 9)
    for layer in range(6):
        for head in range(2):
            for position in range(9):
                want = (sums[layer, 2 * head, position].item() + sums[layer, 2 * head + 1, position].item()) / 2
                assert got[layer, head, position].item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("tokens", [3, 8])
def test_sink_recent_ranks_sinks_then_the_latest(tokens: int) -> None:
    scores = SinkRecent(sinks=3)(signals(tokens))[0, 0].tolist()
    assert sorted(range(tokens), key=lambda p: -scores[p]) == [0, 1, 2, 7, 6, 5, 4, 3][:tokens]
    assert SinkRecent(sinks=3).needs(SHAPE) == frozenset()
    with pytest.raises(BadInput, match=r"sinks=-1 of a sink-and-recent policy"):
        SinkRecent(sinks=-1)


def with_evidence(tokens: int, *evidence: int) -> PrefillSignals:
    return replace(signals(tokens), evidence=evidence)


def kept_of(scorer: Scorer, read: PrefillSignals, budget: int, sinks: int, recent: int) -> set[int]:
    kept = CellPolicy(scorer, Tokens(), RULE).keep(read, [], budget, sinks=sinks, recent=recent)
    (rows,) = (rows.tolist() for rows in kept.positions)
    return set(rows[0]) - {-1}


@pytest.mark.parametrize(("after", "want"), [(0, {0, 4, 5, 7, 8, 9}), (1, {0, 4, 5, 6, 8, 9}), (9, {0, 4, 5, 6, 8, 9})])
def test_evidence_keep_takes_guards_then_evidence_then_the_latest(after: int, want: set[int]) -> None:
    assert kept_of(EvidenceKeep(after=after), with_evidence(10, 4, 5), 6, 1, 2) == want
    assert kept_of(EvidenceKeep(after=after), with_evidence(10, 4, 5), 4, 1, 2) == {0, 4, 8, 9}


@pytest.mark.parametrize(("after", "gone"), [(0, {4, 5}), (2, {4, 5, 6, 7})])
def test_evidence_drop_keeps_all_else_at_full_budget_and_never_the_evidence(after: int, gone: set[int]) -> None:
    read = with_evidence(10, 4, 5)
    assert kept_of(EvidenceDrop(after=after), read, 10, 0, 1) == set(range(10)) - gone
    assert kept_of(EvidenceDrop(after=after), read, 9, 0, 1) == set(range(10)) - gone
    assert kept_of(EvidenceDrop(after=after), read, 3, 0, 1) == {7, 8, 9} - gone | ({3} if after else set())
    assert kept_of(EvidenceDrop(after=9), with_evidence(10, 8), 10, 0, 1) == {*range(8), 9}  # the last one is a guard


def test_evidence_policies_refuse_a_fixture_without_evidence() -> None:
    for scorer in (EvidenceKeep(after=0), EvidenceDrop(after=0)):
        with pytest.raises(BadInput, match="this fixture names no evidence"):
            scorer(signals(10))
    with pytest.raises(BadInput, match="after=-1 of an evidence policy"):
        EvidenceKeep(after=-1)


def test_random_depends_on_seed_and_fixture_only() -> None:
    first = Random(seed=0)(signals(50))
    torch.manual_seed(123)  # the global state must not matter
    assert torch.equal(Random(seed=0)(signals(50)), first)
    assert not torch.equal(Random(seed=1)(signals(50)), first)
    assert not torch.equal(Random(seed=0)(signals(50, seed=8)), first)
    assert sorted(first[0, 0].tolist()) == list(range(50))


def test_random_keeps_every_position_equally_often() -> None:
    kept = [0] * 10
    for seed in range(600):
        for position in Random(seed=0)(signals(10, seed=seed))[0, 0].argsort()[:3].tolist():
            kept[position] += 1
    # Binomial(600, 0.3) each: mean 180, standard deviation 11.2.
    assert all(abs(count - 180) < 5 * 11.2 for count in kept)


def test_fixture_seed_is_a_hash_and_the_same_in_every_process() -> None:
    want = int.from_bytes(hashlib.sha256(b'"niah-3"').digest()[:8], "big") // 2
    assert fixture_seed("niah-3") == want
    assert fixture_seed("niah-4") != want


@dataclass(frozen=True)
class Counting:
    """Per-layer scores; counts how often they are computed."""

    name: str
    calls: list[str] = field(default_factory=list, compare=False)

    def needs(self, shape: ModelShape) -> frozenset[Signal]:
        return frozenset()

    def __call__(self, signals: PrefillSignals) -> Tensor:
        self.calls.append(self.name)
        return drawn(6, 2, signals.prompt_tokens)


def test_cells_of_equal_scorers_share_one_scoring() -> None:
    calls: list[str] = []
    read, other = signals(9), signals(9)
    scorers: list[Scorer] = [Counting("a", calls), Counting("a", calls), Counting("b", calls)]
    for scorer in scorers:
        for budget in (3, 5):
            for unit in (Tokens(), Sentences("rules")):
                CellPolicy(scorer, unit, RULE).keep(read, [0] * 4 + [1] * 5, budget, sinks=1, recent=1)
    assert calls == ["a", "b"]
    CellPolicy(scorers[0], Tokens(), RULE).keep(other, list(range(9)), 3, sinks=1, recent=1)
    assert calls == ["a", "b", "a"]  # another prompt is scored anew


def test_token_cells_keep_sets_per_layer_and_head_and_sentence_cells_one() -> None:
    read, ids = signals(9), [0] * 4 + [1] * 5
    token = CellPolicy(Counting("a"), Tokens(), RULE).keep(read, list(range(9)), 4, sinks=0, recent=0)
    sentence = CellPolicy(Counting("a"), Sentences("rules"), RULE).keep(read, ids, 4, sinks=0, recent=0)
    assert [rows.shape for rows in token.positions] == [(2, 4)] * 6
    assert [rows.shape for rows in sentence.positions] == [(1, 4)]
    assert CellPolicy(Vorn(layer=2, window=1, direction="mean"), Tokens(), RULE).needs(SHAPE) == {Residual(2)}


@pytest.mark.parametrize("peak", [1, 8])
def test_adaptive_units_are_kept_whole_only_where_they_stand_out(peak: int) -> None:
    """One high token in one of two sentences: two unit scores have a peak of 1, nine tokens with one high of 2.8."""
    scores = torch.zeros(6, 2, 9)
    scores[..., peak] = 1.0
    rising = torch.arange(9.0).expand(6, 2, 9)  # tokens peak at 1.55, unit scores 3 and 8 at 1

    @dataclass(frozen=True)
    class Given:
        scores: Tensor = field(compare=False)

        def needs(self, shape: ModelShape) -> frozenset[Signal]:
            return frozenset()

        def __call__(self, signals: PrefillSignals) -> Tensor:
            return self.scores

    ids = [0] * 4 + [1] * 5
    for given_scores in (scores, rising):
        adaptive = CellPolicy(Given(given_scores), Adaptive("rules"), RULE).keep(signals(9), ids, 4, sinks=0, recent=0)
        tokens = CellPolicy(Given(given_scores), Tokens(), RULE).keep(signals(9), ids, 4, sinks=0, recent=0)
        assert [rows.tolist() for rows in adaptive.positions] == [rows.tolist() for rows in tokens.positions]
    flat = torch.tensor([5.0, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0]).expand(6, 2, 12)  # tokens 1.41, units 1.73 of four
    many = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    whole = CellPolicy(Given(flat), Adaptive("rules"), RULE).keep(signals(12), many, 5, sinks=0, recent=0)
    assert [rows.tolist() for rows in whole.positions] == [[[0, 1, 2, 3, 4]]]
