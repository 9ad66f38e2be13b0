"""A segment that is read while it is written: every record once, whatever part of a line is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_manifest, make_observation

from vorn.jsonl import encode
from vorn.records import BadInput
from vorn.segments import Follower


@pytest.mark.parametrize("step", [1, 7, 400])
def test_every_record_is_read_once_from_its_closing_brace_on(tmp_path: Path, step: int) -> None:
    """Oracle: the records whose closing brace lies within the bytes that were written."""
    seen = [make_observation(fixture_id=f"f{number}") for number in range(3)]
    whole = encode([make_manifest(), *seen])
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")][1:]
    follower, path, read = Follower(tmp_path), tmp_path / "a.jsonl", []
    start = whole.index(b"\n") + 1
    path.write_bytes(whole[:start])
    assert [one.manifest for one in follower.new()] == [make_manifest()]
    for size in [*range(start, len(whole), step), len(whole)]:
        path.write_bytes(whole[:size])
        for segment in follower.new():
            read += segment.observations
            assert segment.manifest == make_manifest()
            assert [one.line for one in segment.damaged if not (one.is_tail and one.line == 2 + len(read))] == []
        assert read == seen[: sum(size >= end for end in ends)]
    assert follower.new() == []


def test_new_segments_and_folders_are_found(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "e0")
    assert follower.new() == []
    (tmp_path / "e0").mkdir()
    for name in ("b", "a"):
        (tmp_path / "e0" / f"{name}.jsonl").write_bytes(encode([make_manifest(), make_observation(fixture_id=name)]))
        assert [one.observations[0].fixture_id for one in follower.new()] == [name]
    (tmp_path / "e0" / "claims").write_text("no segment")
    assert follower.new() == []


def test_a_foreign_line_is_refused_with_its_number_also_when_it_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode([make_manifest(), make_observation()]))
    follower = Follower(tmp_path)
    follower.new()
    with path.open("ab") as file:
        file.write(encode([make_observation(evaluation_id="e9")]))
    with pytest.raises(BadInput, match="line 3: evaluation_id='e9'"):
        follower.new()
