"""The page: inert, self-contained, and its figures and tables against the rows of the report."""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from factories import make_contents, make_manifest, make_observation, make_panel, run_cell

from tests.composing import ROOT
from vorn.ledger import LedgerWriter
from vorn.records import Axes
from vorn.report import build_report, write_page
from vorn.report.__main__ import main
from vorn.report.page import build_page
from vorn.report.page.captions import forest_caption, matrix_caption
from vorn.report.page.cost import cost_table, shared_cost
from vorn.report.page.fixtures import LONGEST, MOST, MOST_BYTES, fixture_bytes, shown_fixtures
from vorn.report.page.forest import forest_figure
from vorn.report.page.granularity import granularity_figure
from vorn.report.page.layers import layers_figure
from vorn.report.page.losses import losses_figure
from vorn.report.page.matrix import matrix_figure, shared_tasks
from vorn.report.page.positions import BINS, positions_figure
from vorn.views import View, ViewWriter

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)><!-- ]]> \u2028 {{ 7 * 7 }} \"'&"


class Parsed(HTMLParser):
    """Elements with their attributes and own text, and tables as lists of texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        self.open.append((tag, self.elements[-1][2]))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1][1].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text).strip() for name, _, text in self.elements if name == tag]

    def data(self) -> list[Any]:
        return [
            json.loads("".join(text))
            for name, attributes, text in self.elements
            if name == "script" and attributes.get("type") == "application/json"
        ]


def report_of(*cells):
    return build_report(make_contents(*cells))


def page_of(*cells, views=()) -> Parsed:
    return Parsed(build_page(report_of(*cells), cells, views).html)


def make_view(cells, **changes: Any) -> View:
    fields: dict[str, Any] = {
        "evaluation_id": "e0",
        "fixture_id": "f0",
        "fingerprint": "print of f0",
        "prompt": "One. Two \U0001f511 three. Why?",
        "token_ends": (4, 8, 10, 17, 22),
        "evidence": (2,),
        "question_start_token": 4,
        "kept": {seen.cell_id: bytes([255, 0, 128, 0, 255]) for seen in cells},
    }
    return View(**fields | changes)


def test_text_of_models_and_of_fixtures_is_inert_and_arrives_whole():
    """Oracle: the standard library's parser; nothing hostile becomes an element, and the data hold every letter."""
    names = {"policy": HOSTILE, "params": "a=<b>", "model": f"m{HOSTILE}", "task": HOSTILE, "contract": HOSTILE}
    axes = Axes(down=HOSTILE, down_at=0, across=f"{HOSTILE} too", across_at=1)
    seen = make_observation(
        **names,
        axes=axes,
        fixture_id=HOSTILE,
        completion=HOSTILE,
        answer_graded=HOSTILE,
        answers=(HOSTILE,),
        grade=HOSTILE,
    )
    failed = replace(seen, fixture_id="f1", outcome=None, error=HOSTILE, axes=replace(axes, down_at=1))
    view = make_view([seen], fixture_id=HOSTILE, fingerprint=seen.fingerprint, prompt=HOSTILE, token_ends=(3,) * 5)
    parsed = page_of(seen, failed, views=[view])
    tags = [tag for tag, _, _ in parsed.elements]
    assert tags.count("script") == 2  # the data and our own
    assert "img" not in tags
    assert not [name for _, attributes, _ in parsed.elements for name in attributes if name.startswith("on")]
    (data,) = parsed.data()
    first, second = data["fixtures"]
    assert (first["id"], first["answers"], first["view"]["prompt"]) == (HOSTILE, [HOSTILE], HOSTILE)
    assert (first["cells"][0]["completion"], first["cells"][0]["graded"]) == (HOSTILE, HOSTILE)
    assert (second["cells"][0]["outcome"], second["cells"][0]["error"]) == (None, HOSTILE)
    assert any(HOSTILE in text for text in parsed.texts("td"))
    assert "Heat maps" in parsed.texts("h2")
    assert not any("49" in text for text in parsed.texts("td"))


