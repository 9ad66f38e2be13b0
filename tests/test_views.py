"""Views: files cut anywhere, merging, and what runs record against the ledger and the rule of a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.views import RecordViews
from tests.composing import composed
from vorn.data import WorkItem
from vorn.kv.retention import Kept
from vorn.ledger import read_ledger
from vorn.models.prompts import Prompt
from vorn.panel import plan_panel
from vorn.records import BadInput, Fixture
from vorn.views import View, ViewWriter, encode, read_views

Evaluate = Callable[..., int]


def make_view(**changes: Any) -> View:
    fields: dict[str, Any] = {
        "evaluation_id": "e0",
        "fixture_id": "f0",
        "fingerprint": "print",
        "prompt": "Ähm, </script> key 7. Which?",
        "token_ends": (0, 4, 14, 14, 20, 28),
        "evidence": (4,),
        "question_start_token": 5,
        "kept": {"c0": bytes([255, 0, 128, 1, 254, 255])},
    }
    return View(**fields | changes)


def write(folder: Path, *views: View) -> Path:
    writer = ViewWriter(folder)
    for view in views:
        writer.append(view)
    writer.close()
    return max(folder.glob("*.views"))


def test_a_view_is_read_as_it_was_written(tmp_path: Path) -> None:
    views = (make_view(), make_view(fixture_id="f1", kept={}, evidence=(), token_ends=(3,), question_start_token=1))
    path = write(tmp_path, *views)
    assert read_views([tmp_path]) == views
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 2


def test_cells_of_a_fixture_come_together_and_the_first_of_a_cell_counts(tmp_path: Path) -> None:
    ones, twos = bytes([1] * 6), bytes([2] * 6)
    write(tmp_path / "a", make_view(kept={"c0": ones}))
    write(tmp_path / "a", make_view(kept={"c0": twos, "c1": twos}))
    write(tmp_path / "b", make_view(evaluation_id="e1"))
    views = read_views([tmp_path / "a", tmp_path / "b", tmp_path / "missing"])
    assert [view.evaluation_id for view in views] == ["e0", "e1"]
    assert views[0].kept == {"c0": ones, "c1": twos}


def test_a_file_cut_at_any_byte_of_its_last_line_keeps_the_others(tmp_path: Path) -> None:
    whole = encode(make_view())
    path = write(tmp_path, make_view())
    for cut in range(len(whole) - 1):
        path.write_bytes(whole + encode(make_view(fixture_id="f1"))[:cut])
        assert [view.fixture_id for view in read_views([tmp_path])] == ["f0"]
    path.write_bytes(whole + encode(make_view(fixture_id="f1"))[:-1])
    assert len(read_views([tmp_path])) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"view"', b'"vie"'),
        (b'"evidence": [4]', b'"evidence": [7]'),
        (b'"fixture_id"', b'"fixture"'),
        (b'"kind"', b'"kynd"'),
        (b'"kept": {"c0": "', b'"kept": {"c0": "AAAA'),
        (b"{", b""),
    ],
)
def test_a_line_that_is_no_view_is_named(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(tmp_path, make_view(), make_view())
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(old, new, 1))
    with pytest.raises(BadInput, match=rf"{path}, line 2: no view \(.*delete the file: the ledger stays whole"):
        read_views([tmp_path])


def test_a_cell_has_a_value_per_token() -> None:
    with pytest.raises(ValueError, match=r"kept\['c'\] has 2 values: legal is one per token, 6"):
        replace(make_view(), kept={"c": b"\x00\x01"})


def test_shares_count_layers_and_heads() -> None:
    """Oracle: one head after another; layers with one row stand for all heads."""
    rows = [[[0, 2, 5], [2, 5, -1], [2, -1, -1]], [[1, 2, 5]], [[2, 4, 6], [0, 2, -1], [2, 3, -1]]]
    kept = Kept(tuple(torch.tensor(layer) for layer in rows), 7)
    want = []
    for position in range(7):
        per_layer = [sum(position in head for head in layer) / len(layer) for layer in rows]
        share = sum(per_layer) / len(rows)
        want.append(0 if share == 0 else max(1, int(255 * share + 1e-9)))
    assert kept.shares().tolist() == want
    assert (want[2], want[5]) == (255, 85 + 85 * 2 // 3)
    many = Kept(tuple(torch.tensor([[0]]) if layer else torch.tensor([[0, 1]]) for layer in range(300)), 3)
    assert many.shares().tolist() == [255, 1, 0]


def test_what_is_read_after_the_pruning_is_all_there_and_failures_are_left_out(tmp_path: Path) -> None:
    """A contract that prunes the context alone keeps nothing less of the question."""
    fixture = Fixture(
        fixture_id="f0", prompt="a b c d", answer_prefix="", question_start=4, answers=("c",), evidence=((2, 3),)
    )
    prompt = Prompt(">>>a b c d", (1, 2, 3, 4), ((3, 4), (4, 6), (6, 8), (8, 10)), (1,), 2)
    item = WorkItem(fixture, 0, prompt, "print", ("c0",), lambda _: prompt)
    found = [
        SimpleNamespace(
            cell=SimpleNamespace(cell_id=lambda evaluation, name=name: evaluation + name), kept=kept, error=error
        )
        for name, kept, error in (
            ("full", None, None), ("tova", Kept((torch.tensor([[0]]),), 2), None),
            ("failed", Kept((torch.tensor([[0]]),), 2), "out of memory"),
        )
    ]  # fmt: skip
    callback = RecordViews(SimpleNamespace(evaluation_id="e0-", folder=tmp_path), None)
    callback.record(item, found)
    callback.on_exception(None, None, KeyboardInterrupt())
    (view,) = read_views([tmp_path])
    assert view.kept == {"e0-tova": bytes([255, 0, 255, 255])}
    assert (view.token_ends, view.evidence, view.question_start_token) == ((4, 6, 8, 10), (1,), 2)


@pytest.fixture
def evaluate(random_checkpoint: Path, tmp_path: Path) -> Evaluate:
    """`python launch.py OVERRIDES` in this process; returns the exit code."""

    def run(*overrides: str) -> int:
        from vorn import run

        small = ("logger=none", "task.context_tokens=300", "task.keys=4", "budget=[32]", "unit=[token]")
        cfg = composed(*small, f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}", *overrides)
        return run.evaluate(cfg, plan_panel(cfg), tmp_path / "out")

    return run


@pytest.mark.integration
def test_a_run_records_what_its_cells_kept_of_the_first_fixtures(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate("policy=[sink_recent]", "limit=2", "views.fixtures=2") == 0
    assert evaluate("policy=[sink_recent,h2o]", "limit=3", "views.fixtures=2") == 0
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = {(one.fixture_id, one.cell_id): one for one in read_ledger(folder).observations}
    views = read_views([folder])
    assert [view.fixture_id for view in views] == list(dict.fromkeys(name for name, _ in seen))[:2]
    for view in views:
        tokens = len(view.token_ends)
        cells = {seen[view.fixture_id, name].policy: name for name in view.kept}
        assert list(cells) == ["sink_recent", "h2o"]
        assert view.kept[cells["sink_recent"]] == b"\xff" * 4 + b"\x00" * (tokens - 32) + b"\xff" * 28
        for name, shares in view.kept.items():
            one = seen[view.fixture_id, name]
            assert (one.fingerprint, one.prompt_tokens) == (view.fingerprint, tokens)
            assert sum(shares) / 255 == pytest.approx(one.kept_tokens, abs=tokens / 255)
            share = sum(shares[place] for place in view.evidence) / 255 / len(view.evidence)
            assert share == pytest.approx(one.evidence_kept, abs=1 / 255)
        starts = (0, *view.token_ends[:-1])
        said = "".join(view.prompt[starts[place] : view.token_ends[place]] for place in view.evidence)
        assert all(answer in said for answer in one.answers)
        question = view.prompt[starts[view.question_start_token] :].strip()
        assert question.startswith("What is the special magic number")
        assert view.token_ends[-1] == len(view.prompt)


@pytest.mark.integration
def test_views_can_be_turned_off(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate("policy=[sink_recent]", "limit=1", "views.fixtures=0") == 0
    (folder,) = (tmp_path / "ledgers").iterdir()
    assert read_views([folder]) == ()
