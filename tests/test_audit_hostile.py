"""What cannot be read is an error that names file and field; nothing is skipped silently, nothing breaks the audit."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import KINDS, cell, families, flat, legacy, row
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from vorn.audit import source
from vorn.audit.__main__ import main
from vorn.audit.build import audit
from vorn.audit.summary import summary
from vorn.audit.terminal import print_audit


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What the audit of a file with this content, and of a good one beside it, says."""
    (folder / "bad.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "good.json").write_text(json.dumps(flat()))
    found = audit([folder])
    assert "good.json" in found.names.values()
    assert all(one.startswith(f"{folder.resolve() / 'bad.json'}: ") for one in found.problems)
    assert all("\n" not in one and len(one) < 500 for one in found.problems)
    return [one.split(": ", 1)[1] for one in found.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value at line 1, column 1; the file may be cut off"),
        (json.dumps(flat())[:-40], "is not JSON: .*; the file may be cut off"),
        (b'{"rows": "\xff"}', "is not UTF-8 at byte 10"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, r"a\.a\.a.*nested more than 50 deep"),
        ("9" * 5000, "holds a number that cannot be read"),
        ("3", "has no structure that is known: no run, test, family or failure in it"),
        ("[]", "has no structure that is known"),
        ('{"notes": {"a": 1}}', r"has no structure that is known.*\(notes\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, text, message):
    (found,) = problems(tmp_path, text)
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("sample", "old", "new", "message"),
    [
        (flat, '"hits": 3', '"hits": true', "rows[0].hits=True; legal is an integer from 0 to 100000"),
        (flat, '"hits": 3', '"hits": "3"', "rows[0].hits='3'; legal is an integer"),
        (flat, '"hits": 3', '"hits": -3', "rows[0].hits=-3; legal is an integer"),
        (flat, '"hits": 3', '"hits": 3.0', "rows[0].hits=3.0; legal is an integer"),
        (flat, '"hits": 3', '"hits": 5', "rows[0].hits=5; legal is at most the 4 fixtures"),
        (flat, '"hits": 3', '"hits": 3, "hits": 3', "rows[0].hits=3; legal is a key that stands once"),
        (flat, '"cases": 4', '"cases": 100001', "rows[0].cases=100001; legal is an integer from 0 to 100000"),
        (flat, '"hit_rate": 0.75', '"hit_rate": 1.5', "rows[0].hit_rate=1.5; legal is a number from 0 to 1"),
        (flat, '"hit_rate": 0.75', '"hit_rate": NaN', "rows[0].hit_rate=nan; legal is a number"),
        (flat, '"elapsed_seconds": 36.001', '"elapsed_seconds": Infinity', "rows[0].elapsed_seconds=inf; legal"),
        (flat, '"elapsed_seconds": 36.001', '"elapsed_seconds": 1e999', "rows[0].elapsed_seconds=inf; legal"),
        (flat, '"random_seed": 17', '"random_seed": -Infinity', "run_conditions.random_seed=-inf; legal is a finite"),
        (flat, '"random_seed": 17', '"b c": NaN', "run_conditions['b c']=nan; legal is a finite"),
        (flat, '"estimated_cost_usd": 0.25', '"estimated_cost_usd": -1', "rows[0].estimated_cost_usd=-1; legal"),
        (flat, '"estimated_cost_usd": 0.25', '"estimated_cost_usd": "1"', "rows[0].estimated_cost_usd='1'; legal"),
        (flat, '"label": "a"', '"label": 7', "rows[0].label=7; legal is a string"),
        (flat, '"correct": true', '"correct": 1', "rows[0].observations[0].correct=1; legal is true or false"),
        (flat, '"prediction": "4713"', '"prediction": null', "rows[0].observations[2].prediction=None; legal is a str"),
        (flat, '"fixture_id": "niah_multikey_1_4k-1"', '"x": 1', "rows[0].observations[1].fixture_id=None; legal is"),
        (flat, '"correct": true', '"correct": true, "correct": true', "rows[0].observations[0]={'fixture_id'"),
        (flat, '"p_value": 0.25', '"p_value": 1.01', "pairwise_tests[0].p_value=1.01; legal is a number from 0 to 1"),
        (flat, '"p_value": 0.25', '"p_value": null', "pairwise_tests[0].p_value=None; legal is a number"),
        (flat, "[[0, 3], [0, 1]]", "[[0, 3]]", "pairwise_tests[0].table=[[0, 3]]; legal is [[a, b], [c, d]]"),
        (flat, "[[0, 3], [0, 1]]", "[[0, 3], [0, -1]]", "pairwise_tests[0].table[1][1]=-1; legal is an integer"),
        (flat, '"paired": true', '"paired": "yes"', "pairwise_tests[0].paired='yes'; legal is true or false"),
        (flat, "[0.30063", "[0.99, 0.30063", "rows[0].wilson_ci_95=[0.99, 0.3006"),
        (flat, "[0.3006360524426366, 0.95", "[0.99, 0.95", "rows[0].wilson_ci_95=[0.99, 0.95"),
        (lambda: [cell("11")], '"metrics": {', '"metrics": {"other": 1, ', "[0].result.metrics={'other': 1"),
        (lambda: [cell("11")], '"metadata": {', '"metadata": [], "m": {', "[0].result.metadata=[]; legal is an object"),
        (families, '"lhs": "x"', '"lhs": 4', "comparisons[0].comparison.lhs=4; legal is a string"),
        (families, '"delta_hit_rate": 0.7', '"delta_hit_rate": 7', "comparisons[0].delta_hit_rate=7; legal"),
        (legacy, '"hit_count": 0', '"hit_count": 9', "analysis.requested_comparisons[0].rhs={"),
        (lambda: {"rows": [{"a": 1}, row("b", "1110")]}, "}", "}", "rows[0]: holds no outcome of a run that is known"),
        (
            lambda: {"rows": [row("b", "1110") | {"observations": 5}]},
            "}",
            "}",
            "rows[0].observations=5; legal is a list",
        ),
    ],
)
def test_a_field_that_cannot_be_is_named_and_the_rest_is_audited(tmp_path, sample, old, new, message):
    text = json.dumps(sample())
    assert old in text
    found = problems(tmp_path, text.replace(old, new, 1))
    assert found
    assert found[0].startswith(message), found


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_BYTES", 10)
    (tmp_path / "a.json").write_text(json.dumps(flat()))
    assert "legal are at most 10; split the file" in audit([tmp_path]).problems[0]


def test_paths_that_lead_nowhere_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # so that no message is broken within a word, however long the paths
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.json").write_text(json.dumps(flat()))
    paths = [tmp_path / "missing.json", tmp_path / "empty", Path("/dev/null"), tmp_path / "good.json"]
    assert main([*map(str, paths)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    for message in ("missing.json: is not there", "empty: holds neither artifacts", "/dev/null: is no file"):
        assert message in text
    assert "3 not read" in text


def test_what_a_file_says_cannot_command_the_terminal(tmp_path):
    value = flat()
    value["rows"][0]["label"] = "\x1b[2J\ud800[bold]"
    value["rows"][0]["hits"] = 1
    (tmp_path / "a.json").write_text(json.dumps(value))
    out = io.StringIO()
    print_audit(audit([tmp_path]), Console(file=out, width=80), rows=True)
    assert "\x1b" not in out.getvalue()
    assert "[bold]" in out.getvalue()
    out.getvalue().encode()


WORDS = sorted({key for kind in KINDS.values() for key in json.dumps(kind[0]).split('"')[1::2] if len(key) < 40})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=12,
)
QUIET = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def run_audit(folder: Path, value: Any) -> None:
    """Audit a value in every form of output; whatever it is, the audit ends with a verdict on it."""
    (folder / "a.json").write_text(json.dumps(value))
    found = audit([folder])
    print_audit(found, Console(file=io.StringIO(), width=80), rows=True)
    json.dumps(summary(found), allow_nan=False)
    assert found.files or found.problems


@QUIET
@given(value=VALUES)
@example(value={"rows": [{"p_value": 1, "lhs": {}}]})
@example(value={"hit_rate": 10**400, "method": "m"})
def test_any_json_is_audited_or_named(tmp_path, value):
    run_audit(tmp_path, value)


@QUIET
@given(kind=st.sampled_from(sorted(KINDS)), place=st.integers(0, 200), value=VALUES)
def test_any_damage_to_an_artifact_is_audited_or_named(tmp_path, kind, place, value):
    damaged = copy.deepcopy(KINDS[kind][0])
    places = list(nodes(damaged))
    holder, key = places[place % len(places)]
    holder[key] = value
    run_audit(tmp_path, damaged)


def nodes(value: Any) -> Any:
    """Every (container, key) below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from nodes(item)
