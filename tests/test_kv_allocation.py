"""Allocations: exact totals, published shapes, and selections told step by step."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_oracles import rank_tokens, rank_units

from vorn.kv.allocation import Adaptive, Pyramid
from vorn.kv.retention import Kept, peak_zscore, retain, units_peak
from vorn.kv.units import UnitRule
from vorn.records import BadInput

RULE = UnitRule(fill=False, fit="prefix", pool="max", top_k=3)
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def sets(kept: Kept, layer: int) -> list[set[int]]:
    return [set(row) - {-1} for row in kept.layer(layer).tolist()]


def drawn(*size: int) -> torch.Tensor:
    return torch.randint(-3, 4, size, generator=torch.Generator().manual_seed(sum(size))).float()


def published_pyramid(free: int, places: int, layers: int, beta: int) -> list[float]:
    """The line of the published code, its slope not rounded."""
    least = free // beta
    most = 2 * free - least
    if most >= places:
        most, least = places, 2 * free - places
    return [most - layer * (most - least) / (layers - 1) for layer in range(layers)]


@quick
@given(free=st.integers(0, 60), more=st.integers(0, 200), layers=st.integers(1, 12), beta=st.integers(1, 40))
def test_a_pyramid_is_the_published_line_with_an_exact_total(free: int, more: int, layers: int, beta: int) -> None:
    places = free + more
    got = Pyramid(beta=beta)(torch.zeros(1, 3, places), free, layers)
    assert [set(layer) for layer in got] == [{layer[0]} for layer in got]
    counts = [layer[0] for layer in got]
    assert sum(counts) == layers * free
    assert counts == sorted(counts, reverse=True) or more == 0
    assert all(0 <= count <= places for count in counts)
    if layers > 1:
        line = published_pyramid(free, places, layers, beta)
        assert all(abs(count - share) < 1 for count, share in zip(counts, line, strict=True))


def test_a_pyramid_by_hand() -> None:
    # C' = 100, beta = 20: top 5, bottom 195, steps of 63 1/3; the two largest remainders are rounded up.
    assert [row[0] for row in Pyramid(beta=20)(torch.zeros(1, 1, 900), 100, 4)] == [195, 132, 68, 5]
    assert [row[0] for row in Pyramid(beta=20)(torch.zeros(1, 1, 150), 100, 3)] == [150, 100, 50]
    assert [row[0] for row in Pyramid(beta=1)(torch.zeros(1, 1, 900), 100, 3)] == [100, 100, 100]


@quick
@given(
    heads=st.integers(1, 4), places=st.integers(1, 9), floor=st.sampled_from([0, 0.2, 0.5, 1.0]),
    data=st.data(),
)  # fmt: skip
def test_adaptive_heads_count_the_best_pairs_and_mix_them_with_the_floor(heads, places, floor, data) -> None:
    free = data.draw(st.integers(0, places))
    size = heads * places
    values = data.draw(st.lists(st.integers(-2, 2), min_size=size, max_size=size))
    scores = torch.tensor(values, dtype=torch.float32).view(1, heads, places)
    (got,) = Adaptive(floor=floor)(scores, free, 1)
    pairs = sorted(
        ((h, p) for h in range(heads) for p in range(places)), key=lambda hp: (-scores[0, hp[0], hp[1]], hp[1], hp[0])
    )
    best = Counter(h for h, _ in pairs[: heads * free])
    exact = [Fraction(str(floor)) * free + (1 - Fraction(str(floor))) * best[h] for h in range(heads)]
    assert sum(got) == heads * free
    assert all(abs(count - share) < 1 for count, share in zip(got, exact, strict=True))
    assert all(0 <= count <= places for count in got)
    if floor == 0:
        assert got == [best[h] for h in range(heads)]


@pytest.mark.parametrize(("floor", "want"), [(0, [8, 0]), (0.2, [7, 1]), (0.5, [6, 2]), (1.0, [4, 4])])
def test_adaptive_heads_by_hand(floor: float, want: list[int]) -> None:
    """All 8 best pairs are the first head's: it gets 8 (1 - floor) + 4 floor; at 0.2 that is 7.2 and 0.8."""
    scores = torch.tensor([[[9.0] * 8 + [1.0], [2.0] * 9]])
    assert Adaptive(floor=floor)(scores, 4, 1) == [want]


