"""In how many settings does a policy win? `python -m vorn.snapshots.sensitivity LEDGERS`.

A setting is a workload with its sizes, a placement, a pool and an order of removal. A multirun over them fills one
ledger directory: `-m experiment=warm_resume placement.grid=256,512,2048 pool.slots=16,24 pool.order=swap,stable`.
It is judged as the runs recorded, so that a report on the same ledgers says the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vorn.ledger import read_ledger
from vorn.records import REFERENCE, BadInput
from vorn.snapshots.matrix import Matrix, MatrixRow
from vorn.snapshots.recorded import recorded_matrix, recorded_rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One policy on one workload over all settings in which both it and the baseline were run."""

    workload: str
    policy: str  # with its parameters
    settings: int
    better: int  # settings in which it is shown to be better than the baseline
    harm: int  # settings in which it is shown to do harm
    least: float  # smallest and largest ratio of mean times to the baseline
    median: float
    most: float


def shares(matrix: Matrix) -> list[Share]:
    """By workload and policy, in the order of the matrix; the baseline and the reference are left out."""
    groups: dict[tuple[str, str], list[MatrixRow]] = {}
    for row in matrix.rows:
        if row.policy not in (REFERENCE, matrix.judgement.baseline) and row.ratio is not None:
            groups.setdefault((row.workload.partition("(")[0], row.cell.partition("/")[0]), []).append(row)
    found = []
    for (workload, policy), rows in groups.items():
        ratios = sorted(row.ratio for row in rows if row.ratio is not None)
        found.append(
            Share(
                workload=workload,
                policy=policy,
                settings=len(rows),
                better=sum(row.verdict == "better" for row in rows),
                harm=sum(row.verdict == "harm" for row in rows),
                least=ratios[0],
                median=ratios[len(ratios) // 2] / 2 + ratios[(len(ratios) - 1) // 2] / 2,
                most=ratios[-1],
            )
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 bad input."""
    parser = argparse.ArgumentParser(prog="python -m vorn.snapshots.sensitivity", description=__doc__)
    parser.add_argument("ledgers", type=Path, metavar="LEDGERS", help="a ledger directory")
    parser.add_argument("--baseline", help="policy that all others are compared with (recorded)")
    parser.add_argument("--margin", type=float, help="rise of the mean time that is no harm (recorded)")
    parser.add_argument("--alpha", type=float, help="family-wise error rate in each setting (recorded)")
    chosen = parser.parse_args(argv)
    try:
        folders = sorted(path for path in chosen.ledgers.glob("*") if path.is_dir())
        if not folders:
            raise BadInput(f"LEDGERS={str(chosen.ledgers)!r} holds no ledger; legal is the ledger_dir of a multirun")
        contents = read_ledger(*folders)
        changes = {name: value for name in ("baseline", "margin") if (value := getattr(chosen, name)) is not None}
        rates = recorded_rates(contents) if chosen.alpha is None else chosen.alpha
        matrix = recorded_matrix(contents, alpha=rates, changes=changes)
        if matrix is None:
            raise BadInput(f"LEDGERS={str(chosen.ledgers)!r} holds 0 resumes; legal are ledgers of warm_resume runs")
        found, baseline = shares(matrix), matrix.judgement.baseline
        if not found:
            raise BadInput(f"--baseline={baseline!r} was not run beside another policy; legal is one that was")
    except BadInput as error:
        print(f"vorn.snapshots.sensitivity: {error}", file=sys.stderr)
        return 1
    for remark in matrix.remarks:
        print(f"note: {remark}")
    print(f"shown better or harmful against {baseline}, of all settings; ratio of mean times: least median most")
    for one in found:
        print(
            f"{one.workload:14} {one.policy:22} better {one.better:3}/{one.settings:<3} harm {one.harm:3}/"
            f"{one.settings:<3} {one.least:6.2f} {one.median:6.2f} {one.most:6.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
