"""An audit as JSON-ready values: every row, claim and finding, without the observations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vorn.audit.build import Audit, FileAudit
from vorn.audit.ledgers import LedgerAudit
from vorn.audit.published import Row
from vorn.audit.totals import Repeated


def summary(found: Audit) -> dict[str, Any]:
    """Keys are the fields of `vorn.audit.build.Audit` and of what it holds."""
    return {
        "disagreements": found.disagreements,
        "problems": list(found.problems),
        "totals": asdict(found.totals),
        "totals_once": asdict(found.totals_once),
        "files": [_file(one) for one in found.files],
        "repeated": [_repeated(one) for one in found.repeated],
        "ledgers": [_ledger(one) for one in found.ledgers],
        "comparison": asdict(found.comparison) if found.comparison else None,
    }


def _file(file: FileAudit) -> dict[str, Any]:
    inferred = {id(one.row): one for one in file.inferred}
    artifact = file.artifact
    rows = []
    for row in artifact.rows:
        told = inferred.get(id(row))
        graded = {"rules": told.rules, "n_known": told.n_known, "contradicting": told.contradicting} if told else None
        rows.append({**_row(row), "graded": graded})
    return {
        "path": artifact.path,
        "is_failure_list": artifact.is_failure_list,
        "n_failures": artifact.n_failures,
        "rows": rows,
        "checks": [asdict(check) for check in file.checks],
        "by_rule": [asdict(one) for one in file.by_rule],
        "unresolved": list(file.unresolved),
        "unchecked": list(artifact.unchecked),
        "problems": list(artifact.problems),
    }


def _row(row: Row) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in Row.__slots__ if name != "observations"}
    return {**fields, "n_observations": len(row.observations)}


def _repeated(group: Repeated) -> dict[str, Any]:
    places = [{"path": one.path, "where": one.row.where, "is_counted": one.is_counted} for one in group.places]
    return {"is_same_run": group.is_same_run, "is_graded_alike": group.is_graded_alike, "places": places}


def _ledger(ledger: LedgerAudit) -> dict[str, Any]:
    return {
        "path": ledger.path,
        "n_observations": len(ledger.contents.observations),
        "n_regraded": ledger.n_regraded,
        "findings": [asdict(one) for one in ledger.findings],
        "notes": list(ledger.notes),
        "problems": list(ledger.problems),
    }
