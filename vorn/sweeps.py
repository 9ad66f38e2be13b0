"""What is left of jobs when they have ended: notes of how, and reports over the ledgers of one or of all of them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from vorn.ledger import LedgerContents, Scope, read_ledger, together
from vorn.processes import DONE, FAILED, NO_REPORT, WITH_ERRORS
from vorn.report import build_report, print_report, write_page, write_report
from vorn.views import read_views

SCOPE_FILE = "evaluations.json"
_NOTES = ".jobs"  # folder in a sweep's folder, one file per job: launchers may run jobs in other processes
_BY_SERIOUSNESS = (DONE, WITH_ERRORS, NO_REPORT, FAILED)  # with error observations, without a report, not measured
_WORDS = {DONE: "done", WITH_ERRORS: "done, with error observations", NO_REPORT: "measured, without a report"}


@dataclass(frozen=True, slots=True)
class JobNote:
    """How a job of a sweep ended. A job that was killed with its launcher has left the note of its beginning."""

    number: int
    overrides: str
    folder: str
    code: int = FAILED
    why: str = "ended without a word: killed, or out of its time"

    @property
    def text(self) -> str:
        """For a list of jobs."""
        return f"job {self.number} ({self.overrides or 'no overrides'}): {_WORDS.get(self.code, self.why)}"


def note_scope(out_dir: Path, scopes: Mapping[Path, Scope]) -> None:
    """Leave in a job's folder which ledgers, and what of them, are the job's."""
    record = [
        {"ledger": str(ledger.resolve())} | {name: sorted(ids) for name, ids in asdict(scope).items()}
        for ledger, scope in scopes.items()
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    temporary = out_dir / f".{SCOPE_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(record))
    temporary.replace(out_dir / SCOPE_FILE)


def note_job(sweep_dir: Path, note: JobNote) -> None:
    """Keep the note for the end of the sweep."""
    folder = sweep_dir / _NOTES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{note.number}.json").write_text(json.dumps(asdict(note)))


def read_notes(sweep_dir: Path) -> list[JobNote]:
    """The notes of a sweep's jobs, in order."""
    notes = [JobNote(**json.loads(path.read_text())) for path in (sweep_dir / _NOTES).glob("*.json")]
    return sorted(notes, key=lambda note: note.number)


def forget_notes(sweep_dir: Path) -> None:
    """Remove those of an earlier sweep in the same folder."""
    for path in (sweep_dir / _NOTES).glob("*.json"):
        path.unlink()


def most_serious(codes: Sequence[int]) -> int:
    """The code to report for several jobs; one that is not documented counts as a failure."""
    return max((code if code in _BY_SERIOUSNESS else FAILED for code in codes), key=_BY_SERIOUSNESS.index)


def report_job(out_dir: Path) -> None:
    """Report on what a failed job has measured, if it came so far; printed, and written to its folder."""
    contents = together(_measured([out_dir]))
    if contents.observations:
        report = build_report(contents)
        paths = write_report(report, out_dir)
        print_report(report, Console())
        paths.append(write_page(report, contents.observations, out_dir, read_views(_ledgers([out_dir])))[0])
        print(f"\nreport on what was measured: {', '.join(map(str, paths))}")


def report_sweep(sweep_dir: Path) -> int:
    """Report on all jobs of a sweep together and name those that failed; returns the sweep's exit status.

    Jobs that measured cells of the same evaluation are one evaluation here, with families of its own.
    """
    notes = read_notes(sweep_dir)
    code = most_serious([note.code for note in notes]) if notes else FAILED
    failed = [note for note in notes if note.code not in (DONE, WITH_ERRORS)]
    print(f"\nsweep: {len(notes)} jobs, {len(failed)} failed: {sweep_dir}")
    for note in failed:
        print(f"  {note.text}", file=sys.stderr)
    _write_jobs(sweep_dir, notes)
    contents = together(_measured([Path(note.folder) for note in notes]))
    if not contents.observations:
        return code
    try:
        report = build_report(contents)
        write_report(report, sweep_dir)
        _add_failures(sweep_dir / "report.md", failed)
        views = read_views(_ledgers([Path(note.folder) for note in notes]))
        write_page(report, contents.observations, sweep_dir, views, [note.text for note in failed])
    except Exception as error:
        print(f"error: the sweep's report failed ({type(error).__name__}: {error})", file=sys.stderr)
        return most_serious([code, NO_REPORT])
    print(f"  report on all jobs: {sweep_dir / 'report.html'}, report.md")
    return code


def _measured(folders: Sequence[Path]) -> Iterator[LedgerContents]:
    """What the ledgers hold of the jobs in these folders."""
    for ledger, parts in _ledgers(folders).items():
        yield Scope.union(parts).of(read_ledger(ledger))


def _ledgers(folders: Sequence[Path]) -> dict[Path, list[Scope]]:
    """The ledgers of the jobs in these folders, and what of each is theirs; one that failed early has left no scope."""
    scopes: dict[Path, list[Scope]] = {}
    for folder in folders:
        if (folder / SCOPE_FILE).exists():
            records: Sequence[Mapping[str, Any]] = json.loads((folder / SCOPE_FILE).read_text())
            for record in records:
                ids = {one.name: frozenset(record[one.name]) for one in fields(Scope)}
                scopes.setdefault(Path(record["ledger"]), []).append(Scope(**ids))
    return scopes


def _write_jobs(sweep_dir: Path, notes: Sequence[JobNote]) -> None:
    sweep_dir.mkdir(parents=True, exist_ok=True)
    with (sweep_dir / "jobs.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([one.name for one in fields(JobNote)])
        writer.writerows([*asdict(note).values()] for note in notes)


def _add_failures(path: Path, failed: Sequence[JobNote]) -> None:
    if failed:
        lines = [f"- {' '.join(note.text.split())}" for note in failed]
        path.write_text("\n".join([path.read_text().rstrip("\n"), "", "## Jobs that failed", "", *lines, ""]))
