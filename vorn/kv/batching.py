"""Which cells decode together: rows of similar length share a padded cache, groups of rows share each forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

MAX_PADDING = 2  # a group's rows take at most so many times the slots of its shortest row


@dataclass(frozen=True, eq=False)
class Row:
    """One cell to decode.

    Attributes:
        branch: its index in the panel.
        positions: what it keeps in each layer, [1 or Hkv, n]; None: it continues on the prefill cache.
        is_compact: whether its entries get new positions inside the cache.
    """

    branch: int
    positions: Sequence[Tensor] | None
    is_compact: bool = False

    def slots(self, room: int) -> int:
        """Cache slots over all layers, `room` decoded tokens included; 0 of its own on the prefill cache."""
        return 0 if self.positions is None else sum(sets.shape[1] + room for sets in self.positions)


Group = list[Row]
Batch = list[Group]


def arrange(
    rows: Sequence[Row], *, room: int, slot_bytes: Sequence[int], max_cells: int, max_bytes: int
) -> list[Batch]:
    """Batches of groups: by length, so that the order does not depend on the order of the cells.

    Args:
        rows: the cells to decode.
        room: decoded tokens for which each row needs slots.
        slot_bytes: bytes of one slot per layer.
        max_cells: rows per batch.
        max_bytes: of a batch's own caches, padding included; a single row may exceed it, since it cannot be divided.
    """
    batches: list[Batch] = []
    for row in sorted(rows, key=lambda row: (row.slots(room), row.branch)):
        wider = _with_row(batches[-1], row, room) if batches else []
        cells = sum(len(group) for group in wider)
        size = sum(_group_bytes(group, room, slot_bytes) for group in wider)
        if batches and cells <= max_cells and size <= max_bytes:
            batches[-1] = wider
        else:
            batches.append([[row]])
    return batches


def _with_row(batch: Batch, row: Row, room: int) -> Batch:
    group = batch[-1]
    shortest = group[0].slots(room)  # rows come in order of length
    if row.positions is None or group[0].positions is None:
        return [*batch, [row]]
    if sum(_padded_slots([*group, row], room)) > MAX_PADDING * shortest:
        return [*batch, [row]]
    return [*batch[:-1], [*group, row]]


def _padded_slots(group: Group, room: int) -> list[int]:
    """Slots of each row per layer, once padded to the group's longest there."""
    sets = [row.positions for row in group if row.positions is not None]
    return [max(positions.shape[1] for positions in layer) + room for layer in zip(*sets, strict=True)]


def _group_bytes(group: Group, room: int, slot_bytes: Sequence[int]) -> int:
    padded = _padded_slots(group, room)
    return len(group) * sum(slots * size for slots, size in zip(padded, slot_bytes, strict=False))
