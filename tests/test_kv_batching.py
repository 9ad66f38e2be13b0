from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vorn.kv.batching import MAX_PADDING, Row, arrange

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def row(branch: int, *counts: int) -> Row:
    return Row(branch, [torch.zeros(1, count, dtype=torch.long) for count in counts])


@quick
@given(
    counts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=9),
    room=st.integers(1, 6),
    max_cells=st.integers(1, 6),
    max_bytes=st.integers(1, 900),
    state_bytes=st.integers(0, 50),
    with_full=st.booleans(),
)
def test_every_row_once_within_the_limits(
    counts: list[tuple[int, int]], room: int, max_cells: int, max_bytes: int, state_bytes: int, with_full: bool
) -> None:
    rows = [row(branch, *count) for branch, count in enumerate(counts)]
    if with_full:
        rows.append(Row(len(rows), None))
    batches = arrange(
        rows, room=room, slot_bytes=[2, 3], state_bytes=state_bytes, max_cells=max_cells, max_bytes=max_bytes
    )
    placed = [member.branch for batch in batches for group in batch for member in group]
    assert sorted(placed) == [member.branch for member in rows]
    for batch in batches:
        size = 0
        for group in batch:
            if group[0].positions is None:
                assert len(group) == 1
                continue
            taken = [counts[member.branch] for member in group]
            padded = [max(count[layer] for count in taken) + room for layer in range(2)]
            assert sum(padded) <= MAX_PADDING * (min(map(sum, taken)) + 2 * room)
            size += len(group) * (2 * padded[0] + 3 * padded[1])
        cells = sum(map(len, batch))
        assert cells <= max_cells
        assert size + cells * state_bytes <= max_bytes or cells == 1


def test_rows_of_similar_length_share_a_group_and_full_stands_alone() -> None:
    rows = [row(0, 30, 30), Row(1, None), row(2, 4, 4), row(3, 6, 6), row(4, 25, 25)]
    batches = arrange(rows, room=1, slot_bytes=[1, 1], state_bytes=0, max_cells=9, max_bytes=10**6)
    assert [[[member.branch for member in group] for group in batch] for batch in batches] == [[[1], [2, 3], [4, 0]]]


def test_rows_of_twice_the_budget_stand_apart() -> None:
    """Oracle: the slots by hand; together, the short rows would take 272 each."""
    rows = [row(0, 256), row(1, 128), row(2, 256), row(3, 128)]
    (batch,) = arrange(rows, room=16, slot_bytes=[1], state_bytes=0, max_cells=4, max_bytes=2 * 144 + 2 * 272)
    assert [[member.branch for member in group] for group in batch] == [[1, 3], [0, 2]]


def test_the_order_of_the_cells_does_not_matter_for_the_groups() -> None:
    counts = [7, 30, 8, 90, 31, 7]
    one = arrange(
        [row(i, n) for i, n in enumerate(counts)], room=2, slot_bytes=[1], state_bytes=0, max_cells=4, max_bytes=10**6
    )
    reverse = [row(i, n) for i, n in reversed(list(enumerate(counts)))]
    other = arrange(reverse, room=2, slot_bytes=[1], state_bytes=0, max_cells=4, max_bytes=10**6)
    assert [[[m.branch for m in g] for g in b] for b in one] == [[[m.branch for m in g] for g in b] for b in other]
