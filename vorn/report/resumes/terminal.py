"""The matrix on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vorn.report.resumes.summaries import out_of_reach
from vorn.report.resumes.tables import share_table
from vorn.report.resumes.words import entry, legend
from vorn.snapshots.matrix import Matrix
from vorn.snapshots.parts import Part, parts
from vorn.snapshots.sensitivity import shares

SHOWN = 4  # parts; report.md has all
_STYLES = {"better": "green", "harm": "red", "not shown": "dim"}


def print_matrix(matrix: Matrix, console: Console) -> None:
    """One table per part, then what hangs on the setting."""
    found = parts(matrix)
    for part in found[:SHOWN]:
        console.print(Text(f"\n{part.title}".rstrip(), style="bold"))
        console.print(_table(part))
    if len(found) > SHOWN:
        console.print(Text(f"... and {len(found) - SHOWN} more settings in report.md"))
    console.print(Text(legend(matrix), style="dim"))
    for text in dict.fromkeys(text for part in found for text in out_of_reach(part)):
        console.print(Text(f"note: {text}", style="yellow"))
    varied = [one for one in shares(matrix) if one.settings > 1]
    if varied:
        _print_shares(matrix, console)


def _table(part: Part) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("policy", overflow="fold")
    for workload in part.workloads:
        table.add_column(f"{workload}\n{part.pool(workload)}", justify="right")
    for policy in part.policies:
        cells = [part.row(policy, workload) for workload in part.workloads]
        table.add_row(policy, *(Text(entry(one), style=_STYLES.get(one.verdict, "") if one else "") for one in cells))
    return table


def _print_shares(matrix: Matrix, console: Console) -> None:
    text = share_table(shares(matrix), matrix)
    console.print(Text(f"\n{text.title}", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(text.header):
        table.add_column(name, justify="left" if place < 2 else "right", overflow="fold")
    for row in text.rows:
        table.add_row(*map(Text, row))
    console.print(table)
