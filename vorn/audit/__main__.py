"""`python -m vorn.audit PATH... [--rows] [--json FILE]`: published results and ledgers, recomputed; without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vorn.audit.build import audit
from vorn.audit.summary import summary
from vorn.audit.terminal import print_audit

EXIT_BAD_INPUT, EXIT_NOT_WRITTEN, EXIT_DISAGREEMENT = 1, 4, 5
CODES = (
    "exit codes: 0 everything agrees; 1 something could not be read, the rest was audited; 4 --json could not be "
    "written; 5 something disagrees"
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
    arguments = parser.parse_args(argv)
    found = audit(arguments.paths)
    print_audit(found, Console(), rows=arguments.rows)
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(summary(found), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            print(f"vorn.audit: --json={arguments.json} could not be written: {error.strerror}", file=sys.stderr)
            return EXIT_NOT_WRITTEN
    if found.problems:
        return EXIT_BAD_INPUT
    return EXIT_DISAGREEMENT if found.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
