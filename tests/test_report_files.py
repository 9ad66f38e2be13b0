"""What a reader of the report sees: sentences, tables, figure, terminal."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_contents, make_manifest, make_observation, make_panel, run_cell
from rich.console import Console

from vorn.ledger import DamagedLine, Disagreement
from vorn.records import Look
from vorn.report import build_report, print_report, write_report
from vorn.report.figure import build_figure
from vorn.report.markdown import render
from vorn.report.summaries import summaries
from vorn.report.words import points, probability, sentence

# The headers of the two tables are an interface, so they are written out here.
CELLS = (
    "cell_id,cell,model,task,contract,policy,params,unit,budget,mean_budget_tokens,n,n_errors,hits,hit_rate,"
    "mean_outcome,ci_low,ci_high,ci_method,mean_kept_tokens,mean_evidence_kept,guards,replica_of,"
    "mean_low,mean_high,mean_answer_nll,"
    "mean_work_s,mean_work_forwards,mean_work_read_tokens,mean_work_written_tokens,mean_work_evictions"
)
PAIRS = (
    "lhs,rhs,model,task,n,n_excluded,both,lhs_only,rhs_only,neither,difference,difference_low,difference_high,"
    "p_value,p_holm,family,family_size,lhs_id,rhs_id,worst_low,worst_high,alpha,test,p_method,ci_method,lhs_mean,"
    "rhs_mean,least_discordant,detectable_difference,margin,p_noninferior,p_noninferior_holm,least_margin,p_equivalent,"
    "p_equivalent_holm,least_equivalence_margin,above_noise,looks,max_log_e,nll_n,nll_difference,nll_low,nll_high,nll_p,"
    "nll_p_holm,subtask"
)


def shown(report, width: int = 200) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def report_of(*cells, **changes):
    return build_report(make_contents(*cells, **changes))


def test_a_real_difference_reads_as_a_sentence_with_the_better_cell_first():
    cells = run_cell("0" * 95 + "1" * 5, policy="random") + run_cell("1" * 62 + "0" * 38, policy="tova")
    (pair,) = report_of(*cells).pairs
    assert pair.lhs == "random/token/64"
    low, high = -100 * pair.difference_high, -100 * pair.difference_low
    assert sentence(pair) == (
        "tova/token/64 beats random/token/64: 62 of 100 against 5 of 100, "
        f"+57 points [{low:.0f} to {high:.0f}], p(Holm) < 0.001"
    )


def test_summaries_name_real_differences_strongest_first_and_never_call_cells_equal():
    report = report_of(*make_panel())
    vs_full, policies, units = summaries(report.evaluations[0])
    assert policies.headline == "12 comparisons, 8 real after Holm at 5 %"
    effects = [int(line.split(", ")[1].split()[0]) for line in policies.real]
    assert effects == sorted(effects, reverse=True)
    assert all("beats random/" in line for line in policies.real)
    assert len(policies.not_shown) == 4
    # 2 * 0.5^m * 12 <= 0.05 for the first time at m = 9
    assert "among 12 comparisons it takes at least 9 discordant fixtures, all on one side" in policies.not_shown_label
    assert units.headline == "6 comparisons, 0 real after Holm at 5 %"
    assert (units.real, units.real_label) == ((), "")
    assert vs_full.real[0].startswith("random/token/64 -92 [")
    for text in (render(report), shown(report)):
        assert "equal" not in text.lower()
        assert "not shown to differ (4)" in text


@pytest.mark.parametrize(("excluded", "want"), [(7, "(7 excluded)"), (8, "(8 excluded, which could undo it)")])
def test_what_exclusions_could_undo_is_said(excluded, want):
    """Eight fixtures speak for full; as many unknown ones could all speak against it."""
    full, tova = run_cell("1" * 8 + "x" * excluded, policy="full"), run_cell("0" * 8, policy="tova")
    (pair,) = report_of(*full, *tova).pairs
    assert pair.is_real
    assert sentence(pair).endswith(want)


@pytest.mark.parametrize(
    ("difference", "n", "want"),
    [(0.57, 100, "+57"), (-0.124, 100, "-12"), (-0.001, 100, "0"), (0.0, 50, "0"), (0.0042, 2000, "+0.4")],
)
def test_points(difference, n, want):
    assert points(difference, n, signed=True) == want


@pytest.mark.parametrize(("p", "want"), [(1.0, "= 1"), (0.0496, "= 0.0496"), (0.001, "= 0.001"), (9e-4, "< 0.001")])
def test_probability(p, want):
    assert probability(p) == want


@pytest.mark.integration
def test_files_are_written_whole_and_nothing_else(tmp_path):
    report = report_of(*make_panel())
    paths = write_report(report, tmp_path / "new" / "out")
    names = [
        "cells.csv",
        "pairs.csv",
        "budget_to_success.csv",
        "losses.csv",
        "report.md",
        "outcomes.png",
        "outcomes.svg",
    ]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(names)
    assert paths[5].read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in paths[6].read_bytes()


@pytest.mark.integration
def test_a_table_of_an_earlier_report_does_not_stay_beside_one_that_has_none(tmp_path):
    write_report(report_of(*make_panel()), tmp_path)
    assert (tmp_path / "budget_to_success.csv").exists()
    write_report(report_of(*run_cell("1")), tmp_path)
    assert not (tmp_path / "budget_to_success.csv").exists()


@pytest.mark.integration
def test_files_are_written_under_another_name_first(tmp_path, monkeypatch):
    names = []
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: names.append(self.name) or write(self, data))
    write_report(report_of(*run_cell("1")), tmp_path)
    assert len(names) == 5
    assert not set(names) & {path.name for path in tmp_path.iterdir()}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "cells.csv").write_text("old")

    def fail(self, data):
        os.close(os.open(self, os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(report_of(*make_panel()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]
    assert (tmp_path / "cells.csv").read_text() == "old"


@pytest.mark.integration
def test_tables_have_the_documented_columns_and_every_digit(tmp_path):
    cells = [*make_panel(), *run_cell("xx", policy="broken")]
    report = report_of(*cells)
    write_report(report, tmp_path)
    for name, header, rows in (("cells", CELLS, report.cells), ("pairs", PAIRS, report.pairs)):
        text = (tmp_path / f"{name}.csv").read_text()
        assert text.splitlines()[0] == header
        table = list(csv.DictReader(io.StringIO(text)))
        assert len(table) == len(rows)
        for got, row in zip(table, rows, strict=True):
            for column, value in got.items():
                want = getattr(row, column)
                assert value == ("" if want is None else str(want))
    table = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    broken = table[[row["policy"] for row in table].index("broken")]
    assert (broken["n"], broken["n_errors"], broken["hit_rate"], broken["ci_low"]) == ("0", "2", "", "")


def test_the_figure_shows_every_cell_with_its_interval():
    """Oracle: the rows of cells.csv; lines at one budget stand side by side around it."""
    report = report_of(*make_panel())
    figure = build_figure(report)
    assert [axes.get_title() for axes in figure.axes] == ["pocket, niah\nunit: token", "pocket, niah\nunit: sentence"]
    for axes, unit in zip(figure.axes, ("token", "sentence"), strict=True):
        drawn = {bar.get_label(): bar for bar in axes.containers}
        assert list(drawn) == ["tova", "h2o", "random"]
        places = {name: list(bar.lines[0].get_xdata()) for name, bar in drawn.items()}
        for name, bar in drawn.items():
            rows = [cell for cell in report.cells if (cell.policy, cell.unit) == (name, unit)]
            rows.sort(key=lambda cell: cell.mean_budget_tokens)
            assert list(bar.lines[0].get_ydata()) == [cell.hit_rate for cell in rows]
            ends = [(segment[0][1], segment[1][1]) for segment in bar.lines[2][0].get_segments()]
            assert ends == [pytest.approx((cell.ci_low, cell.ci_high)) for cell in rows]
            assert places[name] == pytest.approx([25, 64], rel=0.2)
        assert places["tova"][0] < places["h2o"][0] < places["random"][0]
        assert {tick.get_text() for tick in axes.get_xticklabels()} == {"64", "25%\n(25)"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "tova", "h2o", "random"]


def test_graded_outcomes_are_drawn_as_means_and_not_as_hits():
    """Nobody hits here: a figure of hit rates would be empty at 0."""
    (axes,) = build_figure(report_of(*run_cell("hhhh", policy="full"), *run_cell("hh00"))).axes
    (bar,) = axes.containers
    assert list(bar.lines[0].get_ydata()) == [0.25]
    assert axes.get_ylabel().startswith("mean outcome, 95 %")
    assert [list(line.get_ydata()) for line in axes.lines if line.get_label() == "full"] == [[0.5, 0.5]]


def test_no_two_lines_look_the_same():
    (axes,) = build_figure(report_of(*(make_observation(policy=f"p{i}") for i in range(16)))).axes
    looks = {(bar.lines[0].get_color(), bar.lines[0].get_linestyle()) for bar in axes.containers}
    assert len(looks) == 16


@pytest.mark.parametrize("name", ["p", "a_policy_with_a_long_name(layer=11)"])
def test_the_legend_stays_within_the_figure(name):
    figure = build_figure(report_of(*(make_observation(policy=f"{name}{i}") for i in range(9))))
    figure.draw_without_rendering()
    box, (width, height) = figure.legends[0].get_window_extent(), figure.get_size_inches() * figure.dpi
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 < figure.axes[0].get_window_extent().y0 < height / 2


def test_one_tick_per_budget_even_if_cells_were_measured_on_other_fixtures():
    tova = [replace(seen, budget_tokens=250 + i) for i, seen in enumerate(run_cell("1010", budget="25%"))]
    h2o = [replace(seen, budget_tokens=250 + i) for i, seen in enumerate(run_cell("10x1", policy="h2o", budget="25%"))]
    (axes,) = build_figure(report_of(*tova, *h2o)).axes
    assert len(axes.get_xticks()) == 1


def test_report_md_holds_what_a_reader_must_know():
    report = report_of(
        *make_panel(),
        *run_cell("1xx", policy="a|b"),
        looks=(Look(evaluation_id="e0", created="", fixtures=10),),
        damaged=(DamagedLine(Path("a/b.jsonl"), 7, True), DamagedLine(Path("a/c.jsonl"), 2, False)),
        disagreements=(Disagreement(cell="c", fixture_id="f", field="outcome", kept=1.0, dropped=0.0),),
        duplicates=2,
        manifests=(make_manifest(), make_manifest(dtype="bfloat16")),
    )
    text = render(report)
    for part in (
        "- look 2: 10 -> 40 fixtures; the p-values are not corrected for the earlier look\n",
        "- torn tail (a writer was killed; a rerun measures what was lost): a/b.jsonl, line 7\n",
        "- damaged line: a/c.jsonl, line 2\n",
        "- disagreement on outcome, fixture f in c: 1.0 first, then 0.0; the first counts\n",
        "- 2 duplicate observations left out",
        "- 2 errors in a\\|b/token/64 (fixture f1): broke\n",
        "- exclusions: 4 of 34 comparisons leave fixtures out that lack an outcome in one of the cells, at most 39;",
        "- seed: 11\n",
        "- dtype: float32 / bfloat16 (segments differ)\n",
        "- versions: python 3.11.9, torch 2.9\n",
    ):
        assert part in text
    assert (
        text.index("### Which differences are real") < text.index("### Cells") < text.index("### How it was measured")
    )
    rows = [line for line in text.splitlines() if line.startswith("| tova/token/64 |")]
    assert rows[0].startswith("| tova/token/64 | 64 | 64.0 | 50.0% | 30 of 40 | 75.0% |")


def test_the_terminal_shows_the_strongest_and_says_how_many_more():
    policies = [f"p{i}" for i in range(6)]
    cells = [
        seen for i, name in enumerate(policies) for seen in run_cell("1" * 20 * i + "0" * (100 - 20 * i), policy=name)
    ]
    text = shown(report_of(*cells))
    assert text.count(" beats ") == 12
    assert "... and 3 more in pairs.csv" in text
    assert "p5/token/64 beats p0/token/64: 100 of 100 against 0 of 100, +100 points [93 to 100]" in text
    assert render(report_of(*cells)).count(" beats ") == 15
    assert "note: no cell is full" in text


def test_the_terminal_table_has_a_row_per_cell_also_at_80_columns():
    report = report_of(*make_panel())
    lines = shown(report, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("cell ")) + 1 :]
    assert [line.split()[0] for line in table[: len(report.cells)]] == [cell.cell for cell in report.cells]


def test_a_long_name_is_broken_between_its_parts_and_never_within_one():
    long = {"policy": "expected_attention", "params": "n_future=512,n_sink=4,use_vnorm=true", "unit": "sentence"}
    text = shown(report_of(*run_cell("10", **long), *run_cell("1", policy="full")), width=80)
    (first,) = [place for place, line in enumerate(text.splitlines()) if line.startswith("expected_attention(  ")]
    parts = [line[:30].split()[0] for line in text.splitlines()[first:] if line.strip()][:3]
    assert parts == ["expected_attention(", "n_future=512,n_sink=4,", "use_vnorm=true)/sentence/64"]
    assert max(map(len, text.splitlines())) <= 80


def test_square_brackets_in_names_are_text_and_not_markup():
    report = report_of(*run_cell("10", policy="a", params="x=[red]", model="m[bold]"), *run_cell("1", policy="full"))
    text = shown(report)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("a(x")] == ["a(x=[red])/token/64"]
    assert "m[bold], niah" in text


MIXED = {
    "a single fixture in a single cell": run_cell("1"),
    "only the reference": run_cell("10", policy="full"),
    "only errors": run_cell("xx", policy="full") + run_cell("xx", policy="tova"),
    "a cell with only errors": run_cell("11", policy="full") + run_cell("xx", policy="tova"),
    "no reference": run_cell("10", policy="h2o") + run_cell("01", policy="tova"),
    "no common fixture": run_cell("1 ", policy="h2o") + run_cell(" 1", policy="tova"),
    "no evidence": run_cell("10", policy="full", evidence_kept=None) + run_cell("10", evidence_kept=None),
    "several models and dtypes": [
        replace(seen, evaluation_id=f"e{i}", cell_id=f"{seen.cell_id}{i}", model=model)
        for i, model in enumerate(("large", "small", "small"))
        for seen in make_panel()
    ],
    "several contracts and guards": [
        seen
        for contract in ("prefill_once", "context_once")
        for guards in ("matched", "none")
        for seen in run_cell("10", contract=contract, guards=guards)
    ],
    "more policies than colours": [make_observation(policy=f"p{i}$^$_") for i in range(12)],
}


@pytest.mark.integration
@pytest.mark.parametrize("cells", MIXED.values(), ids=MIXED.keys())
def test_mixed_situations_are_reported_in_all_forms(cells, tmp_path):
    report = report_of(*cells)
    assert len(write_report(report, tmp_path)) == 5 + bool(report.budgets) + bool(report.losses)
    text, terminal = render(report), shown(report)
    for cell in report.cells:
        assert cell.cell.replace("_", "\\_") in text
        assert cell.cell in terminal
    titles = [axes.get_title().split("\n")[0] for axes in build_figure(report).axes]
    assert set(titles) == {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}


def test_answers_in_nats_stand_beside_the_hits_where_they_were_recorded():
    """Oracle: the mean of each cell, and of the differences on the 19 fixtures that both have, by hand."""
    full = [replace(seen, answer_nll=2.0) for seen in run_cell("1" * 20, policy="full")]
    tova = [replace(seen, answer_nll=2.5 + 0.1 * (i % 2)) for i, seen in enumerate(run_cell("1" * 20, policy="tova"))]
    tova[0] = replace(tova[0], answer_nll=None)
    report = report_of(*full, *tova)
    (pair,) = report.pairs
    means = [2.0, (9 * 2.5 + 10 * 2.6) / 19]
    assert [cell.mean_answer_nll for cell in report.evaluations[0].cells] == pytest.approx(means)
    effect = f"+{means[1] - 2.0:.2f} [{pair.nll_low:.2f} to {pair.nll_high:.2f}]"
    assert f"{means[1]:.2f} | {effect} |" in render(report)
    (row,) = [line for line in shown(report, width=80).splitlines() if line.startswith("tova/token/64 ")]
    assert row.split()[-1] == f"{means[1]:.2f}"
    plain = report_of(*run_cell("1" * 20, policy="full"), *run_cell("1" * 20, policy="tova"))
    assert "nats" not in render(plain) + shown(plain)


def test_every_share_of_the_table_of_cells_is_in_per_cent() -> None:
    """Worked out by hand: outcomes 1, 1/2, 0, 0 have the mean 37.5 %, beside a hit rate of 25 %."""
    report = build_report(make_contents(*run_cell("1h00", policy="full")))
    (row,) = (line for line in render(report).splitlines() if line.startswith("| full |"))
    cells = [text.strip() for text in row.strip("|").split("|")]
    assert cells[4:6] == ["1 of 4", "25.0%"]
    assert cells[7] == "37.5%"
    low, high = (float(end) for end in cells[8].split(" to "))
    assert low < 37.5 < high


def test_a_claim_names_three_pairs_and_the_file_that_has_the_others() -> None:
    """Six policies that miss nothing on 400 fixtures are equivalent in all 15 pairs."""
    seen = [one for policy in ("full", *"abcdef") for one in run_cell("1" * 400, policy=policy)]
    text = render(build_report(make_contents(*seen)))
    claims = [line for line in text.splitlines() if line.startswith("- shown to differ by less than")]
    assert [line.count(" against ") for line in claims][-1] == 3
    assert claims[-1].endswith(" and 12 more in pairs.csv")
    three = [one for policy in ("full", *"abc") for one in run_cell("1" * 400, policy=policy)]
    assert " more in pairs.csv" not in render(build_report(make_contents(*three)))
