"""What qualifies the verdicts on resumes, and how they were measured: over all workloads, each fact once."""

from __future__ import annotations

from collections.abc import Sequence

from vorn.report.notes import provenance, qualifications
from vorn.report.reports import EvaluationReport
from vorn.report.resumes.words import notes, own_rates
from vorn.snapshots.matrix import Matrix


def resume_notes(matrix: Matrix, evaluations: Sequence[EvaluationReport]) -> list[str]:
    """Of the matrix, then of the evaluations, each line once: with whose it is, and that it is said of each alone."""
    found: dict[str, list[str]] = {}
    for one in evaluations:
        for line in qualifications(one):
            found.setdefault(line, []).append(one.task)
    return [*notes(matrix), *(_of(tasks, len(evaluations), line) for line, tasks in found.items())]


def _of(tasks: Sequence[str], of: int, line: str) -> str:
    """The line with whose it is, where there are several evaluations: counts in it are of one of them, not of all."""
    if of == 1:
        return line
    names = [] if len(tasks) == of else list(dict.fromkeys(tasks))
    each = [f"each of {len(tasks)} evaluations"] if len(tasks) > 1 else []
    return f"{', '.join([*names, *each])}: {line}"


def resume_provenance(matrix: Matrix, evaluations: Sequence[EvaluationReport]) -> list[tuple[str, str]]:
    """How the verdicts were made, then what the manifests record, with the workloads where they differ."""
    how = matrix.judgement
    instances = {name: max(row.n_instances for row in matrix.rows if row.workload == name) for name in matrix.workloads}
    alpha = " or ".join(f"{rate:g}" for rate in matrix.rates) + own_rates(matrix)
    judged = f"baseline {how.baseline}, bound {how.bound or 'none'}, margin {how.margin:g}, alpha {alpha}"
    facts = [
        ("evaluations", ", ".join(f"{one.task} {one.evaluation_id}" for one in evaluations)),
        ("instances", ", ".join(f"{name} {count}" for name, count in instances.items())),
        ("placement, removal", " / ".join(dict.fromkeys(row.setting for row in matrix.rows if row.setting))),
        ("times", " / ".join(dict.fromkeys(row.law for row in matrix.rows if row.law))),
        ("verdict", judged),
    ]
    found: dict[str, dict[str, list[str]]] = {}
    for one in evaluations:
        for name, value in provenance(one):
            found.setdefault(name, {}).setdefault(value, []).append(one.task)
    for name, values in found.items():
        texts = [value if len(values) == 1 else f"{value} ({', '.join(tasks)})" for value, tasks in values.items()]
        facts.append((name, " / ".join(texts)))
    return [(name, value) for name, value in facts if value]
