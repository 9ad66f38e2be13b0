"""A report as files: tables (those of special analyses where they have rows), report.md, figures, and the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vorn.records import Observation
from vorn.regrade import Change
from vorn.report.grid import GridRow
from vorn.report.losses import LossRow
from vorn.report.markdown import render, render_matrix
from vorn.report.reports import Report
from vorn.report.rows import BudgetRow, CellRow, NoiseRow, PairRow, SelectionRow
from vorn.report.subtasks import TaskRow
from vorn.report.words import printable
from vorn.snapshots.matrix import MatrixRow
from vorn.snapshots.sensitivity import Share, shares
from vorn.views import View

FIGURES = "figures"  # folder of the page's figures
_OURS = re.compile(
    r"((\d+-)?(outcomes|granularity|layers|losses|positions|grid(-difference)?|forest-\w+)|matrix-.+|resumes-[\w-]+)"
    r"\.(svg|png)"
)

Row = CellRow | PairRow | BudgetRow | NoiseRow | SelectionRow | LossRow | TaskRow | GridRow | Change | MatrixRow | Share


def write_report(report: Report, out_dir: Path) -> list[Path]:
    """Write the files of `report` into `out_dir`, which is created; each appears whole or not at all.

    The tables and the text come first, so that they are there even if drawing fails.
    Returns: their paths. Raises: OSError if one cannot be written.
    """
    shown = printable(report)
    out_dir.mkdir(parents=True, exist_ok=True)
    return [
        _replace(out_dir / "cells.csv", _csv(CellRow, report.cells)),
        _replace(out_dir / "pairs.csv", _csv(PairRow, report.pairs)),
        *_special(report, shown, out_dir),
        _replace(out_dir / "report.md", render(shown).encode()),
        *_figures(shown, out_dir),
    ]


def write_changes(changes: Sequence[Change], out_dir: Path) -> Path:
    """Write regraded.csv: every outcome that another grading rule changes. Raises: OSError if it cannot be written."""
    return _replace(out_dir / "regraded.csv", _csv(Change, changes))


def write_page(
    report: Report,
    observations: Sequence[Observation],
    out_dir: Path,
    views: Sequence[View] = (),
    failed: Sequence[str] = (),
) -> list[Path]:
    """Write report.html, and its figures as figures/*.svg and *.png, into `out_dir`, which is created.

    Args:
        report: what it says.
        observations: that the report was made of.
        out_dir: where; figures of an earlier page are removed there.
        views: of the fixtures whose prompts can be shown.
        failed: jobs of a sweep that failed, in words.
    Returns: the path of the page, then those of the figures. Raises: OSError if one cannot be written.
    """
    from vorn.report.page import build_page  # matplotlib and the templates cost more time than the rest of a report

    page = build_page(printable(report), *_with_printable_ids(observations, views), tuple(map(printable, failed)))
    folder = out_dir / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"{one.name}.{form}": data for one in page.drawings for form, data in one.files.items()}
    for path in folder.iterdir():
        if path.name not in wanted and _OURS.fullmatch(path.name):
            path.unlink()
    figures = [_replace(folder / name, data) for name, data in wanted.items()]
    return [_replace(out_dir / "report.html", page.html.encode(errors="backslashreplace")), *figures]


def _with_printable_ids(
    observations: Sequence[Observation], views: Sequence[View]
) -> tuple[list[Observation], list[View]]:
    """Ids as the printable report has them, so that its cells are found; an id that is a hash, as ours, stays."""
    seen = [
        one
        if one.evaluation_id.isprintable() and one.cell_id.isprintable()
        else dataclasses.replace(one, evaluation_id=printable(one.evaluation_id), cell_id=printable(one.cell_id))
        for one in observations
    ]
    shown = [
        dataclasses.replace(
            view,
            evaluation_id=printable(view.evaluation_id),
            kept={printable(cell): shares for cell, shares in view.kept.items()},
        )
        for view in views
    ]
    return seen, shown


def _figures(report: Report, out_dir: Path) -> list[Path]:
    """Those of the domains that the report has; an earlier report's are removed."""
    from vorn.report.figure import draw  # matplotlib costs more time than the rest of a report
    from vorn.report.resumes.figures import draw as draw_matrix

    images = {
        "outcomes": draw(report) if report.panels else {},
        "matrix": draw_matrix(report.matrix) if report.matrix else {},
    }
    for name in (name for name, made in images.items() if not made):
        for form in ("svg", "png"):
            (out_dir / f"{name}.{form}").unlink(missing_ok=True)
    return [_replace(out_dir / f"{name}.{form}", data) for name, made in images.items() for form, data in made.items()]


def _special(report: Report, shown: Report, out_dir: Path) -> list[Path]:
    """Tables have every character of `report`, texts those of `shown`, which a reader's program may show."""
    found = shares(report.matrix) if report.matrix else []
    tables: list[tuple[str, type[Row], Sequence[Row]]] = [
        ("budget_to_success", BudgetRow, report.budgets),
        ("noise_floor", NoiseRow, report.noise),
        ("selection", SelectionRow, report.selection),
        ("losses", LossRow, report.losses),
        ("tasks", TaskRow, report.subtasks),
        ("grid", GridRow, report.grid),
        ("matrix", MatrixRow, report.matrix.rows if report.matrix else ()),
        ("sensitivity", Share, [one for one in found if one.settings > 1]),
    ]
    texts = {"matrix.md": render_matrix(shown.matrix)} if shown.matrix else {}
    if not texts:
        (out_dir / "matrix.md").unlink(missing_ok=True)
    for name, _, rows in tables:
        if not rows:  # an earlier report's table would be taken for this one's
            (out_dir / f"{name}.csv").unlink(missing_ok=True)
    return [
        *(_replace(out_dir / f"{name}.csv", _csv(kind, rows)) for name, kind, rows in tables if rows),
        *(_replace(out_dir / name, text.encode()) for name, text in texts.items()),
    ]


def _csv(kind: type[Row], rows: Sequence[Row]) -> bytes:
    """The fields of `kind` are the columns; None becomes an empty field; floats keep every digit."""
    columns = [field.name for field in dataclasses.fields(kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(row, name) for name in columns] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")  # a model may write half of a character


def _replace(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
