"""Sequential stopping against a recomputation from scratch after every fixture: bets, and Holm by closed testing."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from factories import make_observation

from vorn.records import BadInput, Observation
from vorn.stopping import Stopping

CELLS = {"full": 0.95, "strong": 0.9, "weak": 0.1, "weaker": 0.05}
FAMILIES = [[(name, "full") for name in ("strong", "weak", "weaker")], [("strong", "weak"), ("weak", "weaker")]]
PLANNED, ALPHA = 60, 0.05


def outcomes(seed: int) -> list[dict[str, float]]:
    rng = random.Random(seed)
    return [{name: float(rng.random() < rate) for name, rate in CELLS.items()} for _ in range(PLANNED)]


def observed(index: int, values: dict[str, float | None]) -> list[Observation]:
    return [
        make_observation(cell_id=name, fixture_id=f"f{index}", fixture_index=index, outcome=value,
                         error="broke" if value is None else None)
        for name, value in values.items()
    ]  # fmt: skip


def start(**changes: object) -> Stopping:
    return Stopping(**{"families": FAMILIES, "planned": PLANNED, "alpha": ALPHA, "replicas": {}} | changes)


def e_value(lhs_only: int, rhs_only: int) -> float:
    """A gambler's wealth who bets on every discordant pair at the odds of those before, each side half a pair ahead."""
    wealth = 1.0
    for n in range(lhs_only):
        wealth *= 2 * (n + 0.5) / (n + 1)
    for n in range(rhs_only):
        wealth *= 2 * (n + 0.5) / (n + 1 + lhs_only)
    return wealth


def expected_active(table: list[dict[str, float | None]]) -> set[str]:
    """Everything anew from the outcomes so far."""
    active = set()
    for family in FAMILIES:
        largest, best = [], []
        for lhs, rhs in family:
            b = c = 0
            seen = [1.0]
            for row in table:
                left, right = row[lhs], row[rhs]
                if left is not None and right is not None:
                    b, c = b + (left > right), c + (right > left)
                    seen.append(e_value(b, c))
            left_over = PLANNED - len(table)
            largest.append(max(seen))
            best.append(max(*seen, e_value(b + left_over, c), e_value(b, c + left_over)))
        # Closed testing with Bonferroni: rejected if every set of hypotheses that holds it is.
        numbers = range(len(family))
        sets = [set(some) for size in range(1, len(family) + 1) for some in combinations(numbers, size)]
        rejected = {
            i for i in numbers if all(max(largest[j] for j in some) >= len(some) / ALPHA for some in sets if i in some)
        }
        # Hopeless: in no future in which each of the others does as well as it can would it be rejected.
        hopeless = {
            i for i in numbers
            if any(max(max(largest[j], best[j]) for j in some) < len(some) / ALPHA for some in sets if i in some)
        }  # fmt: skip
        active |= {cell for i in numbers if i not in rejected | hopeless for cell in family[i]}
    return active


@pytest.mark.parametrize("seed", range(3))
def test_cells_stop_when_their_comparisons_are_settled(seed: int) -> None:
    stopping, table = start(), outcomes(seed)
    sizes = []
    for index, row in enumerate(table):
        stopping.observe(observed(index, {name: row[name] for name in stopping.active}))
        assert stopping.active == expected_active(table[: index + 1])
        sizes.append(len(stopping.active))
    assert sizes[0] == 4
    assert 0 < sizes.index(0) < PLANNED - 1
    assert len(set(sizes)) > 2  # cells leave one after the other


def test_an_error_makes_no_pair_and_does_not_end_the_prefix() -> None:
    table: list[dict[str, float | None]] = [dict(row) for row in outcomes(0)]
    for index in (0, 2, 3):
        table[index]["weak"] = None
    stopping = start()
    for index, row in enumerate(table[:57]):
        stopping.observe(observed(index, row))
        assert stopping.active == expected_active(table[: index + 1])
    assert stopping.active < set(CELLS)


def test_a_gap_ends_the_prefix_until_it_is_filled() -> None:
    table = outcomes(1)[:57]
    in_order, with_gap = start(), start()
    in_order.replay(one for index, row in enumerate(table) for one in observed(index, row))
    for index in (*range(1, 57), 0):
        assert with_gap.active == set(CELLS)
        with_gap.observe(observed(index, table[index]))
    assert with_gap.active == in_order.active < set(CELLS)


def test_a_replay_waits_for_what_failed_to_be_tried_again() -> None:
    table = outcomes(1)[:57]
    replayed = start()
    failed = observed(0, dict.fromkeys(CELLS))
    replayed.replay([*failed, *(one for index, row in enumerate(table) if index for one in observed(index, row))])
    assert replayed.active == set(CELLS)
    replayed.observe(observed(0, table[0]))
    assert replayed.active == expected_active(table)


def test_a_replica_stops_with_the_cell_that_it_repeats() -> None:
    stopping = start(replicas={"again": "strong"})
    for index, row in enumerate(outcomes(0)):
        stopping.observe(observed(index, {**row, "again": row["strong"]}))
        assert ("again" in stopping.active) == ("strong" in stopping.active)


@pytest.mark.parametrize("families", [[], [[], []]])
def test_without_a_comparison_there_is_nothing_to_decide(families: list[list[tuple[str, str]]]) -> None:
    with pytest.raises(BadInput, match=r"stats.stop=sequential has no comparison"):
        start(families=families)


def test_too_few_fixtures_to_show_anything_are_refused() -> None:
    start(planned=7)
    with pytest.raises(BadInput, match=r"6 fixtures .* at least 7"):
        start(planned=6)