def test_the_page_loads_nothing_and_runs_only_its_own_script():
    """Oracle: the parsed attributes; the policy's hash is computed here from the script as a browser sees it."""
    parsed = page_of(*run_cell("10", policy="full"), *run_cell("01"))
    targets = [
        value or ""
        for _, attributes, _ in parsed.elements
        for name, value in attributes.items()
        if name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster")
    ]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    (style,) = parsed.texts("style")
    assert "@import" not in style
    assert "url(" not in style
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    (script,) = ["".join(text) for tag, attributes, text in parsed.elements if tag == "script" and not attributes]
    (policy,) = [
        attributes["content"]
        for tag, attributes, _ in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert f"script-src '{'sha256-' + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.integration
def test_sections_are_there_where_they_have_something_to_show_and_only_there():
    few = page_of(*run_cell("10", policy="full"))
    assert few.texts("h2") == ["Which differences are real", "Cells", "Cost", "Fixtures", "How it was measured"]
    panel = make_panel()
    report = report_of(*panel)
    page = build_page(report, panel, [make_view([seen for seen in panel if seen.fixture_id == "f0"])])
    whole = Parsed(page.html)
    for title in ("Against full", "Units", "Where tokens are kept"):
        assert title in whole.texts("h2")
    assert {one.name for one in page.drawings} == {
        "outcomes", "forest-vs_full", "forest-policies", "forest-units", "granularity", "losses", "positions",
    }  # fmt: skip
    labels = {cell.cell for cell in report.cells}
    rows = [text for text in whole.texts("td") if text in labels]
    # cells, costs and losses; lhs and rhs
    assert len(rows) == 2 * len(report.cells) + len(report.losses) + 2 * len(report.pairs)
    assert "12 comparisons, 8 real after Holm at 5 %" in whole.texts("strong")
    best = "Highest with eviction: tova/sentence/25%, 92 % [80 to 97]; full 100 % [91 to 100]."
    assert any(text.startswith(best) for text in whole.texts("figcaption"))


def test_a_forest_plot_has_every_pair_with_its_interval_the_better_cell_first():
    report = report_of(*make_panel(), *run_cell("1" * 40, policy="better than those before it"))
    pairs = [pair for pair in report.pairs if pair.family == "policies"]
    figure = forest_figure(pairs, report.noise)
    axes = figure.axes[0]
    want = sorted(pairs, key=lambda pair: -abs(pair.difference))
    lines = [line for line in axes.lines if len(line.get_ydata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(lines) == len(dots) == len(pairs)
    for pair, line, dot, label in zip(want, lines, dots, axes.get_yticklabels(), strict=True):
        sign = 1 if pair.difference >= 0 else -1
        ends = sorted((sign * 100 * pair.difference_low, sign * 100 * pair.difference_high))
        assert list(line.get_xdata()) == pytest.approx(ends)
        assert dot.get_xdata()[0] == pytest.approx(abs(100 * pair.difference))
        assert (dot.get_markerfacecolor() == "none") == (not pair.is_real)
        assert label.get_text() == " vs ".join((pair.lhs, pair.rhs)[::sign])
    assert forest_figure([replace(pairs[0], p_holm=None)], ()) is None


def test_a_forest_plot_shows_the_noise_floor_and_leaves_the_reference_second():
    cells = run_cell("1" * 30, policy="full") + run_cell("1" * 20 + "0" * 10)
    again = [replace(seen, replica_of=cells[-1].cell_id, cell_id="again", cell="again") for seen in cells[30:]]
    report = report_of(*cells, *again)
    (row,) = report.noise
    axes = forest_figure(report.pairs, report.noise).axes[0]
    (band,) = [patch for patch in axes.patches if patch.get_label() == "noise floor"]
    assert (band.get_x(), band.get_width()) == pytest.approx((-100 * row.limit, 200 * row.limit))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tova/token/64"]
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(-100 / 3)
    assert forest_caption(report.pairs, report.noise) == (
        "1 comparison; 1 of 1 real after Holm. Grey: the noise floor, 11.4 points either way."
    )


def test_units_stand_below_each_other_where_there_are_several():
    report = report_of(*make_panel())
    figure = granularity_figure(report.evaluations[0])
    assert [axes.get_title() for axes in figure.axes] == ["budget 25%", "budget 64"]
    for axes, budget in zip(figure.axes, ("25%", "64"), strict=True):
        for bar in axes.containers:
            (mean,) = bar.lines[0].get_xdata()
            row = figure.axes[0].get_yticklabels()[round(bar.lines[0].get_ydata()[0])].get_text()
            (cell,) = [
                one for one in report.cells if (one.policy, one.unit, one.budget) == (row, bar.get_label(), budget)
            ]
            assert mean == cell.mean_outcome
    assert granularity_figure(report_of(*run_cell("10"), *run_cell("10", policy="h2o")).evaluations[0]) is None


def test_a_layer_sweep_is_a_line_in_the_order_of_the_layers():
    outcomes = {10: "11100000", 2: "11111000"}
    cells = [run_cell(hits, policy="vorn", params=f"layer={layer}") for layer, hits in outcomes.items()]
    other = run_cell("1" * 8, policy="vorn", params="layer=4,window=8")
    report = report_of(*(seen for cell in [*cells, other] for seen in cell))
    (axes,) = layers_figure(report.evaluations[0]).axes
    (line,) = axes.containers
    assert (line.get_label(), list(line.lines[0].get_xdata())) == ("vorn/token/64", [2, 10])
    assert list(line.lines[0].get_ydata()) == [5 / 8, 3 / 8]
    assert layers_figure(report_of(*other).evaluations[0]) is None


def test_models_against_cells_leaves_out_what_was_not_measured():
    large = [replace(seen, evaluation_id="e1", cell_id=f"{seen.cell_id}1", model="large") for seen in run_cell("1000")]
    report = report_of(*run_cell("10", policy="full"), *run_cell("1110"), *large)
    ((task, group),) = shared_tasks(report).items()
    axes = matrix_figure(group).axes[0]
    shown = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert task == "niah"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["full", "tova/token/64"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["pocket", "large"]
    assert shown == {((0, 0), "0.50"), ((0, 1), "0.75"), ((1, 1), "0.25")}
    assert matrix_caption(group) == (
        "Highest with eviction: pocket: tova/token/64, 75 % [30 to 95]; large: tova/token/64, 25 % [5 to 70]."
    )
    assert shared_tasks(report_of(*run_cell("10"))) == {}


def test_the_parts_of_a_bar_of_losses_add_up_to_what_the_reference_hits():
    """Oracle: counted by hand; the reference misses the last fixture, and 0.5 of the evidence is still kept."""
    shares = [0.9, 0.1, 0.5, 0.9, 0.2, 0.1, 0.2, 1.0]
    cell = [replace(seen, evidence_kept=share) for seen, share in zip(run_cell("11000001"), shares, strict=False)]
    report = report_of(*run_cell("11111110", policy="full"), *cell)
    (axes,) = losses_figure(report.losses).axes
    bars = {bar.get_label(): bar.patches[0] for bar in axes.containers}
    assert [bar.get_width() * 7 / 100 for bar in bars.values()] == pytest.approx([1, 1, 2, 3])
    assert list(bars)[1:3] == ["hit, evidence evicted (leaked)", "lost, evidence kept"]
    assert [bar.get_x() * 7 / 100 for bar in bars.values()] == pytest.approx([0, 1, 2, 4])


def test_kept_positions_are_means_over_layers_heads_and_fixtures():
    """Oracle: a loop over fine steps of the prompt, each of which lies in one token."""
    seen = make_observation()
    report = report_of(seen)
    shares = [bytes([255, 0, 51, 102, 255]), bytes(range(0, 252, 2))]
    views = [
        make_view(
            [seen], fixture_id=f"f{i}", kept={seen.cell_id: one}, token_ends=tuple(range(len(one))), evidence=(2,)
        )
        for i, one in enumerate(shares)
    ]
    image = positions_figure(report.cells, views).axes[0].images[0].get_array()
    fine = 63 * 5 * 4  # steps per bin, so that no step crosses an end of a token
    for bin_ in (0, 1, 25, 26, 40, BINS - 1):
        want = [
            one[int((bin_ * fine + step) * len(one) / (BINS * fine))] / 255 for one in shares for step in range(fine)
        ]
        assert image[1][bin_] == pytest.approx(sum(want) / len(want), abs=1e-3)
    marked = [sum(2 * BINS // len(one) == bin_ for one in shares) / 2 for bin_ in range(BINS)]
    assert list(image[0]) == marked
    assert positions_figure(report.cells, [make_view([], kept={})]) is None


def test_the_viewer_gets_tokens_as_a_browser_counts_letters():
    cells = [make_observation(), make_observation(policy="full", cell_id="whole")]
    report = report_of(*cells)
    view = make_view(cells[:1])
    shown = shown_fixtures(
        report.cells, cells, [view, make_view([], fixture_id="f0", fingerprint="another one")], MOST_BYTES
    )
    (entry,) = json.loads(shown.data)["fixtures"]
    units = view.prompt.encode("utf-16-le")
    start, words = 0, []
    for length in entry["view"]["lengths"]:
        words.append(units[2 * start : 2 * (start + length)].decode("utf-16-le"))
        start += length
    assert words == ["One.", " Two", " \U0001f511", " three.", " Why?"]
    kept = {place: list(zlib.decompress(base64.b64decode(one))) for place, one in entry["view"]["kept"].items()}
    assert kept == {"1": [255, 0, 128, 0, 255]}  # the reference comes first
    assert [one["cell"] for one in entry["cells"]] == [0, 1]


def test_the_viewer_takes_fixtures_with_views_first_then_those_that_split_the_cells():
    cells = (
        run_cell("1" * 60, policy="full") + run_cell("1" * 50 + "0" * 10) + run_cell("1" * 55 + "0" * 5, policy="h2o")
    )
    report = report_of(*cells)
    view = make_view(cells[:1], fixture_id="f3", fingerprint="print of f3")
    shown = shown_fixtures(report.cells, cells, [view], MOST_BYTES)
    names = [fixture["id"] for fixture in json.loads(shown.data)["fixtures"]]
    assert names[:12] == ["f3", *(f"f{i}" for i in range(50, 60)), "f0"]
    assert (len(names), shown.fixtures, shown.of, shown.with_prompt) == (MOST, MOST, 60, 1)
    assert shown.sentence == (
        "50 of 60 fixtures, those first that show their prompt and on which cells disagree; 1 with the positions that "
        "each cell kept."
    )


def test_a_page_with_long_prompts_stays_small_and_says_what_it_left_out():
    cells = [replace(seen, completion="x" * 5000) for seen in run_cell("10101")]
    report = report_of(*cells)
    long = {"prompt": "x" * 900_000, "token_ends": (1, 2, 3, 4, 900_000)}
    views = [make_view([], fixture_id=f"f{i}", fingerprint=f"print of f{i}", **long) for i in range(5)]
    shown = shown_fixtures(report.cells, cells, views, fixture_bytes(1))
    data = json.loads(shown.data)
    assert len(shown.data) < MOST_BYTES
    assert (shown.fixtures, shown.with_prompt, shown.cut) == (5, 1, 5)
    assert "4 more were recorded and left out" in shown.sentence
    assert f"5 completions are cut after {LONGEST} characters" in shown.sentence
    assert shown_fixtures(report.cells, cells, views, fixture_bytes(2000)).fixtures == 2
    assert fixture_bytes(2000) * 2000 == 4 * fixture_bytes(1)
    assert {(len(one["cells"][0]["completion"]), one["cells"][0]["more"]) for one in data["fixtures"]} == {(1000, 4000)}


def test_costs_are_medians_and_absent_where_nothing_was_measured():
    cells = [replace(seen, kv_bytes=2**20 * n, prune_s=n / 1000) for n, seen in enumerate(run_cell("111"), start=1)]
    report = report_of(*cells)
    table = cost_table(report.cells, cells)
    assert table is not None
    assert table.rows == (("tova/token/64", "2.00", "2.0", "4"),)
    assert shared_cost(cells) == (
        "One panel, all its cells together, median of 3 fixtures: prefill 100 ms, decoding 200 ms."
    )
    none = dict.fromkeys(("kv_bytes", "prune_s", "batch_rows", "panel_prefill_s", "panel_decode_s"))
    published = [replace(seen, **none) for seen in cells]
    assert (cost_table(report.cells, published), shared_cost(published)) == (None, "")


@pytest.mark.integration
def test_the_command_writes_the_page_and_figures_and_removes_only_its_own_old_ones(tmp_path, capsys):
    cells = run_cell("10", policy="full") + run_cell("01")
    writer = LedgerWriter(tmp_path / "e0", make_manifest)
    writer.append(cells)
    writer.close()
    views = ViewWriter(tmp_path / "e0")
    views.append(make_view(cells[2:3]))
    views.close()
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    for name in ("forest-units.svg", "matrix-niah.png", "mine.png"):
        (out / "figures" / name).write_text("")
    assert main([str(tmp_path / "e0"), "--out", str(out), "--html"]) == 0
    assert "report.html" in capsys.readouterr().out
    names = {
        f"{name}.{form}" for name in ("outcomes", "forest-vs_full", "losses", "positions") for form in ("png", "svg")
    }
    assert {path.name for path in (out / "figures").iterdir()} == names | {"mine.png"}
    (data,) = Parsed((out / "report.html").read_text()).data()
    assert data["fixtures"][0]["view"]["prompt"] == make_view(cells).prompt
    assert main([str(tmp_path / "e0"), "--out", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "report.html").exists()


def test_several_evaluations_share_a_page(tmp_path):
    other = [replace(seen, evaluation_id="e1", cell_id=f"{seen.cell_id}1", model="large") for seen in run_cell("1x")]
    cells = [*run_cell("10"), *other]
    paths = write_page(report_of(*cells), cells, tmp_path)
    parsed = Parsed(paths[0].read_text())
    assert parsed.texts("h1") == ["2 evaluations", "pocket, niah", "large, niah"]
    assert {path.name for path in paths[1:] if path.suffix == ".svg"} == {
        "1-outcomes.svg", "2-outcomes.svg", "matrix-niah.svg",
    }  # fmt: skip
    assert len(parsed.data()) == 2


def test_every_file_of_the_package_that_is_no_code_ships():
    """Oracle: the files themselves against the patterns of pyproject.toml."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["vorn"]
    shipped = {path for pattern in patterns for path in (ROOT / "vorn").glob(pattern) if path.is_file()}
    others = {path for path in (ROOT / "vorn").rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.name for path in others} >= {"report.html.j2", "report.css", "report.js"}
    assert others <= shipped
