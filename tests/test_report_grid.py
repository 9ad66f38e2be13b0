"""Heat maps of two axes: which fixtures count where, what is drawn, and what is said of the rest."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_contents, run_cell
from rich.console import Console
from scipy.stats import binomtest

from vorn.records import Axes, Observation
from vorn.report import Report, build_report, print_report, write_report
from vorn.report.markdown import render
from vorn.report.notes import qualifications
from vorn.report.page import build_page
from vorn.report.page.captions import difference_caption, grid_caption
from vorn.report.page.grid import MOST, difference_maps, mean_maps

HEADER = (
    "cell_id,cell,model,task,down,down_at,across,across_at,n,n_errors,hits,mean_outcome,mean_low,mean_high,ci_method,"
    "n_paired,difference"
)
DEPTHS, LENGTHS = (0, 0.5, 1), (500, 1000)
PLACES = [Axes(down="depth", down_at=one, across="length", across_at=two) for two in LENGTHS for one in DEPTHS]
FULL, TOVA = "111101111x1111", "01h0x100 10x11"  # fixture i stands at place i % 6


def placed(seen: Sequence[Observation], places: Sequence[Axes | None] = PLACES) -> list[Observation]:
    return [replace(one, axes=places[one.fixture_index % len(places)]) for one in seen]


def grid_report(**changes: str) -> Report:
    full, tova = run_cell(FULL, policy="full"), run_cell(TOVA, **changes)
    return build_report(make_contents(*placed(full), *placed(tova)))


def by_hand(marks: str, place: int) -> list[float | None]:
    """Outcomes of the fixtures at a place, None where there is none."""
    values = {"1": 1.0, "0": 0.0, "h": 0.5, "x": None, " ": None}
    return [values[mark] for index, mark in enumerate(marks) if index % 6 == place]


def test_every_place_has_its_own_fixtures_and_an_error_is_no_miss(tmp_path: Path) -> None:
    report = grid_report()
    got = [row for row in report.grid if row.cell.startswith("tova")]
    order = [0, 3, 1, 4, 2, 5]  # down, then across
    assert [(row.down_at, row.across_at) for row in got] == [(depth, size) for depth in DEPTHS for size in LENGTHS]
    for row, place in zip(got, order, strict=True):
        own = [one for one in by_hand(TOVA, place) if one is not None]
        both = zip(by_hand(TOVA, place), by_hand(FULL, place), strict=True)
        paired = [one - two for one, two in both if one is not None and two is not None]
        failed = [TOVA[index] for index in range(place, len(TOVA), 6)].count("x")
        assert (row.n, row.n_errors, row.hits) == (len(own), failed, own.count(1.0))
        assert row.mean_outcome == (pytest.approx(np.mean(own)) if own else None)
        assert row.n_paired == len(paired)
        assert row.difference == (pytest.approx(np.mean(paired)) if paired else None)
    assert got[0].n == 3
    want = binomtest(1, 3).proportion_ci(0.95, "wilson")
    assert (got[0].mean_low, got[0].mean_high) == pytest.approx((want.low, want.high))
    assert {row.difference for row in report.grid if row.cell == "full"} == {None}
    write_report(report, tmp_path)
    text = (tmp_path / "grid.csv").read_text()
    assert text.splitlines()[0] == HEADER
    assert [float(row["across_at"]) for row in csv.DictReader(text.splitlines())][:3] == [500, 1000, 500]


def test_a_map_has_a_number_on_every_field_with_an_outcome_and_one_scale() -> None:
    """Oracle: the outcomes of each place, averaged by hand; depth runs down and length across."""
    report = grid_report()
    figure = mean_maps(report.evaluations[0])
    full, tova = figure.axes[:2]
    assert [axes.get_title() for axes in (full, tova)] == ["full", "tova/token/64"]
    assert [one.get_text() for one in tova.get_xticklabels()] == ["500", "1000"]
    assert [one.get_text() for one in full.get_yticklabels()] == ["0", "0.5", "1"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("length", "depth")
    for axes, marks in ((full, FULL), (tova, TOVA)):
        (image,) = axes.images
        assert image.get_clim() == (0, 100)
        want = {}
        for place in range(6):
            known = [one for one in by_hand(marks, place) if one is not None]
            x, y = divmod(place, 3)
            value = image.get_array()[y, x]
            assert value == pytest.approx(100 * np.mean(known)) if known else value is np.ma.masked
            want |= {(x, y): f"{100 * np.mean(known):.0f}"} if known else {}
        assert {text.get_position(): text.get_text() for text in axes.texts} == want
    (axes,) = [one for one in difference_maps(report.evaluations[0]).axes if one.get_title()]
    (image,) = axes.images
    assert image.get_clim() == (-100, 100)
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "-67", (0, 1): "-33", (0, 2): "-50", (1, 0): "-100", (1, 1): "-100", (1, 2): "0",
    }  # fmt: skip


def test_a_ledger_begun_without_axes_has_them_where_a_fixture_was_measured_again() -> None:
    old, new = run_cell("11111111", policy="full"), placed(run_cell("101010"))
    report = build_report(make_contents(*old, *new))
    assert [row.n for row in report.grid if row.cell == "full"] == [1] * 6
    assert "2 observations left out: the ledger has no axes of their fixtures." in grid_caption(report.evaluations[0])
    changed = [replace(seen, fingerprint="another prompt") for seen in old]
    assert {row.cell for row in build_report(make_contents(*changed, *new)).grid} == {"tova/token/64"}
    assert build_report(make_contents(*old)).grid == []
    assert build_report(make_contents(*placed(old, PLACES[:1]))).grid == []


def test_captions_say_how_many_fixtures_which_cells_and_which_axes() -> None:
    others = [replace(axes, across="noise") for axes in PLACES]
    cells = placed(run_cell("1" * 20, policy="full"), [*PLACES, *others[:1]])
    for number in range(MOST + 2):
        cells += placed(run_cell("0" * 14 + "11", policy=f"p{number}", budget=str(90 - number)), [*PLACES, *others[:1]])
    again = [replace(seen, replica_of=cells[-1].cell_id, cell_id="again", cell="again") for seen in cells[-16:]]
    evaluation = build_report(make_contents(*cells, *again)).evaluations[0]
    assert grid_caption(evaluation) == (
        f"Every field is the mean of 2 to 3 fixtures. {MOST} of {MOST + 3} cells: references, and those of the "
        "smallest budgets. 1 other pair of axes in grid.csv."
    )
    assert {row.difference for row in evaluation.grid if row.cell == "again"} == {None}
    titles = [axes.get_title() for axes in mean_maps(evaluation).axes if axes.get_title()]
    assert titles == ["full", *(f"p{number}/token/{90 - number}" for number in range(3, MOST + 2))]
    assert difference_caption(evaluation) == (
        "The lowest: p3/token/87 at depth 0, length 1000, -100 points on 2 fixtures. Fields are not tested: their "
        "numbers are small."
    )


def test_the_caption_names_no_lowest_field_where_none_is_below_full() -> None:
    full, pruned = placed(run_cell("100000", policy="full")), placed(run_cell("100000"))
    more = placed(run_cell("111111", policy="better"))
    said = "No field is below full. Fields are not tested: their numbers are small."
    assert difference_caption(build_report(make_contents(*full, *pruned, *more)).evaluations[0]) == said
    lost = placed(run_cell("000000", policy="worse"))
    caption = difference_caption(build_report(make_contents(*full, *pruned, *lost)).evaluations[0])
    assert caption.startswith("The lowest: worse/token/64 at depth 0, length 500, -100 points on 1 fixture. ")


def test_where_an_axis_has_too_many_values_it_is_said_and_nothing_is_drawn(tmp_path: Path) -> None:
    many = [Axes(down="noise", down_at=one, across="length", across_at=500) for one in range(25)]
    evaluation = build_report(make_contents(*placed(run_cell("10" * 13), many))).evaluations[0]
    note = "no heat map: 25 values of noise, and a map has room for 24; grid.csv has every place"
    assert note in qualifications(evaluation)
    assert mean_maps(evaluation) is None
    assert difference_maps(evaluation) is None
    fewer = build_report(make_contents(*placed(run_cell("10" * 13), many[:24])))
    assert mean_maps(fewer.evaluations[0]) is not None
    assert not [one for one in qualifications(fewer.evaluations[0]) if "heat map" in one]
    write_report(fewer, tmp_path)
    write_report(build_report(make_contents(*run_cell("10"))), tmp_path)
    assert not (tmp_path / "grid.csv").exists()


def test_cells_that_only_failed_or_only_repeat_others_are_no_reason_to_fail() -> None:
    failed = build_report(make_contents(*placed(run_cell("xxxxxx")), *placed(run_cell("111111", policy="full"))))
    empty = next(axes for axes in mean_maps(failed.evaluations[0]).axes if axes.get_title() == "tova/token/64")
    assert (list(empty.texts), empty.images[0].get_array().count()) == ([], 0)
    assert difference_maps(failed.evaluations[0]) is None
    assert "grid-difference" not in {one.name for one in build_page(failed, []).drawings}
    again = [replace(seen, replica_of="another", cell_id="again", cell="again") for seen in placed(run_cell("101010"))]
    repeated = build_report(make_contents(*again))
    assert mean_maps(repeated.evaluations[0]) is None
    assert "Heat maps" not in build_page(repeated, []).html


def test_the_text_has_the_means_along_each_axis_and_the_page_the_maps() -> None:
    report = grid_report(policy="<b>tova")
    lines = render(report).splitlines()
    table = lines[lines.index("### Mean outcome along the axes") + 2 :]
    assert table[2] == "| cell | depth 0 | depth 0.5 | depth 1 | length 500 | length 1000 | all |"
    done = [(index % 6, {"1": 1, "0": 0, "h": 0.5}[mark]) for index, mark in enumerate(TOVA) if mark in "10h"]
    groups = [*({place, place + 3} for place in range(3)), {0, 1, 2}, {3, 4, 5}, set(range(6))]
    means = [np.mean([value for place, value in done if place in group]) for group in groups]
    assert table[5] == f"| \\<b>tova/token/64 | {' | '.join(f'{mean:.1%}' for mean in means)} |"
    console = Console(record=True, width=200, color_system=None)
    print_report(report, console)
    assert "outcomes by depth and length: grid.csv, heat maps in report.html" in console.export_text()
    page = build_page(report, [])
    assert {"grid", "grid-difference"} < {one.name for one in page.drawings}
    assert '<h2 id="e1-grid">Heat maps</h2>' in page.html
    assert "<b>tova" not in page.html
    assert "Heat maps" not in build_page(build_report(make_contents(*run_cell("10"))), []).html
