"""One audit: the files and ledgers that paths lead to, what each claims and holds, and what they are together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vorn.audit.artifact import read_artifact
from vorn.audit.checks import Check, check_row
from vorn.audit.compare import Comparison, compare
from vorn.audit.inference import ByRule, Inferred, infer_rules, numeric_answers, pairs_by_rule
from vorn.audit.ledgers import LedgerAudit, audit_ledger, evaluation_folders
from vorn.audit.pairs import check_pairs
from vorn.audit.published import ALPHA, Artifact
from vorn.audit.totals import Repeated, Totals, add_up, counted_once, repeated_rows
from vorn.records import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAudit:
    """An artifact with its claims, each recomputed."""

    artifact: Artifact
    checks: tuple[Check, ...]
    unresolved: tuple[str, ...]  # claims that nothing in the file allows to recompute
    inferred: tuple[Inferred, ...]  # by which rule its rows were graded
    by_rule: tuple[ByRule, ...]  # its paired tests under either rule

    @property
    def differing(self) -> list[Check]:
        """Claims that do not come out."""
        return [check for check in self.checks if not check.agrees]

    @property
    def verdicts(self) -> Counter[str]:
        """Rows by what their completions tell of the rule: "v1", "v2", "both", "neither", "untold"."""
        return Counter(one.verdict for one in self.inferred)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Everything that the paths lead to."""

    files: tuple[FileAudit, ...]
    ledgers: tuple[LedgerAudit, ...]
    totals: Totals
    totals_once: Totals  # with each run counted once
    repeated: tuple[Repeated, ...]
    comparison: Comparison | None  # of two ledgers
    problems: tuple[str, ...]  # what could not be read, with its path

    @property
    def names(self) -> dict[str, str]:
        """What to call each file by its path: its name, unless another file has the same."""
        paths = [file.artifact.path for file in self.files]
        shared = Counter(Path(path).name for path in paths)
        return {path: path if shared[Path(path).name] > 1 else Path(path).name for path in paths}

    @property
    def disagreements(self) -> list[str]:
        """All that does not agree, one line each."""
        return list(_disagreements(self))


def audit(paths: Sequence[Path]) -> Audit:
    """Audit what the paths lead to; what cannot be read is a problem of its own, and the rest goes on.

    Exactly two paths that both lead to ledgers and nothing else are compared as two runs, too.
    """
    problems: list[str] = []
    artifacts: list[Artifact] = []
    ledgers: list[LedgerAudit] = []
    sources = [_sources(path, problems) for path in paths]
    for path in dict.fromkeys(file for source in sources for file in source[0]):
        try:
            artifacts.append(read_artifact(path))
        except BadInput as error:
            problems.append(f"{path}: {error}")
    for path in dict.fromkeys(folder for source in sources for folder in source[1]):
        try:
            ledgers.append(audit_ledger(path))
        except BadInput as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}; make it readable or leave it out")
    comparison = None
    if len(paths) == len(ledgers) == 2 and not artifacts:
        try:
            comparison = compare(ledgers[0].contents, ledgers[1].contents, ALPHA)
        except BadInput as error:
            problems.append(f"{paths[0]} and {paths[1]}: {error}")
    return _assemble(artifacts, ledgers, comparison, problems)


def _sources(path: Path, problems: list[str]) -> tuple[list[Path], list[Path]]:
    """The artifacts and ledgers behind a path: a file, a folder of artifacts, a ledger or a folder of ledgers."""
    try:
        if not path.exists():
            raise BadInput("is not there; legal is a JSON file, a folder of them, or a ledger; name another path")
        if not path.is_dir():
            return [path.resolve()], []
        files = sorted(one.resolve() for one in path.iterdir() if one.suffix == ".json")
        folders = [path.resolve()] if evaluation_folders(path) else []
        if not files and not folders:
            raise BadInput("holds neither artifacts (.json) nor segments of a ledger (.jsonl); name another folder")
        return files, folders
    except BadInput as error:
        problems.append(f"{path}: {error}")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; make it readable or leave it out")
    return [], []


def _assemble(
    artifacts: Sequence[Artifact],
    ledgers: Sequence[LedgerAudit],
    comparison: Comparison | None,
    problems: Sequence[str],
) -> Audit:
    rows = [row for artifact in artifacts for row in artifact.rows]
    answers = numeric_answers(rows)
    by_row = {id(one.row): one for one in infer_rules(rows, answers)}
    repeated = repeated_rows(artifacts)
    return Audit(
        files=tuple(_file(artifact, by_row, answers) for artifact in artifacts),
        ledgers=tuple(ledgers),
        totals=add_up(one for artifact in artifacts for one in artifact.counted),
        totals_once=add_up(counted_once(artifacts, repeated)),
        repeated=tuple(repeated),
        comparison=comparison,
        problems=tuple(
            [*problems]
            + [f"{artifact.path}: {problem}" for artifact in artifacts for problem in artifact.problems]
            + [f"{ledger.path}: {problem}" for ledger in ledgers for problem in ledger.problems]
        ),
    )


def _file(artifact: Artifact, by_row: Mapping[int, Inferred], answers: Mapping[str, str]) -> FileAudit:
    pairs, unresolved = check_pairs(artifact)
    single = [check for row in artifact.rows for check in check_row(row)]
    rates = [
        f"{row.where or 'the file'}: a rate without a number of fixtures"
        for row in artifact.rows
        if row.rate is not None and row.n is None and not row.observations
    ]
    return FileAudit(
        artifact=artifact,
        checks=(*single, *pairs),
        unresolved=(*rates, *unresolved),
        inferred=tuple(by_row[id(row)] for row in artifact.rows if id(row) in by_row),
        by_rule=tuple(pairs_by_rule(artifact, answers)),
    )


def _disagreements(found: Audit) -> Iterator[str]:
    names = found.names
    for file in found.files:
        name = names[file.artifact.path]
        for check in file.differing:
            yield (
                f"{name}: {check.where or 'the file'} ({check.name}): {check.what} is {check.published}, the "
                f"{check.basis} give {check.recomputed}"
            )
        for one in file.inferred:
            if one.verdict == "neither":
                yield (
                    f"{name}: {one.row.where or 'the file'} ({one.row.name}): neither rule gives the outcomes of "
                    f"{len(one.contradicting)} of {len(one.row.observations)} fixtures "
                    f"({', '.join(one.contradicting[:5])})"
                )
    for group in found.repeated:
        if not group.is_graded_alike:
            places = [
                f"{names[place.path]} {place.row.where or 'the file'} "
                f"({sum(seen.outcome == 1.0 for seen in place.row.observations)} of {len(place.row.observations)})"
                for place in group.places
            ]
            yield f"the same completions have other outcomes: {'; '.join(places)}"
    for ledger in found.ledgers:
        yield from (f"{ledger.path}: {one.kind}: {one.text}" for one in ledger.findings)
    for cell in found.comparison.moved if found.comparison else ():
        yield f"{cell.cell} ({cell.model}, {cell.task}): hits moved between the two runs by more than chance"
