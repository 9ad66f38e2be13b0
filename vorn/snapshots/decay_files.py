"""Decay horizons as a table and a figure. No torch."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

MARKS = (512, 2048, 8192)  # tokens


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """One head; the fields are the columns of decay.csv. Decays are per token, horizons tokens."""

    layer: str
    head: int
    envelope_decay: float  # at zero input
    envelope_horizon: float
    prefill_decay: float | None  # geometric mean over the tokens of a prefill; None without one
    prefill_horizon: float | None


def write_heads(rows: Sequence[HeadRow], out_dir: Path) -> list[Path]:
    """Write decay.csv, decay.png and decay.svg into `out_dir`, which is created. Raises: OSError."""
    out_dir.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(HeadRow)]
    with (out_dir / "decay.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
    return [out_dir / "decay.csv", *_figures(rows, out_dir)]


def _figures(rows: Sequence[HeadRow], out_dir: Path) -> list[Path]:
    """The share of heads that have forgotten within so many tokens."""
    import matplotlib
    from matplotlib.figure import Figure

    paths = [out_dir / f"decay.{form}" for form in ("png", "svg")]
    with matplotlib.rc_context({"svg.hashsalt": "vorn", "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        lines = [("parameters, at zero input", "#0072B2", "--", [row.envelope_horizon for row in rows])]
        measured = [row.prefill_horizon for row in rows if row.prefill_horizon is not None]
        if measured:
            lines.append(("one prefill", "#D55E00", "-", measured))
        for label, colour, dashes, horizons in lines:
            axes.ecdf(horizons, label=label, color=colour, ls=dashes)
        for mark in MARKS:
            axes.axvline(mark, color="0.8", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("tokens until a thousandth of the state is left")
        axes.set_ylabel(f"share of {len(rows)} heads")
        axes.legend(frameon=False, loc="lower right")
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
