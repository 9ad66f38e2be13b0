from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_oracles import rank_tokens, rank_units

from vorn.kv.retention import Kept, keep_all, retain
from vorn.kv.units import FITS, POOLS, UnitRule
from vorn.records import BadInput

RULE = UnitRule(fill=True, fit="prefix", pool="max", top_k=3)
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def cases(draw: st.DrawFn, layers: int, heads: int) -> tuple[torch.Tensor, list[int], int, int, int]:
    """Scores with many ties, unit ids, and a budget that holds the guards."""
    tokens = draw(st.integers(1, 14))
    flat = st.lists(st.integers(-2, 2), min_size=layers * heads * tokens, max_size=layers * heads * tokens)
    scores = torch.tensor(draw(flat), dtype=torch.float32).view(layers, heads, tokens)
    steps = draw(st.lists(st.booleans(), min_size=tokens - 1, max_size=tokens - 1))
    unit_ids = [sum(steps[:i]) for i in range(tokens)]
    sinks, recent = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return scores, unit_ids, draw(st.integers(max(1, sinks + recent), 16)), sinks, recent


def sets(kept: Kept, layer: int) -> list[set[int]]:
    """The kept positions of each row, after checking the form: ascending, then -1."""
    result = []
    for row in kept.layer(layer).tolist():
        real = [p for p in row if p >= 0]
        assert row == sorted(real) + [-1] * (len(row) - len(real))
        assert len(set(real)) == len(real)
        result.append(set(real))
    return result


@quick
@given(case=cases(2, 2))
def test_tokens_equal_a_loop_that_keeps_one_at_a_time(case) -> None:
    scores, _, budget, sinks, recent = case
    kept = retain(scores, budget, unit_ids=None, rule=RULE, sinks=sinks, recent=recent)
    for layer in range(2):
        want = [rank_tokens(head, budget, sinks, recent) for head in scores[layer].tolist()]
        assert sets(kept, layer) in (want, want[:1])  # keeping everything needs only one row
    assert kept.mean_tokens == min(budget, scores.shape[-1])


@quick
@given(
    case=cases(1, 1), fill=st.booleans(), fit=st.sampled_from(FITS), pool=st.sampled_from(POOLS), k=st.integers(1, 3)
)
def test_units_equal_the_rule_step_by_step(case, fill: bool, fit: str, pool: str, k: int) -> None:
    scores, unit_ids, budget, sinks, recent = case
    rule = UnitRule(fill=fill, fit=fit, pool=pool, top_k=k)
    want = rank_units(scores[0, 0].tolist(), unit_ids, budget, sinks, recent, fill=fill, fit=fit, pool=pool, top_k=k)
    if want is None:
        with pytest.raises(BadInput, match=r"which unit\.fit=drop_lowest keeps whole"):
            retain(scores, budget, unit_ids=unit_ids, rule=rule, sinks=sinks, recent=recent)
    else:
        assert sets(retain(scores, budget, unit_ids=unit_ids, rule=rule, sinks=sinks, recent=recent), 0) == [want]


@quick
@given(case=cases(3, 2))
def test_units_average_layers_and_heads_first(case) -> None:
    scores, unit_ids, budget, sinks, recent = case
    totals = [
        sum(scores[layer, head, p].item() for layer in range(3) for head in range(2)) for p in range(len(unit_ids))
    ]
    want = rank_units(totals, unit_ids, budget, sinks, recent, fill=True, fit="prefix", pool="max", top_k=3)
    kept = retain(scores, budget, unit_ids=unit_ids, rule=RULE, sinks=sinks, recent=recent)
    assert len(kept.positions) == 1
    assert sets(kept, 2) == [want]


@quick
@given(case=cases(1, 1))
def test_a_larger_token_budget_keeps_what_a_smaller_one_kept(case) -> None:
    scores, _, budget, sinks, recent = case
    smaller, larger = (
        sets(retain(scores, b, unit_ids=None, rule=RULE, sinks=sinks, recent=recent), 0)[0]
        for b in (budget, budget + 1)
    )
    assert smaller <= larger


def test_infinite_scores_do_not_displace_guards() -> None:
    scores = torch.tensor([[[-math.inf, math.inf, math.inf, math.inf, 0.0, -math.inf]]])
    assert sets(retain(scores, 3, unit_ids=None, rule=RULE, sinks=1, recent=1), 0) == [{0, 1, 5}]


