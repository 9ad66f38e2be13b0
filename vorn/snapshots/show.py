"""The matrix as files and in the terminal: matrix.csv, matrix.md, matrix.png and matrix.svg."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vorn.snapshots.matrix import Matrix, MatrixRow

MARKS = {"better": "+", "harm": "-", "no harm": "=", "not shown": "?", "baseline": "", "reference": ""}
STYLES = {"better": "green", "harm": "red", "not shown": "dim"}


def how_to_read(matrix: Matrix) -> str:
    """The legend."""
    how = matrix.judgement
    return (
        f"Mean time to the first token over that of {how.baseline} in the same pool. + better and - harm: shown at "
        f"{100 * how.alpha:g} % after Holm over the policies of a workload; harm is a rise beyond {how.margin:.0%}; "
        "= shown to be no harm; ? nothing shown. Tests flip the signs of whole workload instances, since conversations "
        "of one pool are not independent."
    )


def grid(matrix: Matrix) -> tuple[list[str], dict[tuple[str, str], MatrixRow]]:
    """Cells in order of first appearance, and rows by (cell, workload)."""
    names = {_name(row): None for row in matrix.rows}
    return list(names), {(_name(row), row.workload): row for row in matrix.rows}


def _name(row: MatrixRow) -> str:
    """The cell without its pool where every workload has its own."""
    return row.cell.partition("/")[0] if row.pool else row.cell


def entry(row: MatrixRow | None) -> str:
    """For example `0.12 +`; seconds where there is no baseline to compare with."""
    if row is None:
        return ""
    if row.ratio is None:
        return f"{row.ttft_s:.2f} s"
    return f"{row.ratio:.2f} {MARKS[row.verdict]}".strip()


def notes(matrix: Matrix) -> list[str]:
    """What a reader must know: how it was judged, inert policies, errors."""
    inert = [f"{row.cell} on {row.workload}" for row in matrix.rows if row.is_inert]
    failed = [f"{row.cell} on {row.workload} ({row.n_errors})" for row in matrix.rows if row.n_errors]
    lines = [f"the protection never changed a victim, so this is its base rule: {', '.join(inert)}"] if inert else []
    return [*matrix.remarks, *lines] + ([f"resumes with errors, left out: {', '.join(failed)}"] if failed else [])


def print_matrix(matrix: Matrix, console: Console) -> None:
    """One table for all pools of one size per workload, else one per pool."""
    for pool, part in _by_pool(matrix):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("policy", overflow="fold")
        for workload in part.workloads:
            table.add_column(f"{workload}\n{_pool_of(part, workload)}", justify="right")
        names, rows = grid(part)
        for name in names:
            cells = [rows.get((name, workload)) for workload in part.workloads]
            table.add_row(
                name, *(Text(entry(cell), style=STYLES.get(cell.verdict, "") if cell else "") for cell in cells)
            )
        console.print(Text(f"\n{pool}".rstrip(), style="bold"))
        console.print(table)
    console.print(Text(how_to_read(matrix), style="dim"))
    for note in notes(matrix):
        console.print(Text(f"note: {note}", style="yellow"))


def _by_pool(matrix: Matrix) -> list[tuple[str, Matrix]]:
    """Parts in which each workload has one pool: the references belong to each."""
    several = any(
        len({(row.pool, row.setting) for row in matrix.rows if row.workload == name and row.pool}) > 1
        for name in matrix.workloads
    )
    if not several:
        return [("", matrix)]
    kinds = dict.fromkeys((row.pool, row.setting) for row in matrix.rows if row.pool)
    return [
        (
            f"{pool}, {setting}",
            dataclasses.replace(
                matrix,
                rows=tuple(row for row in matrix.rows if not row.pool or (row.pool, row.setting) == (pool, setting)),
            ),
        )
        for pool, setting in kinds
    ]


def _pool_of(matrix: Matrix, workload: str) -> str:
    return next((row.pool for row in matrix.rows if row.workload == workload and row.pool), "")


def write_matrix(matrix: Matrix, out_dir: Path) -> list[Path]:
    """Write the files into `out_dir`, which is created. Returns their paths. Raises: OSError."""
    out_dir.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(MatrixRow)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in matrix.rows)
    files: dict[str, bytes] = {"matrix.csv": text.getvalue().encode(), "matrix.md": _markdown(matrix).encode()}
    files |= {f"matrix.{form}": image for form, image in _figures(matrix).items()}
    for name, data in files.items():
        (out_dir / name).write_bytes(data)
    return [out_dir / name for name in files]


def _markdown(matrix: Matrix) -> str:
    lines = ["# Snapshot policies by workload", "", how_to_read(matrix), ""]
    for pool, part in _by_pool(matrix):
        lines += [f"## {pool}", ""] if pool else []
        heads = [f"{workload}, {_pool_of(part, workload)}" for workload in part.workloads]
        lines += [f"| policy | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
        names, rows = grid(part)
        for name in names:
            lines.append(f"| {name} | {' | '.join(entry(rows.get((name, one))) for one in part.workloads)} |")
        lines.append("")
    lines += ["![matrix](matrix.png)", "", "## Numbers", ""]
    bound = matrix.judgement.bound
    lines += [
        "| workload | cell | resumes | mean s | max s | over unlimited "
        f"{f'| over {bound} ' if bound else ''}| mean replay | token hit | no state | fired | difference s |"
    ]
    lines += ["|---|---|---:|---:|---:|---:|" + ("---:|" if bound else "") + "---:|---:|---:|---:|---|"]
    lines += [_numbers(row, bool(bound)) for row in matrix.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(matrix)), ""])


def _numbers(row: MatrixRow, bounded: bool) -> str:
    difference = ""
    if row.difference_s is not None:
        difference = f"{row.difference_s:+.2f} [{row.difference_low_s:.2f} to {row.difference_high_s:.2f}]"
    fired = "" if row.protection_fired is None else str(row.protection_fired)
    over = " | ".join(
        "" if one is None else f"{one:.2f}" for one in (row.over_unlimited, *([row.over_bound] if bounded else []))
    )
    return (
        f"| {row.workload} | {row.cell} | {row.n_resumes} | {row.ttft_s:.2f} | {row.ttft_max_s:.2f} | {over} | "
        f"{row.replay_tokens:.0f} | {row.token_hit:.1%} | {row.kv_without_state} | {fired} | {difference} |"
    )


def _figures(matrix: Matrix) -> dict[str, bytes]:
    import matplotlib
    from matplotlib.figure import Figure

    parts = _by_pool(matrix)
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "vorn", "font.size": 9}):
        height = sum(0.9 + 0.27 * len(grid(part)[0]) for _, part in parts)
        figure = Figure(figsize=(2.6 + 1.35 * len(matrix.workloads), height), layout="constrained")
        for number, (pool, part) in enumerate(parts):
            _heat(figure.add_subplot(len(parts), 1, number + 1), pool, part)
        images = {}
        for form in ("png", "svg"):
            image = io.BytesIO()
            figure.savefig(image, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
            images[form] = image.getvalue()
        return images


def _heat(axes: Any, pool: str, part: Matrix) -> None:
    """Colours are the logarithm of the ratio: blue better, red worse; the numbers stand in the cells."""
    names, rows = grid(part)
    cells = [[rows.get((name, workload)) for workload in part.workloads] for name in names]
    values = [[_shade(row) for row in line] for line in cells]
    axes.imshow(values, cmap="RdBu_r", vmin=-math.log(8), vmax=math.log(8), aspect="auto")
    axes.set_xticks(range(len(part.workloads)), [f"{one}\n{_pool_of(part, one)}" for one in part.workloads])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set_title(f"time to first token over {part.judgement.baseline}" + (f"; {pool}" if pool else ""))
    for y, line in enumerate(cells):
        for x, row in enumerate(line):
            strong = abs(values[y][x]) > math.log(4)
            axes.text(x, y, entry(row), ha="center", va="center", color="white" if strong else "black")


def _shade(row: MatrixRow | None) -> float:
    if row is None or not row.ratio:
        return math.nan if row is None else 0.0
    return max(-math.log(8), min(math.log(8), math.log(row.ratio)))