@pytest.mark.parametrize("allocation", [Pyramid(beta=4), Adaptive(floor=0.25)])
@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (3, 1), (1, 1)])
def test_every_head_keeps_its_own_best_within_its_share(allocation, shape: tuple[int, int]) -> None:
    scores, sinks, recent, budget = drawn(*shape, 14), 2, 1, 7
    kept = retain(scores, budget, unit_ids=None, rule=RULE, sinks=sinks, recent=recent, allocation=allocation, layers=3)
    counts = allocation(scores[..., sinks : 14 - recent], budget - sinks - recent, 3)
    assert kept.mean_tokens == budget
    for layer in range(3):
        for head, row in enumerate(sets(kept, layer)):
            share = counts[layer % len(counts)][head] + sinks + recent
            assert row == rank_tokens(scores[layer % shape[0], head].tolist(), share, sinks, recent)


def test_a_pyramid_gives_every_layer_of_units_its_own_budget() -> None:
    scores, unit_ids = drawn(3, 2, 20), [place // 3 for place in range(20)]
    kept = retain(
        scores, 9, unit_ids=unit_ids, rule=RULE, sinks=1, recent=2, allocation=Pyramid(beta=3), layers=3
    )  # fmt: skip
    totals = scores.sum(dim=(0, 1)).tolist()
    for layer, budget in enumerate((1 + 2 + 10, 1 + 2 + 6, 1 + 2 + 2)):
        want = rank_units(totals, unit_ids, budget, 1, 2, fill=False, fit="prefix", pool="max", top_k=3)
        assert sets(kept, layer) == [want]


def test_a_score_of_minus_infinity_is_kept_under_no_budget() -> None:
    low = -math.inf
    scores = torch.tensor([[[low, 1.0, low, 3.0, low, 5.0], [1.0, 2.0, 3.0, 4.0, low, low]]])
    for budget, want in ((3, [{0, 3, 5}, {0, 3, 5}]), (5, [{0, 1, 3, 5}, {0, 1, 2, 3, 5}]), (9, None)):
        kept = retain(scores, budget, unit_ids=None, rule=RULE, sinks=1, recent=1)
        assert sets(kept, 0) == (want or [{0, 1, 3, 5}, {0, 1, 2, 3, 5}])
    units = retain(
        scores[:, :1], 5, unit_ids=[0, 0, 1, 1, 2, 2], rule=UnitRule(True, "prefix", "max", 1), sinks=0, recent=0
    )
    assert sets(units, 0) == [{1, 3, 5}]


@quick
@given(values=st.lists(st.integers(-3, 3), min_size=2, max_size=12), steps=st.lists(st.booleans(), min_size=11))
def test_units_peak_compares_the_two_peak_z_scores(values: list[int], steps: list[bool]) -> None:
    ids = [sum(steps[:place]) for place in range(len(values))]

    def peak(numbers: list[float]) -> float:
        mean = sum(numbers) / len(numbers)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers))
        return (max(numbers) - mean) / deviation if deviation > 1e-8 else 0.0

    best = [max(v for v, unit in zip(values, ids, strict=True) if unit == one) for one in sorted(set(ids))]
    assert peak_zscore(torch.tensor(values, dtype=torch.float64)) == pytest.approx(peak(values))
    if abs(peak(best) - peak(values)) > 1e-9:
        assert units_peak(torch.tensor([[values]], dtype=torch.float32), ids, RULE) == (peak(best) > peak(values))


def test_refusals() -> None:
    with pytest.raises(BadInput, match=r"allocation\.pyramid\.beta=0"):
        Pyramid(beta=0)
    for floor in (-0.1, 1.1):
        with pytest.raises(BadInput, match=rf"allocation.adaptive.floor={floor}"):
            Adaptive(floor=floor)
