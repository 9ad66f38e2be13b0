"""Which cells decode together: rows of similar length share a padded cache, groups of rows share each forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vorn.kv.hold import Hold

# A group's rows take at most so many times the slots of its shortest row: of budgets of which one is twice the other,
# as they usually are in a sweep, the shorter rows would hold as much padding as entries.
MAX_PADDING = 1.5


@dataclass(frozen=True, eq=False)
class Row:
    """One cell to decode.

    Attributes:
        branch: its index in the panel.
        positions: what it keeps in each layer, [1 or Hkv, n]; None: it continues on the prefill cache.
        is_compact: whether its entries get new positions inside the cache.
        hold: how it goes on evicting; None: it does not.
        company: rows decode in one group if this is the same.
    """

    branch: int
    positions: Sequence[Tensor] | None
    is_compact: bool = False
    hold: Hold | None = None
    company: str = ""

    def widths(self, room: int) -> list[int]:
        """Cache slots per layer for its entries and `room` decoded tokens; none of its own on the prefill cache."""
        counts = [sets.shape[1] for sets in self.positions or ()]
        return [kept + room if self.hold is None else self.hold.slots(kept, room) for kept in counts]


Group = list[Row]
Batch = list[Group]


def arrange(
    rows: Sequence[Row], *, room: int, slot_bytes: Sequence[int], state_bytes: int, max_cells: int, max_bytes: int
) -> list[Batch]:
    """Batches of groups: by length, so that the order does not depend on the order of the cells.

    Args:
        rows: the cells to decode.
        room: decoded tokens for which each row needs slots.
        slot_bytes: bytes of one slot per layer.
        state_bytes: of each row's recurrent states.
        max_cells: rows per batch.
        max_bytes: of a batch's own caches and states, padding included; a single row may exceed it, since it cannot be
            divided.
    """
    batches: list[Batch] = []
    for row in sorted(rows, key=lambda row: (row.company, sum(row.widths(room)), row.branch)):
        wider = _with_row(batches[-1], row, room) if batches else []
        cells = sum(len(group) for group in wider)
        size = cells * state_bytes + sum(_group_bytes(group, room, slot_bytes) for group in wider)
        if batches and cells <= max_cells and size <= max_bytes:
            batches[-1] = wider
        else:
            batches.append([[row]])
    return batches


def _with_row(batch: Batch, row: Row, room: int) -> Batch:
    group = batch[-1]
    shortest = sum(group[0].widths(room))  # rows of one company come in order of length
    if row.positions is None or group[0].positions is None or row.company != group[0].company:
        return [*batch, [row]]
    if sum(_padded_slots([*group, row], room)) > MAX_PADDING * shortest:
        return [*batch, [row]]
    return [*batch[:-1], [*group, row]]


def _padded_slots(group: Group, room: int) -> list[int]:
    """Slots of each row per layer, once padded to the group's longest there."""
    return [max(layer) for layer in zip(*(row.widths(room) for row in group if row.positions is not None), strict=True)]


def _group_bytes(group: Group, room: int, slot_bytes: Sequence[int]) -> int:
    padded = _padded_slots(group, room)
    return len(group) * sum(slots * size for slots, size in zip(padded, slot_bytes, strict=False))
