"""What a ledger from elsewhere cannot do, and where no key may stand; docs/security.md names a test per threat."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from composing import ROOT, composed
from factories import make_contents, make_manifest, make_observation, resume_cell, run_cell
from rich.console import Console

from vorn import segments
from vorn.jsonl import encode
from vorn.ledger import LedgerContents, LedgerWriter, read_ledger
from vorn.records import Axes, BadInput
from vorn.report import build_report, write_page, write_report
from vorn.report.terminal import print_report

HOSTILE = "../../../x\x1b[2J\x07\ud800[bold red]`|<script>"


def hostile_ledger(folder: Path) -> Path:
    names = {"model": HOSTILE, "task": HOSTILE, "params": HOSTILE, "unit": HOSTILE, "budget": HOSTILE}
    seen = [
        replace(
            make_observation(fixture_index=index, policy=policy, outcome=float(index % 2) if index else None,
                             error=None if index else HOSTILE + "\nline"),
            fixture_id=HOSTILE + str(index),
            cell=HOSTILE + policy,
            **names,
        )
        for policy in ("full", "tova")
        for index in range(9)
    ]  # fmt: skip
    writer = LedgerWriter(folder, lambda: make_manifest(host=HOSTILE))
    writer.append(seen)
    writer.close()
    return folder


def test_a_report_stays_in_its_folder_whatever_the_ledger_says(tmp_path: Path) -> None:
    ledger, out = hostile_ledger(tmp_path / "a" / "b" / "ledger"), tmp_path / "a" / "b" / "out"
    before = set(tmp_path.rglob("*"))
    assert all(path.parent == ledger for path in before if path.is_file())
    paths = write_report(build_report(read_ledger(ledger)), out)
    assert set(tmp_path.rglob("*")) - before == {out, *paths}
    assert {path.parent for path in paths} == {out}


def test_what_a_ledger_says_cannot_command_the_terminal(tmp_path: Path) -> None:
    report = build_report(read_ledger(hostile_ledger(tmp_path / "ledger")))
    console = io.StringIO()
    print_report(report, Console(file=console, width=200))
    write_report(report, tmp_path / "out")
    for text in (console.getvalue(), (tmp_path / "out" / "report.md").read_text()):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
        assert r"\x1b" in text.replace("\\\\", "\\")
    assert "[bold red]" in console.getvalue()


def hostile_contents() -> LedgerContents:
    """Two sub-tasks on two axes and a workload of resumes, with names and ids that hold every kind of bad character."""
    places = [Axes(down=HOSTILE, down_at=at, across=HOSTILE + "2", across_at=1) for at in (0, 1)]
    panel = [
        replace(seen, cell=HOSTILE + seen.cell, cell_id=HOSTILE + seen.cell_id, fixture_id=HOSTILE + seen.fixture_id,
                model=HOSTILE, task=HOSTILE, evaluation_id=HOSTILE, grade=HOSTILE, subtask=HOSTILE + "ab"[index % 2],
                axes=places[index % 2], completion=HOSTILE)
        for policy, marks in (("full", "1111"), ("tova", "1001"), ("h2o", "0101"))
        for index, seen in enumerate(run_cell(marks, policy=policy))
    ]  # fmt: skip
    resumes = [
        replace(seen, cell_id=HOSTILE + seen.cell_id, contract=seen.contract and HOSTILE + number)
        for number in "89"
        for policy in ("full", "forecast", "clairvoyant")
        for seen in resume_cell(
            policy, {f"{HOSTILE}/i{n}": [1.0 + n, 2.0] for n in range(8)}, evaluation_id="e" + number, task=HOSTILE,
            budget="16", law=HOSTILE, outcome=0.5,
        )
    ]  # fmt: skip
    return make_contents(*panel, *resumes)


VERDICT = {"baseline": "forecast", "bound": "clairvoyant", "margin": 0.05, "seed": 0}


def test_every_figure_is_xml_and_every_text_printable_whatever_the_names(tmp_path: Path) -> None:
    """Oracle: the standard library's parser, and the ranges of control characters and halves of characters."""
    contents = hostile_contents()
    report = build_report(contents, verdict=VERDICT)
    write_report(report, tmp_path)
    write_page(report, contents.observations, tmp_path)
    figures = sorted(tmp_path.rglob("*.svg"))
    assert {"matrix", "outcomes", "grid", "grid-difference", "forest-subtasks"} <= {path.stem for path in figures}
    for path in figures:
        ElementTree.fromstring(path.read_bytes())
    for name in ("report.md", "matrix.md"):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", (tmp_path / name).read_text())
    html = (tmp_path / "report.html").read_text()
    data = [json.loads(one) for one in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.S)]
    panel = [fixture for one in data for fixture in one["fixtures"] if fixture["answers"]]  # resumes have none
    assert [len(fixture["cells"]) for fixture in panel] == [3] * 4  # cells are found by their ids
    with (tmp_path / "grid.csv").open(newline="") as file:
        assert {row["down"] for row in csv.DictReader(file)} == {HOSTILE.replace("\ud800", "\\ud800")}


def test_no_name_becomes_markup_of_a_text_file(tmp_path: Path) -> None:
    """Oracle: marks of Markdown that have no backslash before them; every row of a table has as many as its head."""
    write_report(build_report(hostile_contents(), verdict=VERDICT), tmp_path)
    for name in ("report.md", "matrix.md"):
        text = (tmp_path / name).read_text()
        assert "script>" in text
        assert not re.search(r"(?<!\\)(\\\\)*<script", text)
        rows = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in text.splitlines() if line.startswith("|")]
        rules = [index for index, line in enumerate(row for row in text.splitlines() if row.startswith("|"))
                 if line.startswith("|---")]  # fmt: skip
        for start, end in itertools.pairwise([*rules, len(rows) + 1]):
            assert len({*rows[start - 1 : end - 1]}) == 1


def test_a_line_longer_than_any_record_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode([make_manifest(), make_observation()])
    monkeypatch.setattr(segments, "MAX_LINE_BYTES", max(map(len, whole.splitlines(keepends=True))))
    (tmp_path / "a.jsonl").write_bytes(whole)
    assert len(read_ledger(tmp_path).observations) == 1
    (tmp_path / "a.jsonl").write_bytes(whole + b"[" * 10**6)
    with pytest.raises(BadInput, match=r"a\.jsonl, line 3: has more than \d+ bytes, which no record has"):
        read_ledger(tmp_path)


def test_a_line_that_nests_without_end_is_damaged_and_the_rest_is_read(tmp_path: Path) -> None:
    deep = b"[" * 10**6 + b"\n"
    (tmp_path / "a.jsonl").write_bytes(encode([make_manifest()]) + deep + encode([make_observation()]))
    contents = read_ledger(tmp_path)
    assert len(contents.observations) == 1
    assert [(line.line, line.is_tail) for line in contents.damaged] == [(2, False)]


def test_every_threat_names_tests_that_exist() -> None:
    """Oracle: the names of all test functions, read from the files."""
    table = (ROOT / "docs" / "security.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 9
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), row


def test_nothing_is_uploaded_unless_asked() -> None:
    assert composed().logger.mode == "offline"


def test_a_manifest_has_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from vorn.provenance import make_manifest as made

    for name in ("WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "0123456789abcdef" * 2 + "01234567")
    assert "0123456789abcdef" not in json.dumps(encode([made("e0", {"seed": 0}, dtype="", device="")]).decode())
