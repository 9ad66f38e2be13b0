"""The ledger: a folder per evaluation of append-only segments, one per writer; what a resume and a report read.

A segment is a `.jsonl` file whose first line is the manifest of its run. Whatever kills a writer, at most the block in
flight is lost: the reader tolerates a torn last line, and the next run writes a segment of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from vorn.appending import Appender, make_folder, writable
from vorn.jsonl import encode
from vorn.records import BadInput, Look, Manifest, Observation
from vorn.segments import SEGMENT_GLOB, SEGMENT_SUFFIX, DamagedLine, Follower, Segment

__all__ = [
    "SEGMENT_GLOB",
    "DamagedLine",
    "Disagreement",
    "Follower",
    "LedgerContents",
    "LedgerWriter",
    "Scope",
    "make_folder",
    "merge",
    "read_ledger",
    "together",
    "writable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Two observations that should be the same and are not; the first one counts."""

    cell: str
    fixture_id: str
    field: str  # "outcome", "completion", or "fingerprint": the fixture itself differs, perhaps between cells
    kept: str | float
    dropped: str | float


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContents:
    """What ledgers hold, merged by (cell_id, fixture_id) over segments in the order of their creation.

    The first observation of a key counts, but one with an outcome replaces one with an error.
    """

    observations: tuple[Observation, ...]
    manifests: tuple[Manifest, ...]  # one per segment
    looks: tuple[Look, ...]  # by time
    damaged: tuple[DamagedLine, ...]
    disagreements: tuple[Disagreement, ...]
    duplicates: int  # observations left out because their key had an outcome already

    def missing(self, cell_ids: Sequence[str], fixture_ids: Iterable[str]) -> dict[str, list[str]]:
        """Cells without an outcome, by fixture, both in the order given; complete fixtures are left out.

        An error counts as missing, so that a rerun tries it again.
        """
        done = {(seen.cell_id, seen.fixture_id) for seen in self.observations if seen.outcome is not None}
        todo = {fixture: [cell for cell in cell_ids if (cell, fixture) not in done] for fixture in fixture_ids}
        return {fixture: cells for fixture, cells in todo.items() if cells}

    def check_fingerprints(self, expected: Mapping[str, str]) -> None:
        """Refuse fixtures that changed since they were measured. For the contents of one evaluation.

        Args:
            expected: fingerprint by fixture_id, as the task builds it now. Fixtures of one side only are not compared.
        Raises: BadInput for the first fixture whose fingerprint differs.
        """
        for seen in self.observations:
            now = expected.get(seen.fixture_id, seen.fingerprint)
            if now != seen.fingerprint:
                raise BadInput(
                    f"fixture {seen.fixture_id!r} changed: its fingerprint is {now!r} now and was {seen.fingerprint!r} "
                    "when it was measured; legal is the same prompt and answers; use another ledger_dir or restore "
                    "the task"
                )


def read_ledger(*folders: Path) -> LedgerContents:
    """Contents of the ledgers in these evaluation folders together; a folder that does not exist yet is empty.

    Raises: BadInput, naming file and line, for a line that is JSON but no record of this version.
    """
    return merge(Follower(*folders).new())


