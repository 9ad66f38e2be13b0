"""Reading and writing of ledgers, in one process; what a killed writer leaves is in test_ledger_crash.py."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
from factories import make_manifest, make_observation

from vorn.ledger import LedgerWriter, read_ledger
from vorn.records import Axes, BadInput, Look


def write_segment(folder: Path, *observations, created: str = "2031-01-01", name: str | None = None) -> Path:
    """A segment written without the code under test."""
    folder.mkdir(exist_ok=True)
    lines = [{"kind": "manifest", **dataclasses.asdict(make_manifest(created=created))}]
    kinds = {"Observation": "observation", "Look": "look"}
    lines += [{"kind": kinds[type(one).__name__], **dataclasses.asdict(one)} for one in observations]
    path = folder / f"{name or created}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def edit_line(path: Path, number: int, **changes: object) -> None:
    """Change fields of a line; ... removes one."""
    lines = path.read_text().splitlines()
    value = json.loads(lines[number - 1]) | changes
    lines[number - 1] = json.dumps({name: item for name, item in value.items() if item is not ...})
    path.write_text("\n".join(lines) + "\n")


def test_what_is_appended_is_read_back(tmp_path):
    seen = [
        make_observation(fixture_id="é\u2028\n\ud800", completion='"\x00\r\n{', answers=("a", "b"), peak_bytes=3),
        make_observation(fixture_id="f1", outcome=None, error="NaN", evidence_kept=None),
    ]
    writer = LedgerWriter(tmp_path / "new" / "e0", make_manifest)
    writer.append(seen[:1])
    writer.append(seen[1:])
    writer.close()
    contents = read_ledger(tmp_path / "new" / "e0")
    assert contents.observations == tuple(seen)
    assert contents.manifests == (make_manifest(),)
    assert (contents.looks, contents.damaged, contents.disagreements, contents.duplicates) == ((), (), (), 0)


def test_a_segment_begins_with_its_manifest_and_is_named_after_its_writer(tmp_path):
    writer = LedgerWriter(tmp_path, lambda: make_manifest(host="../a host", pid=42, rank=3))
    writer.append([make_observation()])
    writer.close()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-.._a_host-42-rank3.jsonl")
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["manifest", "observation"]


def test_nothing_is_created_before_there_is_something_to_write(tmp_path):
    def refuse():
        raise AssertionError("no manifest is needed yet")

    writer = LedgerWriter(tmp_path / "e0", refuse)
    writer.append([])
    writer.close()
    assert not (tmp_path / "e0").exists()
    assert read_ledger(tmp_path / "e0").observations == ()


def test_a_block_is_one_write_and_synced_before_append_returns(tmp_path, monkeypatch):
    calls = []
    write, sync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: calls.append(bytes(data)) or write(fd, data))
    monkeypatch.setattr(
        os, "fsync", lambda fd: calls.append("folder" if os.path.isdir(f"/dev/fd/{fd}") else "file") or sync(fd)
    )
    writer = LedgerWriter(tmp_path / "e0", make_manifest)
    writer.append([make_observation(), make_observation(policy="h2o")])
    writer.close()
    blocks = [call for call in calls if isinstance(call, bytes)]
    assert [block.count(b"\n") for block in blocks] == [1, 2]
    order = [call if isinstance(call, str) else "write" for call in calls]
    assert order == ["folder", "write", "file", "folder", "write", "file"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
    writer = LedgerWriter(tmp_path, make_manifest)
    writer.append([make_observation()])
    writer.close()
    assert read_ledger(tmp_path).observations == (make_observation(),)


def test_a_full_disk_is_reported_and_does_not_spoil_what_follows(tmp_path, monkeypatch):
    """The torn block must stay the last line of its segment, so the next append begins another."""
    writer = LedgerWriter(tmp_path, make_manifest)
    writer.append([make_observation(fixture_id="f0")])
    write, left = os.write, [50]

    def run_full(descriptor, data):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: left.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", run_full)
        with pytest.raises(OSError, match="No space left"):
            writer.append([make_observation(fixture_id="f1")])
    writer.append([make_observation(fixture_id="f2")])
    writer.close()
    contents = read_ledger(tmp_path)
    assert [seen.fixture_id for seen in contents.observations] == ["f0", "f2"]
    assert [line.is_tail for line in contents.damaged] == [True]


def test_a_failing_sync_is_reported(tmp_path, monkeypatch):
    writer = LedgerWriter(tmp_path, make_manifest)

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            writer.append([make_observation()])
    writer.close()


def test_an_observation_of_another_evaluation_is_not_written(tmp_path):
    writer = LedgerWriter(tmp_path / "e0", make_manifest)
    with pytest.raises(BadInput, match=r"evaluation_id='e9'.*'e0'"):
        writer.append([make_observation(evaluation_id="e9")])
    assert not (tmp_path / "e0").exists()


def test_what_json_cannot_say_is_refused_before_anything_is_written(tmp_path):
    writer = LedgerWriter(tmp_path / "e0", make_manifest)
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.append([make_observation(), make_observation(kept_tokens=float("nan"))])
    assert not (tmp_path / "e0").exists()


def test_the_first_observation_counts_and_disagreements_are_reported(tmp_path):
    first = make_observation(outcome=1.0)
    write_segment(tmp_path, make_observation(outcome=0.0, completion="no"), created="2031-01-02", name="a")
    write_segment(tmp_path, first, created="2031-01-01", name="b")
    contents = read_ledger(tmp_path)
    assert contents.observations == (first,)
    assert contents.duplicates == 1
    assert [(one.field, one.kept, one.dropped) for one in contents.disagreements] == [
        ("outcome", 1.0, 0.0),
        ("completion", " 123", "no"),
    ]


def test_an_outcome_replaces_an_error_but_no_error_an_outcome(tmp_path):
    failed, done = make_observation(outcome=None, error="NaN", completion=""), make_observation()
    write_segment(tmp_path, failed, done, failed)
    contents = read_ledger(tmp_path)
    assert contents.observations == (done,)
    assert (contents.duplicates, contents.disagreements) == (1, ())  # the retried error is none


def test_a_fixture_that_differs_between_cells_is_a_disagreement(tmp_path):
    one, other = make_observation(fingerprint="x"), make_observation(policy="h2o", fingerprint="y")
    write_segment(tmp_path, one, other)
    contents = read_ledger(tmp_path)
    assert contents.observations == (one, other)
    assert [(d.field, d.cell, d.kept, d.dropped) for d in contents.disagreements] == [
        ("fingerprint", "h2o/token/64", "x", "y")
    ]


def test_several_folders_are_read_together(tmp_path):
    write_segment(tmp_path / "a", make_observation(fixture_id="f1"), created="2031-01-02")
    write_segment(tmp_path / "b", make_observation(fixture_id="f2"), created="2031-01-01")
    contents = read_ledger(tmp_path / "a", tmp_path / "b")
    assert [seen.fixture_id for seen in contents.observations] == ["f2", "f1"]


def test_missing_lists_cells_without_an_outcome(tmp_path):
    done, failed = make_observation(fixture_id="f0"), make_observation(fixture_id="f1", outcome=None, error="NaN")
    write_segment(tmp_path, done, failed)
    todo = read_ledger(tmp_path).missing(["new", done.cell_id], ["f2", "f1", "f0"])
    assert list(todo.items()) == [("f2", ["new", done.cell_id]), ("f1", ["new", done.cell_id]), ("f0", ["new"])]
    assert read_ledger(tmp_path).missing([done.cell_id], ["f0"]) == {}


def test_changed_fixtures_are_refused(tmp_path):
    write_segment(tmp_path, make_observation(fixture_id="f0", fingerprint="old"))
    contents = read_ledger(tmp_path)
    contents.check_fingerprints({"f0": "old", "f1": "never measured"})
    contents.check_fingerprints({})
    with pytest.raises(BadInput, match=r"fixture 'f0' changed.*'new' now and was 'old'.*ledger_dir or restore"):
        contents.check_fingerprints({"f0": "new"})


def test_a_look_is_recorded_once_per_number_of_fixtures(tmp_path):
    recorded = []
    for fixtures in (100, 100, 200, 200, 100):
        writer = LedgerWriter(tmp_path, make_manifest)
        recorded.append(writer.look(fixtures))
        writer.close()
    assert recorded == [True, False, True, False, True]
    assert [look.fixtures for look in read_ledger(tmp_path).looks] == [100, 200, 100]
    assert len(list(tmp_path.iterdir())) == 3


def test_looks_are_ordered_by_time(tmp_path):
    looks = [Look(evaluation_id="e0", created=f"2031-01-0{day}", fixtures=day) for day in (3, 1, 2)]
    write_segment(tmp_path, *looks)
    assert [look.fixtures for look in read_ledger(tmp_path).looks] == [1, 2, 3]


def test_a_damaged_line_in_the_middle_is_named_and_the_rest_is_read(tmp_path):
    path = write_segment(tmp_path, *(make_observation(fixture_id=f"f{i}") for i in range(3)))
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"\xff" + lines[2][:40]
    path.write_bytes(b"\n".join(lines))
    contents = read_ledger(tmp_path)
    assert [seen.fixture_id for seen in contents.observations] == ["f0", "f2"]
    assert [(line.path, line.line, line.is_tail) for line in contents.damaged] == [(path, 3, False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": ...}, "field 'outcome' of this observation is missing"),
        ({"colour": "red"}, "field 'colour' of this observation is unknown"),
        ({"kept_tokens": "64"}, "field 'kept_tokens' of this observation is '64'; legal is float or int or null"),
        ({"batch_rows": True}, "field 'batch_rows' of this observation is True; legal is int"),
        (
            {"evidence_kept": []},
            r"field 'evidence_kept' of this observation is \[\]; legal is float or int or null",
        ),
        ({"outcome": 7.0}, r"outcome=7.0.*legal values lie in \[0, 1\]"),
        ({"kind": "remark"}, "kind='remark' is no record; legal kinds are manifest, observation, look"),
        ({"kind": ...}, "kind=None is no record"),
        ({"evaluation_id": "e9"}, "evaluation_id='e9'; legal is that of the segment's manifest, 'e0'"),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_place(tmp_path, changes, message):
    path = write_segment(tmp_path, make_observation())
    edit_line(path, 2, **changes)
    with pytest.raises(BadInput, match=rf"{path}, line 2: .*{message}.*another ledger_dir"):
        read_ledger(tmp_path)


def test_the_manifest_stands_on_the_first_line_and_only_there(tmp_path):
    path = write_segment(tmp_path, make_observation())
    head, body = path.read_text().splitlines()
    for lines, place in (([body], 1), ([head, head], 2)):
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(BadInput, match=rf"line {place}: .*a Manifest on line 1 and only there"):
            read_ledger(tmp_path)


def test_a_ledger_older_than_sub_tasks_has_none(tmp_path):
    new, old = make_observation(subtask="vt"), make_observation(fixture_id="f1")
    path = write_segment(tmp_path, new, old)
    edit_line(path, 3, subtask=..., choices=...)
    assert read_ledger(tmp_path).observations == (new, old)


def test_the_place_on_a_heat_map_is_read_back_and_older_ledgers_have_none(tmp_path):
    axes = Axes(down="depth", down_at=0.25, across="length_tokens", across_at=500)
    new, old = make_observation(axes=axes), make_observation(fixture_id="f1")
    path = write_segment(tmp_path, new, old)
    edit_line(path, 3, axes=...)
    assert read_ledger(tmp_path).observations == (new, old)
    edit_line(path, 2, axes={"down": "depth", "down_at": 0, "across": "depth", "across_at": 1})
    with pytest.raises(BadInput, match=r"line 2: axes 'depth' and 'depth': legal are two names that differ"):
        read_ledger(tmp_path)


def test_choices_are_read_as_they_were_written(tmp_path):
    seen = make_observation(choices=("Date", "Food"))
    path = write_segment(tmp_path, seen, make_observation(fixture_id="f1"))
    assert [one.choices for one in read_ledger(tmp_path).observations] == [("Date", "Food"), ()]
    edit_line(path, 3, choices="Food")
    with pytest.raises(BadInput, match="field 'choices' of this observation is 'Food'; legal is list"):
        read_ledger(tmp_path)


def test_a_line_that_is_json_but_no_object_is_refused(tmp_path):
    path = write_segment(tmp_path)
    path.write_text(path.read_text() + "[1]\n")
    with pytest.raises(BadInput, match="line 2: kind=None is no record"):
        read_ledger(tmp_path)
