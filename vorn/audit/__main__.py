"""`python -m vorn.audit PATH... [--rows] [--json FILE] [--html DIR]`: results and ledgers, recomputed without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vorn.audit.build import Audit, audit
from vorn.audit.evaluations import published_contents
from vorn.audit.summary import summary
from vorn.audit.terminal import print_audit
from vorn.records import BadInput

EXIT_BAD_INPUT, EXIT_NOT_WRITTEN, EXIT_DISAGREEMENT = 1, 4, 5
CODES = (
    "exit codes: 0 everything agrees; 1 something could not be read, the rest was audited, or --html has no row to "
    "show; 4 --json or --html could not be written; 5 something disagrees"
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, see `CODES`."""
    parser = argparse.ArgumentParser(
        prog="python -m vorn.audit",
        description="Recompute published results and ledgers from their observations. Two ledgers are also compared.",
        epilog=CODES,
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="an artifact (.json), a folder of them, or a ledger"
    )
    parser.add_argument("--rows", action="store_true", help="every row and test, and all lists in full")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything for machines to FILE")
    parser.add_argument("--html", type=Path, metavar="DIR", help="show the artifacts' rows as report.html in DIR")
    arguments = parser.parse_args(argv)
    found = audit(arguments.paths)
    print_audit(found, Console(), rows=arguments.rows)
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(summary(found), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            print(f"vorn.audit: --json={arguments.json} could not be written: {error.strerror}", file=sys.stderr)
            return EXIT_NOT_WRITTEN
    if arguments.html is not None:
        try:
            page = _write_page(found, arguments.html)
        except BadInput as error:
            print(f"vorn.audit: --html={arguments.html}: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        except OSError as error:
            print(f"vorn.audit: --html={arguments.html} could not be written: {error.strerror}", file=sys.stderr)
            return EXIT_NOT_WRITTEN
        print(f"\nwritten: {page}")
    if found.problems:
        return EXIT_BAD_INPUT
    return EXIT_DISAGREEMENT if found.disagreements else 0


def _write_page(found: Audit, folder: Path) -> Path:
    """The page of all rows with observations. Raises: BadInput if there is none, OSError if it cannot be written."""
    from vorn.report import build_report, write_page  # an audit without a page needs neither numpy nor matplotlib

    contents = published_contents(file.artifact for file in found.files)
    if not contents.observations:
        raise BadInput(
            "no artifact among these paths holds a row with observations; legal are artifacts with some; for ledgers, "
            "python -m vorn.report --html"
        )
    return write_page(build_report(contents), contents.observations, folder)[0]


if __name__ == "__main__":
    sys.exit(main())
