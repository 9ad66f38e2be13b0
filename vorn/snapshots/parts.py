"""A matrix in parts that fit on a page: in each, a policy meets a workload once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vorn.snapshots.matrix import Matrix, MatrixRow


@dataclass(frozen=True, slots=True)
class Part:
    """One setting with one pool per workload."""

    title: str  # what tells it from the other parts; "" if there is one
    matrix: Matrix

    @property
    def workloads(self) -> list[str]:
        """Its columns."""
        return self.matrix.workloads

    @property
    def policies(self) -> list[str]:
        """Its rows: cells without their pool, in order of first appearance."""
        return list(dict.fromkeys(policy_name(row) for row in self.matrix.rows))

    def row(self, policy: str, workload: str) -> MatrixRow | None:
        """The cell at this place; None if it was not run."""
        found = (row for row in self.matrix.rows if (policy_name(row), row.workload) == (policy, workload))
        return next(found, None)

    def pool(self, workload: str) -> str:
        """`16 slots`."""
        return next((row.pool for row in self.matrix.rows if row.workload == workload and row.pool), "")

    def family(self, workload: str) -> list[MatrixRow]:
        """The policies that are corrected together: all of a workload, without baseline and reference."""
        return [
            row for row in self.matrix.rows if row.workload == workload and row.verdict not in ("baseline", "reference")
        ]


def policy_name(row: MatrixRow) -> str:
    """The cell's label without its pool: `tail_pin(k=4)`."""
    return row.cell.partition("/")[0] if row.pool else row.cell


def law_name(law: str, matrix: Matrix) -> str:
    """`Flops`; with its numbers where another law of the matrix has the same name."""
    name = law.partition("(")[0]
    return law if any(row.law.partition("(")[0] == name and row.law != law for row in matrix.rows) else name


def parts(matrix: Matrix) -> list[Part]:
    """The parts in order: by placement with order of removal, engine and cost law, then by pool where it is an axis.

    The reference, which has no pool, is in each part of its evaluation. Settings that no text tells apart, as those of
    a model, are told by their evaluation, so that no part mixes them.
    """
    alike = unnamed(matrix)
    groups: dict[tuple[str, ...], list[MatrixRow]] = {}
    for rows in _by_evaluation(matrix):
        references = [row for row in rows if not row.pool]
        law = law_name(next((row.law for row in rows if row.law), ""), matrix)
        for setting in dict.fromkeys(row.setting for row in rows if row.pool) or [""]:
            first = rows[0]
            own_name = f"evaluation {first.evaluation_id}" if first.evaluation_id in alike else ""
            key: tuple[str, ...] = (setting, first.engine, law, own_name)
            own = [row for row in rows if row.pool and row.setting == setting]
            groups.setdefault(key, []).extend([*references, *own])
    differing = [len({key[place] for key in groups}) > 1 for place in range(4)]
    found = []
    for key, rows in groups.items():
        texts = [text for text, differs in zip(key, differing, strict=True) if differs and text]
        pools = _pools(rows)
        for pool in pools:
            own = [row for row in rows if pool is None or row.pool == pool or _is_reference_of(row, pool, rows)]
            title = ", ".join([*([pool] if pool else []), *texts])
            found.append(Part(title, replace(matrix, rows=tuple(own))))
    return found


def unnamed(matrix: Matrix) -> set[str]:
    """Ids of the evaluations that share placement, order of removal, engine and cost law with another one of their own.

    What differs between two evaluations of one workload no text says then, nor which of the other workloads' belong to
    which: all with these texts are meant.
    """
    texts: dict[tuple[str, str, str], dict[str, set[str]]] = {}
    for rows in _by_evaluation(matrix):
        law = next((row.law for row in rows if row.law), "")
        for setting in {row.setting for row in rows if row.pool}:
            by_workload = texts.setdefault((setting, rows[0].engine, law), {})
            by_workload.setdefault(rows[0].workload, set()).add(rows[0].evaluation_id)
    clashes = [one for one in texts.values() if any(len(names) > 1 for names in one.values())]
    return {name for one in clashes for names in one.values() for name in names}


def _by_evaluation(matrix: Matrix) -> list[list[MatrixRow]]:
    groups: dict[str, list[MatrixRow]] = {}
    for row in matrix.rows:
        groups.setdefault(row.evaluation_id, []).append(row)
    return list(groups.values())


def _pools(rows: Sequence[MatrixRow]) -> list[str] | list[None]:
    """The pools, if some workload has several; else None alone."""
    several = any(
        len({row.pool for row in rows if row.pool and row.workload == workload}) > 1
        for workload in {row.workload for row in rows}
    )
    return list(dict.fromkeys(row.pool for row in rows if row.pool)) if several else [None]


def _is_reference_of(row: MatrixRow, pool: str, rows: Sequence[MatrixRow]) -> bool:
    return not row.pool and any(other.pool == pool and other.workload == row.workload for other in rows)
