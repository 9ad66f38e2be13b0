"""What the cells cost, as far as a panel can say it: what one cell takes alone is not known inside a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from vorn.records import Observation
from vorn.report.rows import CellRow
from vorn.report.tables import Table

Read = Callable[[Observation], float | None]
_COLUMNS: tuple[tuple[str, Read, float, str], ...] = (
    ("KV cache, MiB", lambda seen: seen.kv_bytes, 2**20, ".2f"),
    ("prune, ms", lambda seen: seen.prune_s, 1e-3, ".1f"),
    ("rows in the batch", lambda seen: seen.batch_rows, 1, ".0f"),
)
_SHARED: tuple[tuple[str, Read, float, str], ...] = (
    ("prefill", lambda seen: seen.panel_prefill_s, 1e-3, ".0f"),
    ("decoding", lambda seen: seen.panel_decode_s, 1e-3, ".0f"),
)


def cost_table(cells: Sequence[CellRow], observations: Sequence[Observation]) -> Table | None:
    """Medians over fixtures, per cell; None where nothing was measured, as in results that others have published."""
    by_cell: dict[str, list[Observation]] = {}
    for seen in observations:
        by_cell.setdefault(seen.cell_id, []).append(seen)
    columns = [column for column in _COLUMNS if any(column[1](seen) is not None for seen in observations)]
    if not columns:
        return None
    rows = [(cell.cell, *(_median(by_cell[cell.cell_id], *column[1:]) for column in columns)) for cell in cells]
    return Table("Cost", ("cell", *(column[0] for column in columns)), tuple(rows))


def shared_cost(observations: Sequence[Observation]) -> str:
    """What a panel shares, in a sentence; "" where it was not measured."""
    fixtures: dict[str, Observation] = {}
    for seen in observations:
        if seen.panel_prefill_s is not None:
            fixtures.setdefault(seen.fixture_id, seen)
    parts = [
        f"{name} {text} ms"
        for name, *how in _SHARED
        if (text := _median(list(fixtures.values()), *how))  # type: ignore[arg-type]
    ]
    if not parts:
        return ""
    peaks = [seen.peak_bytes for seen in observations if seen.peak_bytes is not None]
    peak = f"; peak memory {max(peaks) / 2**20:.0f} MiB" if peaks else ""
    return f"One panel, all its cells together, median of {len(fixtures)} fixtures: {', '.join(parts)}{peak}."


def _median(group: Sequence[Observation], read: Read, unit: float, form: str) -> str:
    values = [value for seen in group if (value := read(seen)) is not None]
    return format(median(values) / unit, form) if values else ""