def merge(segments: Sequence[Segment]) -> LedgerContents:
    """What these segments hold together; the order is that in which they count."""
    kept: dict[tuple[str, str], Observation] = {}
    first: dict[tuple[str, str], str] = {}  # fingerprint by evaluation and fixture
    disagreements = []
    duplicates = 0
    for seen in (seen for segment in segments for seen in segment.observations):
        key = seen.cell_id, seen.fixture_id
        fingerprint = first.setdefault((seen.evaluation_id, seen.fixture_id), seen.fingerprint)
        disagreements += _disagreements(seen, kept.get(key, seen), fingerprint)
        # A failure that was tried again is no duplicate: the outcome takes the error's place.
        duplicates += key in kept and kept[key].outcome is not None
        if key not in kept or (kept[key].outcome is None and seen.outcome is not None):
            kept[key] = seen
    return LedgerContents(
        observations=tuple(kept.values()),
        manifests=tuple(segment.manifest for segment in segments if segment.manifest),
        looks=tuple(sorted((look for segment in segments for look in segment.looks), key=lambda look: look.created)),
        damaged=tuple(line for segment in segments for line in segment.damaged),
        disagreements=tuple(disagreements),
        duplicates=duplicates,
    )


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a ledger belongs to one panel: others may have measured more cells and more fixtures there."""

    cell_ids: frozenset[str]
    labels: frozenset[str]  # of the cells
    fixture_ids: frozenset[str]

    @staticmethod
    def union(parts: Iterable[Scope]) -> Scope:
        """What belongs to any of these panels."""
        found = list(parts)
        return Scope(
            frozenset().union(*(part.cell_ids for part in found)),
            frozenset().union(*(part.labels for part in found)),
            frozenset().union(*(part.fixture_ids for part in found)),
        )

    def of(self, contents: LedgerContents) -> LedgerContents:
        """The contents without what belongs to other panels."""
        ours = [
            one for one in contents.observations if one.cell_id in self.cell_ids and one.fixture_id in self.fixture_ids
        ]
        disagreements = [one for one in contents.disagreements if one.cell in self.labels]
        return replace(contents, observations=tuple(ours), disagreements=tuple(disagreements))


def together(parts: Iterable[LedgerContents]) -> LedgerContents:
    """Contents of ledgers that have no evaluation in common, one after the other."""
    found = list(parts)
    return LedgerContents(
        observations=tuple(one for part in found for one in part.observations),
        manifests=tuple(one for part in found for one in part.manifests),
        looks=tuple(one for part in found for one in part.looks),
        damaged=tuple(one for part in found for one in part.damaged),
        disagreements=tuple(one for part in found for one in part.disagreements),
        duplicates=sum(part.duplicates for part in found),
    )


class LedgerWriter:
    """Appends to one segment of its own, created at the first append or look.

    Every error of writing or syncing propagates, and the segment ends there: whatever is appended later goes to a new
    one, so that a torn line stays the last of its file.
    """

    def __init__(self, folder: Path, manifest_factory: Callable[[], Manifest]) -> None:
        """Prepare to write into the evaluation folder `folder`.

        Nothing is created, and `manifest_factory` not called, before there is something to write; it is called once.
        """
        self._folder = folder
        self._manifest = cache(manifest_factory)
        self._segment = Appender(folder, SEGMENT_SUFFIX, self._owner, lambda: encode([self._manifest()]))

    def append(self, observations: Sequence[Observation]) -> None:
        """Write the observations of one fixture as one block; it is on disk when this returns.

        Raises: OSError if it cannot be written; BadInput for an observation of another evaluation than the manifest's.
        """
        if observations:
            self._write(observations)

    def look(self, fixtures: int) -> bool:
        """Record that a report was made on so many fixtures, unless the last look was on as many; True if recorded."""
        looks = read_ledger(self._folder).looks
        if looks and looks[-1].fixtures == fixtures:
            return False
        created = datetime.now(UTC).isoformat()
        self._write([Look(evaluation_id=self._manifest().evaluation_id, created=created, fixtures=fixtures)])
        return True

    def close(self) -> None:
        """End the segment; a later append would begin another."""
        self._segment.close()

    def _write(self, records: Sequence[Observation | Look]) -> None:
        ours = self._manifest().evaluation_id
        for record in records:
            if record.evaluation_id != ours:
                raise BadInput(
                    f"evaluation_id={record.evaluation_id!r} cannot go to {self._folder}: legal is the manifest's, "
                    f"{ours!r}; open one LedgerWriter per evaluation"
                )
        self._segment.append(encode(records))

    def _owner(self) -> str:
        manifest = self._manifest()
        return f"{manifest.host}-{manifest.pid}-rank{manifest.rank}"


def _disagreements(seen: Observation, kept: Observation, fingerprint: str) -> list[Disagreement]:
    """Differences to the one kept before, and to the fixture's first fingerprint; an error has no outcome to differ."""
    compared: list[tuple[str, str | float, str | float]] = [("fingerprint", fingerprint, seen.fingerprint)]
    if seen.outcome is not None and kept.outcome is not None:
        compared.append(("outcome", kept.outcome, seen.outcome))
        compared.append(("completion", kept.completion, seen.completion))
    return [
        Disagreement(cell=seen.cell, fixture_id=seen.fixture_id, field=name, kept=before, dropped=now)
        for name, before, now in compared
        if before != now
    ]
