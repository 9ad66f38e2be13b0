"""Resumes in a report. Oracle: loops over the JSON lines of the ledger and the standard library's HTML parser."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from factories import make_config, make_contents, make_manifest, resume_cell, run_cell

from vorn.ledger import LedgerWriter, read_ledger
from vorn.records import Observation
from vorn.regrade import regrade
from vorn.report import build_report
from vorn.report.__main__ import main
from vorn.report.page import build_page
from vorn.report.resumes.figures import draw
from vorn.report.resumes.notes import resume_notes
from vorn.report.resumes.summaries import out_of_reach, verdicts
from vorn.report.resumes.tables import resume_tables
from vorn.report.watch import Watch
from vorn.snapshots.matrix import Judgement, build_matrix
from vorn.snapshots.parts import parts
from vorn.snapshots.sensitivity import main as sensitivity_main

VERDICT = {"baseline": "forecast", "bound": "clairvoyant", "margin": 0.05, "seed": 0}
HOW = Judgement(**VERDICT, alpha=0.05)
FACTORS = {"full": 0.25, "forecast": 1.0, "good": 0.5, "bad": 1.5, "same": 1.0, "clairvoyant": 0.3}
KV_WORDS = re.compile(r"\bhits\b|\bkept\b|evidence|\bbudgets?\b|hit rate|\bloss", re.IGNORECASE)


class Tables(HTMLParser):
    """Tables by the title of what holds them, as lists of texts; ids, targets, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self._title, self._inside, self._silent = "", False, 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.targets |= {(given.get("href") or "")[1:]} if tag == "a" else set()
        self._silent += tag in ("script", "style")
        self._title = given.get("data-title") or self._title
        if tag == "table" and self._title:
            self.tables[self._title] = []
        if tag == "tr" and self._title in self.tables:
            self.tables[self._title].append([])
        if tag in ("td", "th") and self.tables.get(self._title):
            self.tables[self._title][-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")
        self._inside = self._inside and tag not in ("td", "th")
        self._title = "" if tag == "table" else self._title

    def handle_data(self, data: str) -> None:
        self.seen += [] if self._silent else [data]
        if self._inside:
            self.tables[self._title][-1][-1] += data


def campaign(evaluation: str, workload: str, pool: str, scale: float, contract: str = "grid=8, swap") -> list[Any]:
    """Every policy on eight instances of three resumes, each time its factor of the baseline's."""
    cells: list[Observation] = []
    for number, (policy, factor) in enumerate(FACTORS.items()):
        times = {f"{workload}/i{n}": [scale * factor * (1 + n + m / 2) for m in range(3)] for n in range(8)}
        cells += resume_cell(
            policy, times, evaluation_id=evaluation, task=workload, budget=pool, replay=10 * number, law="Affine(1)",
            contract="" if policy == "full" else contract, evictions=0 if policy == "full" else 2,
            fired={"good": 1, "same": 0}.get(policy), outcome=0.5,
        )  # fmt: skip
    return cells


def write(folder: Path, cells: list[Observation], alpha: float = 0.05, **settings: Any) -> None:
    config = make_config(families=["vs_full"], alpha=alpha) | {"verdict": VERDICT} | settings
    for name in dict.fromkeys(one.evaluation_id for one in cells):
        made = make_manifest(evaluation_id=name, config=config)
        writer = LedgerWriter(folder / name, lambda made=made: made)  # type: ignore[misc]
        writer.append([one for one in cells if one.evaluation_id == name])
        writer.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    """The observations as they stand on disk."""
    found = [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    return [one for one in found if one["kind"] == "observation"]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_page_begins_with_the_matrix_and_holds_the_ledger_s_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "led", [*campaign("e0", "deep", "16", 1.0), *campaign("e1", "wide", "8", 3.0)])
    assert main([str(tmp_path / "led"), "--html", "--out", str(tmp_path / "out")]) == 0
    page = Tables((tmp_path / "out" / "report.html").read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    sums: dict[tuple[str, str], list[tuple[int, ...]]] = defaultdict(list)
    for one in lines(tmp_path / "led"):
        key, resume = (one["task"], one["policy"]), one["resume"]
        times[key].append(resume["ttft_s"])
        sums[key].append((resume["replay_tokens"], resume["anchor_tokens"], one["prompt_tokens"], resume["evictions"],
                          resume["protection_fired"] or 0, resume["kv_without_state"]))  # fmt: skip
    assert next(iter(page.tables)) == "matrix"
    head, *rows = page.tables["matrix"]
    assert head == ["policy", "deep, 16 slots", "wide, 8 slots"]
    words = {
        "forecast": "baseline",
        "good": "+ better",
        "bad": "- harm",
        "same": "= no harm",
        "clairvoyant": "+ better",
    }
    assert [row[0] for row in rows] == list(FACTORS)
    for policy, *entries in rows:
        for workload, entry in zip(("deep", "wide"), entries, strict=True):
            own, base, full, bound = (
                mean(times[workload, name]) for name in (policy, "forecast", "full", "clairvoyant")
            )
            beside = [f"{own:.2f} s", f"{own / full:.2f} x full", f"{own / bound:.2f} x clairvoyant"]
            beside = beside[:2] if policy == "clairvoyant" else beside
            expected = f"{own:.2f} s" if policy == "full" else f"{own / base:.2f} {words[policy]} {', '.join(beside)}"
            assert entry == expected
    names, *cells = page.tables["Cells"]
    assert len(cells) == 2 * len(FACTORS)
    for row in (dict(zip(names, cell, strict=True)) for cell in cells):
        key = (row["workload"], row["cell"].partition("/")[0])
        replay, _, _, evictions, fired, lost = (sum(column) for column in zip(*sums[key], strict=True))
        assert (row["resumes"], row["evictions"], row["KV without state"]) == ("24", str(evictions), str(lost))
        assert row["replay tokens"] == f"{replay / 24:.0f}"
        assert row["token hit"] == f"{mean([anchor / prompt for _, anchor, prompt, *_ in sums[key]]):.1%}"
        assert row["fired"] == (str(fired) if key[1] in ("good", "same") else "")
        assert row["mean s"] == f"{mean(times[key]):.3g}"
    said = capsys.readouterr().out
    assert "same/16 on deep, same/8 on wide" in " ".join(said.split())
    for text in (" ".join(page.seen), (tmp_path / "out" / "report.md").read_text(), said):
        assert KV_WORDS.search(text.replace(str(tmp_path), "")) is None
    assert len(page.ids) == len(set(page.ids))
    assert page.targets <= set(page.ids)
    assert not (tmp_path / "out" / "outcomes.png").exists()
    pictures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert pictures == {f"resumes-{name}.{form}" for name in ("matrix", "differences") for form in ("svg", "png")}


def test_a_figure_says_verdicts_in_words_and_ratios_on_a_logarithmic_scale(tmp_path: Path) -> None:
    cells = [*campaign("e0", "deep", "16", 1.0)]
    contents = make_contents(*cells)
    page = build_page(build_report(contents, verdict=VERDICT), cells)
    (heat,) = (one for one in page.drawings if one.name == "resumes-matrix")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", heat.files["svg"].decode())
    assert {"0.50 + better", "1.50 - harm", "1.00 = no harm", "1.00 baseline", "0.30 + better"} <= set(texts)
    ticks = [text for text in texts if text in ("0.125", "0.25", "0.5", "1", "2", "4", "8")]
    assert len(ticks) == 7


def test_a_figure_of_many_settings_stops_where_the_page_does_and_says_so() -> None:
    """By hand: 13 settings of one workload, of which both draw 12."""
    seen = [one for one in campaign("e0", "deep", "16", 1.0) if one.policy in ("forecast", "good")][::12]
    cells = [
        replace(one, evaluation_id=f"e{n}", cell_id=f"{one.cell_id}{n}", contract=f"grid={2**n}, swap")
        for n in range(13)
        for one in seen
    ]
    for most, sentences in ((cells, 1), (cells[: -len(seen)], 0)):
        matrix = build_matrix(most, HOW)
        text = draw(matrix)["svg"].decode()
        assert len(re.findall(r">grid=\d+, swap<", text)) == 12
        assert text.count("The last 1 of 13 settings have no figures.") == sentences


def test_both_domains_on_one_page_keep_their_tables(tmp_path: Path) -> None:
    cells = [*run_cell("11", policy="full"), *run_cell("10"), *campaign("e9", "deep", "16", 1.0)]
    write(tmp_path / "led", cells)
    (tmp_path / "out").mkdir()
    assert main([str(tmp_path / "led"), "--html", "--quiet", "--out", str(tmp_path / "out")]) == 0
    page = Tables((tmp_path / "out" / "report.html").read_text())
    assert list(page.tables)[:2] == ["matrix", "Cells"]
    assert {"outcome against budget", "evidence kept"} & {text.lower() for text in page.tables["Cells"][0]}
    assert len(page.ids) == len(set(page.ids))
    assert page.targets <= set(page.ids)
    for name in ("outcomes.png", "matrix.png", "matrix.md", "matrix.csv"):
        assert (tmp_path / "out" / name).stat().st_size
    assert main([str(tmp_path / "led" / "e0"), "--quiet", "--out", str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").glob("matrix.*"))  # of the earlier report
    with (tmp_path / "out" / "cells.csv").open() as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"niah"}


def test_each_setting_has_its_own_reference_and_pools_are_kept_apart() -> None:
    """Worked out by hand: the reference of a setting is a quarter of its own baseline, whatever stands elsewhere."""
    fine, coarse = campaign("e0", "deep", "16", 1.0, "grid=8, swap"), campaign("e1", "deep", "16", 9.0, "grid=64, swap")
    hidden = campaign("e2", "deep", "16", 5.0, "grid=64, swap")
    small = [one for one in campaign("e0", "deep", "4", 2.0, "grid=8, swap") if one.policy != "full"]
    base = mean([1 + n + m / 2 for n in range(8) for m in range(3)])
    found = {part.title: part for part in parts(build_matrix([*fine, *small, *coarse, *hidden], HOW))}
    assert list(found) == [
        "16 slots, grid=8, swap", "4 slots, grid=8, swap", "grid=64, swap, evaluation e1",
        "grid=64, swap, evaluation e2",
    ]  # fmt: skip
    for part, (reference, baseline) in zip(found.values(), ((1, 1), (1, 2), (9, 9), (5, 5)), strict=True):
        assert part.policies == list(FACTORS)
        full, forecast = part.row("full", "deep"), part.row("forecast", "deep")
        assert full is not None and forecast is not None  # noqa: PT018
        assert full.ttft_s == pytest.approx(reference * base / 4)
        assert forecast.ttft_s == pytest.approx(baseline * base)
        assert forecast.over_unlimited == pytest.approx(4 * baseline / reference)
    other = [replace(one, evaluation_id="e3", resume=one.resume and replace(one.resume, ttft_law="Flops(2)"))
             for one in fine]  # fmt: skip
    titles = [part.title for part in parts(build_matrix([*fine, *other], HOW))]
    assert titles == ["Affine", "Flops"]
    again = [replace(one, resume=one.resume and replace(one.resume, ttft_law="Affine(2)")) for one in other]
    assert [part.title for part in parts(build_matrix([*fine, *again], HOW))] == ["Affine(1)", "Affine(2)"]
    assert build_report(make_contents(*fine, *small), verdict=VERDICT).budgets == []
    report = build_report(make_contents(*fine, *coarse), verdict=VERDICT)
    assert report.matrix is not None
    shares = next(table for table in resume_tables(report.matrix, report.resumes) if "Share" in table.title)
    assert ("deep", "good", "2", "2", "0", "0.50", "0.50", "0.50") in shares.rows
    assert ("deep", "bad", "2", "0", "2", "1.50", "1.50", "1.50") in shares.rows


def test_settings_that_the_recorded_text_does_not_tell_apart_never_share_a_matrix(tmp_path: Path) -> None:
    """Two placements of older ledgers, with the same text: by hash, the first of "deep" and of "wide" differ."""
    scales = {
        "e0": ("deep", 1.0, False),
        "e1": ("deep", 9.0, True),
        "e2": ("wide", 9.0, True),
        "e3": ("wide", 1.0, False),
    }
    cells = [one for name, (task, scale, _) in scales.items() for one in campaign(name, task, "16", scale)]
    for name, (_, _, anew) in scales.items():
        placement = {"grid": 8, "block": 16, "match_generated": False, "rendered_anew": anew}
        write(tmp_path / "led", [one for one in cells if one.evaluation_id == name], placement=placement)
    assert main([str(tmp_path / "led"), "--quiet", "--html", "--out", str(tmp_path / "out")]) == 0
    report = build_report(read_ledger(*(tmp_path / "led").iterdir()))
    assert report.matrix is not None
    found = parts(report.matrix)
    assert [part.title for part in found] == ["grid=8, swap", "grid=8+rendered_anew, swap"]
    for part, names in zip(found, ({"e0", "e3"}, {"e1", "e2"}), strict=True):
        assert {row.evaluation_id for row in part.matrix.rows} == names
        assert part.workloads == ["deep", "wide"]
    page = Tables((tmp_path / "out" / "report.html").read_text())
    head, *rows = page.tables["Cells"]
    assert head[:3] == ["workload", "cell", "setting"]
    assert len({tuple(row[:3]) for row in rows}) == len(rows) == 4 * len(FACTORS)
    unknown = build_matrix(cells, HOW)  # without manifests no text tells them: none is mixed with another
    assert [{row.evaluation_id for row in part.matrix.rows} for part in parts(unknown)] == [{one} for one in scales]
    table = next(one for one in resume_tables(unknown, ()) if one.title == "Cells")
    assert {row[2] for row in table.rows} == {f"grid=8, swap, evaluation {one}" for one in scales}


def test_too_few_instances_are_said_to_show_nothing() -> None:
    """Five policies: Holm's first step takes 5 * 2 / 2^n at least, which 7 instances miss and 8 reach."""
    cells = campaign("e0", "deep", "16", 1.0)
    names = sorted({one.cluster for one in cells})
    for n, claimed in ((7, False), (8, True)):
        (part,) = parts(build_matrix([one for one in cells if one.cluster in names[:n]], HOW))
        (summary,) = verdicts(part)
        assert [text[:6] for text in out_of_reach(part)] == ([] if claimed else ["deep: "])
        assert any("cannot show" in text and "workload.seeds=8" in text for text in summary.claims) is not claimed
        assert ("2 better" in summary.headline) is claimed


def test_a_token_hit_is_the_same_mean_in_cells_tests_and_running_rates(tmp_path: Path) -> None:
    """By hand: 40 of 50 and 20 of 200 are 80 % and 10 %, 45 % on average, and 60 of 250 pooled: 24 %."""
    cells = []
    for one in campaign("e0", "deep", "16", 1.0):
        anchor, prompt = (40, 50) if len(cells) % 2 else (20, 200)
        anchor = prompt if one.policy == "full" else anchor
        resume = one.resume and replace(one.resume, anchor_tokens=anchor)
        cells.append(replace(one, prompt_tokens=prompt, resume=resume, outcome=anchor / prompt))
    write(tmp_path / "deep", cells)
    assert main([str(tmp_path / "deep"), "--quiet", "--html", "--out", str(tmp_path / "out")]) == 0
    page = Tables((tmp_path / "out" / "report.html").read_text())
    head, *rows = page.tables["Cells"]
    assert {row[1]: row[head.index("token hit")] for row in rows if row[1] in ("full", "good/16")} == {
        "full": "100.0%", "good/16": "45.0%"
    }  # fmt: skip
    head, *rows = page.tables["Token hit against full"]
    assert {row[head.index("points")] for row in rows} == {"-55"}
    with (tmp_path / "out" / "matrix.csv").open() as file:
        (good,) = (row for row in csv.DictReader(file) if row["policy"] == "good")
    assert float(good["token_hit"]) == pytest.approx(0.45)
    assert float(good["pooled_token_hit"]) == pytest.approx(0.24)
    state = Watch([tmp_path / "deep"])
    state.update()
    assert "full 100% forecast 45% good 45%" in state.lines()[0]


def test_each_evaluation_is_judged_at_its_own_alpha(tmp_path: Path) -> None:
    """Eight instances, five policies: no p(Holm) is below 5 * 2 / 2^8 = 0.039, which 0.01 misses and 0.2 reaches."""
    for first, second in ((0.01, 0.2), (0.2, 0.01)):
        ledgers, out = tmp_path / f"led{first}", tmp_path / f"out{first}"
        write(ledgers, campaign("e0", "deep", "16", 1.0), alpha=first)
        write(ledgers, campaign("e1", "wide", "16", 3.0), alpha=second)
        assert main([str(ledgers), "--quiet", "--html", "--out", str(out)]) == 0
        with (out / "matrix.csv").open() as file:
            rows = list(csv.DictReader(file))
        for workload, alpha in (("deep", first), ("wide", second)):
            own = {row["policy"]: row for row in rows if row["workload"] == workload}
            assert {row["alpha"] for row in own.values()} == {str(alpha)}
            assert own["good"]["verdict"] == ("better" if alpha == 0.2 else "not shown")
            assert own["bad"]["verdict"] == ("harm" if alpha == 0.2 else "not shown")
        page = Tables((out / "report.html").read_text())
        seen = " ".join(page.seen)
        assert f"(deep {100 * first:.0f} %, wide {100 * second:.0f} %)" in seen
        head, *tests = page.tables["Time to the first token against forecast"]
        levels = {row[0]: row[head.index("interval")].partition(":")[0] for row in tests}
        assert levels == {"deep": f"{100 - 100 * first:.0f} %", "wide": f"{100 - 100 * second:.0f} %"}
        head, *hits = page.tables["Token hit against full"]
        assert {row[0]: row[head.index("interval")].partition(":")[0] for row in hits} == levels
    write(tmp_path / "one", [*campaign("e0", "deep", "16", 1.0), *campaign("e1", "wide", "16", 3.0)])
    report = build_report(read_ledger(*(tmp_path / "one").iterdir()))
    assert report.matrix is not None
    assert not [line for line in resume_notes(report.matrix, report.resumes) if "alpha" in line]


def test_a_note_that_counts_says_that_it_counts_each_evaluation() -> None:
    """By hand: five cells against full in each of three evaluations are fifteen comparisons, and in one of two five."""
    cells = [one for name in ("deep", "wide", "long") for one in campaign(f"e-{name}", name, "16", 1.0)]
    tested = "fixtures share clusters: 5 comparisons by sign-flip test, on mean outcomes"

    def said(*seen: Observation) -> list[str]:
        config = make_config(families=["vs_full"])
        manifests = [make_manifest(evaluation_id=name, config=config) for name in {one.evaluation_id for one in seen}]
        report = build_report(make_contents(*seen, manifests=tuple(manifests)), verdict=VERDICT)
        assert report.matrix is not None
        return [line for line in resume_notes(report.matrix, report.resumes) if "sign-flip" in line]

    assert said(*cells[:144]) == [tested]
    assert said(*cells) == [f"each of 3 evaluations: {tested}"]
    lesser = [one for one in cells if (one.task, one.policy) != ("long", "bad")]
    assert said(*lesser)[0] == f"deep, wide, each of 2 evaluations: {tested}"
    assert said(*lesser)[1] == f"long: {tested.replace('5', '4')}"


def test_the_command_on_settings_judges_as_the_report_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: sensitivity.csv. Recorded are another baseline, a margin of 60 % and an alpha that 8 instances miss."""
    recorded = {"baseline": "same", "bound": None, "margin": 0.6, "seed": 3}
    for name, grid, alpha in (("e0", 8, 0.01), ("e1", 64, 0.2)):
        cells = campaign(name, "deep", "16", 1.0, f"grid={grid}, swap")
        write(tmp_path / "led", cells, alpha=alpha, verdict=recorded)
    assert main([str(tmp_path / "led"), "--quiet", "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "sensitivity.csv").open() as file:
        rows = list(csv.DictReader(file))
    want = {row["policy"]: (row["better"], row["harm"], f"{float(row['most']):.2f}") for row in rows}
    assert want["good"] == ("1", "0", "0.50")
    assert want["bad"] == ("0", "0", "1.50")

    def said(*arguments: str) -> dict[str, tuple[str, ...]]:
        capsys.readouterr()
        assert sensitivity_main([str(tmp_path / "led"), *arguments]) == 0
        lines = re.findall(r"deep +(\w+) +better +(\d+)/2 +harm +(\d+)/2 .* ([\d.]+)\n", capsys.readouterr().out)
        return {name: tuple(found) for name, *found in lines}

    assert said() == want
    assert said("--alpha", "0.2")["good"][0] == "2"
    assert said("--alpha", "0.2", "--margin", "0.05")["bad"][1] == "2"
    assert "forecast" not in said("--baseline", "forecast")
    write(tmp_path / "none", run_cell("10"))
    assert sensitivity_main([str(tmp_path / "none")]) == 1
    assert "holds 0 resumes" in capsys.readouterr().err


def test_what_failed_is_named(tmp_path: Path) -> None:
    cells = campaign("e0", "deep", "16", 1.0)
    broken = [
        replace(one, outcome=None, error="off by 3e-5", resume=None) if one.policy == "good" else one for one in cells
    ]
    broken[-1] = replace(broken[-1], outcome=None, error="off by 4e-5")
    for place, one in enumerate(broken):  # the largest is in the resume that failed, and does not count
        off = place * 1e-7 if one.policy == "clairvoyant" else None
        if one.resume:
            broken[place] = replace(one, resume=replace(one.resume, logit_difference=off, ttft_law="measured"))
    assert regrade(make_contents(*broken), "ruler_all@1").contents.observations == tuple(broken)  # nothing to grade
    report = build_report(make_contents(*broken), verdict=VERDICT)
    page = Tables(build_page(report, broken).html)
    seen = " ".join(page.seen)
    assert "resumes with errors, left out: good/16 on deep (24), clairvoyant/16 on deep (1)" in seen
    assert "off by 4e-5" in seen
    assert ["good", "errors"] in page.tables["matrix"]
    rows = {row[1]: row for row in page.tables["Cells"]}
    assert (rows["good/16"][2:5], rows["clairvoyant/16"][2:4]) == (["0", "24", ""], ["23", "1"])
    assert (rows["good/16"][-1], rows["clairvoyant/16"][-1]) == ("", f"{(len(broken) - 2) * 1e-7:.1e}")
    assert "times were measured" in seen
