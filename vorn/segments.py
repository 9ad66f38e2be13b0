"""Reading segments of a ledger while they grow: every record once, lines that are still being written later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vorn.jsonl import Record, decode, observation, parse
from vorn.records import BadInput, Look, Manifest, Observation

SEGMENT_SUFFIX = ".jsonl"
SEGMENT_GLOB = f"*{SEGMENT_SUFFIX}"


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line that is not JSON: the block that was being written when its writer died, or damage to the file."""

    path: Path
    line: int  # 1-based
    is_tail: bool  # the last line of its segment, as a killed writer leaves it


@dataclass(slots=True)
class Segment:
    """What was read of one segment at a time, in its order."""

    path: Path
    manifest: Manifest | None = None
    observations: list[Observation] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    damaged: list[DamagedLine] = field(default_factory=list)


class Follower:
    """Reads the segments of evaluation folders, and what is appended to them afterwards."""

    def __init__(self, *folders: Path) -> None:
        """`folders`: one that does not exist yet is empty."""
        self._folders = folders
        self._readers: dict[Path, _Reader] = {}

    def new(self) -> list[Segment]:
        """What was appended since the last call, by segment, in the order of the manifests' times.

        A last line without its newline counts from its closing brace on; until then it is named as damaged.
        Raises: BadInput, naming file and line, for a line that is JSON but no record of this version.
        """
        readers = [reader for path, size in self._files() if (reader := self._reader(path)).offset < size]
        segments = [reader.read() for reader in readers]
        segments.sort(key=lambda one: (one.manifest.created if one.manifest else "", str(one.path)))
        return segments

    def _files(self) -> Iterator[tuple[Path, int]]:
        for folder in self._folders:
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    yield from ((Path(e.path), e.stat().st_size) for e in entries if e.name.endswith(SEGMENT_SUFFIX))

    def _reader(self, path: Path) -> _Reader:
        return self._readers.setdefault(path, _Reader(path))


@dataclass(slots=True)
class _Reader:
    """One segment, read up to `offset` bytes, which are `lines` lines."""

    path: Path
    offset: int = 0
    lines: int = 0
    manifest: Manifest | None = None
    lacks_newline: bool = False  # the last line was whole but for its newline

    def read(self) -> Segment:
        segment = Segment(self.path, self.manifest)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if self.lacks_newline and line == b"\n":
                    self.offset += 1
                    self.lacks_newline = False
                elif not self._take(line, segment):
                    break
        if segment.damaged and segment.damaged[-1].line == self.lines:
            segment.damaged[-1] = DamagedLine(self.path, self.lines, is_tail=True)
        return segment

    def _take(self, line: bytes, segment: Segment) -> bool:
        """Add the line's record to `segment`; False for a tail that may still grow."""
        number, record = self.lines + 1, observation(line)
        value = None if record else parse(line)
        self.lacks_newline = not line.endswith(b"\n")
        if record:
            self._add(record, number, segment)
        elif value is None:
            segment.damaged.append(DamagedLine(self.path, number, is_tail=self.lacks_newline))
            if self.lacks_newline:
                self.lacks_newline = False
                return False
        else:
            self._add(decode(value, f"{self.path}, line {number}"), number, segment)
        self.offset += len(line)
        self.lines = number
        return True

    def _add(self, record: Record, number: int, segment: Segment) -> None:
        if isinstance(record, Manifest) != (number == 1):
            raise BadInput(
                f"{self.path}, line {number}: kind of record is {type(record).__name__}; legal is a Manifest on line 1 "
                "and only there; restore the segment or use another ledger_dir"
            )
        if isinstance(record, Manifest):
            self.manifest = segment.manifest = record
        elif self.manifest and record.evaluation_id != self.manifest.evaluation_id:
            raise BadInput(
                f"{self.path}, line {number}: evaluation_id={record.evaluation_id!r}; legal is that of the segment's "
                f"manifest, {self.manifest.evaluation_id!r}; restore the segment or use another ledger_dir"
            )
        elif isinstance(record, Observation):
            segment.observations.append(record)
        else:
            segment.looks.append(record)
