"""`python -m vorn.report LEDGER...`: the report of ledgers, without a model or torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vorn.ledger import SEGMENT_GLOB, read_ledger
from vorn.records import BadInput
from vorn.regrade import Regraded, regrade
from vorn.report.build import build_report
from vorn.report.reports import Report
from vorn.report.terminal import print_report
from vorn.report.watch import watch
from vorn.report.write import write_changes, write_page, write_report
from vorn.stats.plan import SELECT
from vorn.views import read_views

EXIT_BAD_INPUT, EXIT_REPORT_FAILED = 1, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 bad input, 4 the report could not be written."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.watch or arguments.interval is not None:
        return _watch(arguments, parser)
    changes = {name: getattr(arguments, name) for name in ("alpha", "margin") if getattr(arguments, name) is not None}
    if arguments.split:
        changes["split"] = SELECT if arguments.split == SELECT else None
    try:
        folders = evaluation_folders(arguments.ledgers)
        contents = read_ledger(*folders)
        regraded = regrade(contents, arguments.regrade) if arguments.regrade else None
        contents = regraded.contents if regraded else contents
        report = build_report(contents, changes=changes)
        views = read_views(folders) if arguments.html else ()
    except BadInput as error:
        print(f"vorn.report: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        paths = write_report(report, arguments.out)
        if arguments.html:
            paths.append(write_page(report, contents.observations, arguments.out, views)[0])
        if regraded:
            paths.append(write_changes(regraded.changes, arguments.out))
    except OSError as error:
        print(f"vorn.report: the report could not be written to --out={arguments.out}: {error}", file=sys.stderr)
        return EXIT_REPORT_FAILED
    if not arguments.quiet:
        _print(report, regraded, arguments.out, paths)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vorn.report",
        description="Cells, paired tests and the matrix of snapshot policies, from ledgers.",
    )
    parser.add_argument(
        "ledgers", nargs="+", type=Path, metavar="LEDGER", help="an evaluation's folder, or their parent"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR", help="folder for the files (report)")
    parser.add_argument("--quiet", action="store_true", help="write the files, print nothing")
    parser.add_argument("--html", action="store_true", help="also report.html, a page with figures and fixtures")
    recorded = "instead of what the ledger's runs recorded"
    parser.add_argument("--alpha", type=float, help=f"family-wise error rate, 0.05, {recorded}")
    parser.add_argument(
        "--margin", type=float, help=f"of non-inferiority and equivalence, 0.02 is 2 points, {recorded}"
    )
    parser.add_argument("--split", choices=[SELECT, "none"], help=f"choose parameters on one half or not, {recorded}")
    parser.add_argument(
        "--regrade", metavar="RULE", help="grade every completion by this rule; ledgers stay as they are"
    )
    parser.add_argument("--watch", action="store_true", help="follow what running evaluations measure, until Ctrl-C")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="between two looks of --watch")
    return parser


def _print(report: Report, regraded: Regraded | None, out: Path, paths: Sequence[Path]) -> None:
    """The report, what another rule changed in it, and the files that it was written to."""
    print_report(report, Console())
    if regraded:
        print(
            f"\ngraded again by {regraded.rule}: {len(regraded.changes)} of {regraded.graded} outcomes change; "
            "regraded.csv has each"
        )
    print(f"\nwritten to {out}: {', '.join(path.name for path in paths)}")


def _watch(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    given = [name for name in vars(arguments) if getattr(arguments, name) != parser.get_default(name)]
    foreign = [f"--{name}" for name in given if name not in ("ledgers", "watch", "interval")]
    try:
        if not arguments.watch:
            raise BadInput(f"--interval={arguments.interval} is for --watch; add --watch or leave it out")
        if foreign:
            raise BadInput(f"--watch writes no report: {', '.join(foreign)} cannot stand beside it; leave one out")
        if arguments.interval is not None and not 0 < arguments.interval <= 86400:
            raise BadInput(f"--interval={arguments.interval}: legal are seconds > 0 and at most 86400, a day")
        watch(arguments.ledgers, Console(), arguments.interval)
    except BadInput as error:
        print(f"vorn.report: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def evaluation_folders(paths: Sequence[Path]) -> list[Path]:
    """Each path that holds segments, or the folders in it that do; every folder once.

    Raises: BadInput for a path that is no folder or leads to no segment.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise BadInput(
                f"LEDGER={str(path)!r} is no folder; legal is an evaluation's folder or their parent, `ledgers`"
            )
        folders = [one for one in (path, *sorted(path.iterdir())) if one.is_dir() and any(one.glob(SEGMENT_GLOB))]
        if not folders:
            raise BadInput(
                f"LEDGER={str(path)!r} holds no segment ({SEGMENT_GLOB}), nor does a folder in it; legal is an "
                "evaluation's folder or their parent; run an evaluation first or name its ledger_dir"
            )
        found.update(dict.fromkeys(folder.resolve() for folder in folders))
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
