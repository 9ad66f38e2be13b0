"""A report as files: cells.csv, pairs.csv, report.md, outcomes.png and outcomes.svg."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

from vorn.report.markdown import render
from vorn.report.rows import CellRow, PairRow, Report

CELL_COLUMNS = tuple(field.name for field in dataclasses.fields(CellRow))
PAIR_COLUMNS = tuple(field.name for field in dataclasses.fields(PairRow))


def write_report(report: Report, out_dir: Path) -> list[Path]:
    """Write the files of `report` into `out_dir`, which is created; each appears whole or not at all.

    The tables and the text come first, so that they are there even if drawing fails.
    Returns: their paths. Raises: OSError if one cannot be written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    return [
        _replace(out_dir / "cells.csv", _csv(CELL_COLUMNS, report.cells)),
        _replace(out_dir / "pairs.csv", _csv(PAIR_COLUMNS, report.pairs)),
        _replace(out_dir / "report.md", render(report).encode()),
        *_figures(report, out_dir),
    ]


def _figures(report: Report, out_dir: Path) -> list[Path]:
    from vorn.report.figure import draw  # matplotlib costs more time than the rest of a report

    return [_replace(out_dir / f"outcomes.{form}", image) for form, image in draw(report).items()]


def _csv(columns: Sequence[str], rows: Sequence[CellRow] | Sequence[PairRow]) -> bytes:
    """None becomes an empty field; floats keep every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(row, name) for name in columns] for row in rows)
    return text.getvalue().encode()


def _replace(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