def test_word_units_without_fill_may_leave_budget_unspent() -> None:
    kept = retain(
        torch.tensor([[[1.0, 9.0, 9.0, 9.0, 0.0, 0.0]]]),
        2,
        unit_ids=[0, 1, 1, 1, 2, 2],
        rule=UnitRule(fill=False, fit="prefix", pool="max", top_k=3),
        sinks=1,
        recent=0,
    )
    assert sets(kept, 0) == [{0}]  # the best unit does not fit, and nothing is tried after it


@pytest.mark.parametrize(
    ("pool", "top_k", "best"), [("max", 1, 1), ("mean", 1, 1), ("topk_mean", 2, 0), ("topk_mean", 9, 1)]
)
def test_pooling_decides_between_units(pool: str, top_k: int, best: int) -> None:
    # Unit 0: max 3, mean 1.5, mean of the two best 3. Unit 1: max 4, mean 2.125, mean of the two best 2.75.
    scores = torch.tensor([[[3.0, 0.0, 3.0, 0.0, 1.5, 4.0, 1.5, 1.5]]])
    rule = UnitRule(fill=False, fit="prefix", pool=pool, top_k=top_k)
    kept = retain(scores, 4, unit_ids=[0] * 4 + [1] * 4, rule=rule, sinks=0, recent=0)
    assert sets(kept, 0) == [set(range(4 * best, 4 * best + 4))]


@pytest.mark.parametrize("unit_ids", [None, [0, 0, 1, 1]])
def test_nan_scores_are_refused(unit_ids: list[int] | None) -> None:
    scores = torch.tensor([[[0.0, 1.0, math.nan, 2.0]]])
    for budget in (2, 9):
        with pytest.raises(ValueError, match="a score is NaN, at position 2"):
            retain(scores, budget, unit_ids=unit_ids, rule=RULE, sinks=0, recent=0)


def test_refusals_name_field_value_and_remedy() -> None:
    scores = torch.zeros(1, 1, 100)
    with pytest.raises(
        BadInput,
        match=r"^budget of 16 tokens cannot hold 4 sink \+ 32 recent tokens; "
        r"raise budget to >= 36 or lower guards.sinks / guards.recent$",
    ):
        retain(scores, 16, unit_ids=None, rule=RULE, sinks=4, recent=32)
    with pytest.raises(BadInput, match="budget=0: must be at least 1"):
        retain(scores, 0, unit_ids=None, rule=RULE, sinks=0, recent=0)
    with pytest.raises(BadInput, match=r"guards\.sinks=-1"):
        retain(scores, 5, unit_ids=None, rule=RULE, sinks=-1, recent=0)
    with pytest.raises(ValueError, match="3 unit ids for 100 scores"):
        retain(scores, 5, unit_ids=[0, 1, 2], rule=RULE, sinks=0, recent=0)
    with pytest.raises(BadInput, match=r"unit.fit='best': legal values are prefix, drop_lowest"):
        UnitRule(fill=True, fit="best", pool="max", top_k=3)
    with pytest.raises(BadInput, match=r"unit.pool='sum': legal values are max, mean, topk_mean"):
        UnitRule(fill=True, fit="prefix", pool="sum", top_k=3)
    with pytest.raises(BadInput, match=r"unit\.top_k=0"):
        UnitRule(fill=True, fit="prefix", pool="max", top_k=0)


def test_a_prompt_shorter_than_budget_and_guards_is_kept_whole() -> None:
    kept = retain(torch.zeros(2, 2, 5), 5, unit_ids=None, rule=RULE, sinks=4, recent=32)
    assert sets(kept, 1) == [{0, 1, 2, 3, 4}]


def test_mean_tokens_and_share_count_padding_out() -> None:
    one = torch.tensor([[0, 2, 5, -1], [1, 2, 4, 5]])  # 3 and 4 kept
    two = torch.tensor([[5]])  # 1 in each head
    kept = Kept((one, two), 6)
    assert kept.mean_tokens == pytest.approx((3.5 + 1) / 2)
    # Evidence {2, 4}: heads keep 1 and 2 of 2 in layer 0, none in layer 1.
    assert kept.share_of([4, 2, 2]) == pytest.approx((0.75 + 0) / 2)
    assert kept.share_of([]) is None
    assert keep_all(6).share_of([0, 5]) == 1.0
