"""`python -m vorn.audit`: its exit codes, what it prints at 80 columns, its JSON, and that it needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from artifact_samples import KINDS, flat, row

from vorn.audit.__main__ import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    for index, (value, *_) in enumerate(KINDS.values()):
        (tmp_path / "results" / f"{index:02}-a-name-that-is-long-as-those-of-released-artifacts.json").write_text(
            json.dumps(value)
        )
    return tmp_path / "results"


def test_the_summary_fits_80_columns_and_says_what_agrees(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([str(folder)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "McNemar p observations 3 3" in words
    assert "1 failed runs, no row" in words
    assert "0 disagreements, 0 not read" in words
    assert "rows[0]" not in words.split("one run in several places")[0]
    assert main([str(folder), "--rows"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "rows[0] a 4 3 0.75 both yes" in words
    assert "pairwise_tests[0] a against b McNemar 0.25 0.25" in words


def test_disagreements_and_unread_files_have_exit_codes_of_their_own(folder, capsys):
    (folder / "wrong.json").write_text(json.dumps({"rows": [row("a", "1110", hits=2)]}))
    assert main([str(folder)]) == 5
    assert "wrong.json: rows[0] (a): hits is 2, the observations give 3" in " ".join(capsys.readouterr().out.split())
    (folder / "cut.json").write_text("{")
    assert main([str(folder)]) == 1
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_files_of_one_name_are_told_apart_and_one_file_is_audited_once(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text(json.dumps(flat()))
    main([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "b" / "x.json"), "--json", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out").read_text())
    assert [file["path"] for file in written["files"]] == [str(tmp_path.resolve() / n / "x.json") for n in "ab"]
    text = "".join(capsys.readouterr().out.split())
    assert f"{tmp_path.resolve() / 'a' / 'x.json'}rows[0]" in text


def test_the_json_holds_everything_for_machines(folder, tmp_path):
    (folder / "wrong.json").write_text(json.dumps({"rows": [row("a", "1110", hits=2)]}))
    out = tmp_path / "audit.json"
    assert main([str(folder), "--json", str(out)]) == 5
    written = json.loads(out.read_text())
    assert written["disagreements"] == ["wrong.json: rows[0] (a): hits is 2, the observations give 3"]
    wrong = written["files"][-1]
    assert [check for check in wrong["checks"] if not check["agrees"]] == [
        {
            "where": "rows[0]",
            "name": "a",
            "what": "hits",
            "basis": "observations",
            "published": "2",
            "recomputed": "3",
            "agrees": False,
            "is_exact": False,
        }
    ]
    assert wrong["rows"][0]["n_observations"] == 4
    assert wrong["rows"][0]["graded"]["rules"] == ["vorn_mat_v1@1", "vorn_mat_v2@1"]
    assert main([str(folder), "--json", str(folder)]) == 4


@pytest.mark.integration
def test_the_command_needs_neither_torch_nor_scipy(folder):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('vorn.audit', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'transformers', 'lightning', 'hydra', 'wandb', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "McNemar p" in done.stdout
