"""A file of published results, read by its structure: every object is known by its keys, wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vorn.audit import claims, rows
from vorn.audit.published import ALPHA, Artifact, Comparison, Counted, OneSided, PairTest, Row
from vorn.audit.rows import Context
from vorn.audit.source import REMEDY, RepeatedKey, child, load_json, number, refuse
from vorn.records import BadInput

MAX_DEPTH = 50  # the released artifacts nest 7 deep
# Where the paper's accounting finds rows: arrays of these names, at the top or in an item of `models` or `families`.
COUNTED_ARRAYS = (
    "rows", "sentence_rows", "token_rows", "ceiling_rows", "adaptive_rows", "comparisons", "token_vorn_rows",
    "sentence_vorn_rows", "token_attention_rows", "sentence_attention_rows", "phase1_cells", "phase3_a100_cells",
)  # fmt: skip
_READ = {"observations", "result", "paired_test", "comparison", *rows.INTERVALS}  # read with the object that holds them
_ABOUT = ("run_conditions", "dataset", "experiment", "contract", "chosen_model")  # objects that describe their siblings


def read_artifact(path: Path) -> Artifact:
    """What the file claims, with every problem of a field noted beside what could be read.

    Raises: BadInput for a file that is not JSON, or in which nothing has a structure that is known.
    """
    value = load_json(path)
    found = _Findings()
    _visit(value, "", Context(), found, 0)
    failures_only = isinstance(value, list) and bool(value) and len(found.failures) == len(value)
    if not (found.rows or found.tests or found.comparisons or found.problems or found.failures):
        keys = ", ".join(list(value)[:8]) if isinstance(value, dict) else type(value).__name__
        raise BadInput(
            f"has no structure that is known: no run, test, family or failure in it ({keys[:200]}); legal are the "
            "artifacts that docs/audit.md describes; leave it out"
        )
    counted = list(_counted(value))
    known = {*(row.where for row in found.rows), *(test.where for test in found.tests), *found.failures, *found.refused}
    for one in counted:
        if one.where not in known:
            found.problems.append(f"{one.where}: holds no outcome of a run that is known; {REMEDY}")
    return Artifact(
        path=str(path),
        rows=tuple(found.rows),
        tests=tuple(found.tests),
        comparisons=tuple(found.comparisons),
        one_sided=tuple(found.one_sided),
        alpha=found.alpha,
        n_failures=len(found.failures),
        is_failure_list=failures_only,
        counted=tuple(counted),
        unchecked=tuple(dict.fromkeys(re.sub(r"\[\d+\]", "[]", where) for where in found.unchecked)),
        problems=tuple(found.problems),
    )


@dataclass(slots=True)
class _Findings:
    rows: list[Row] = field(default_factory=list)
    tests: list[PairTest] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    one_sided: list[OneSided] = field(default_factory=list)
    alpha: float = ALPHA
    failures: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # field paths of the objects in `problems`


def _visit(value: object, where: str, context: Context, found: _Findings, depth: int) -> None:
    """Note what `value` and everything below it claims."""
    if depth > MAX_DEPTH:
        found.problems.append(f"{where[:80]}...: is nested more than {MAX_DEPTH} deep; {REMEDY}")
    elif isinstance(value, dict):
        try:
            if isinstance(value, RepeatedKey):
                raise refuse(child(where, value.key), value[value.key], "a key that stands once in its object")
            known = _recognise(value, where, context, found)
        except BadInput as error:
            found.problems.append(str(error))
            found.refused.append(where)
            known = True
        if not known and any(type(item) in (int, float) for item in value.values()):
            found.unchecked.append(where)
        inner = replace(_context(value, where, context), is_within_row=context.is_within_row or _is_row(value))
        for key, item in value.items():
            if not known or key not in _READ:
                _visit(item, child(where, key), inner, found, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _visit(item, child(where, index), context, found, depth + 1)
    elif isinstance(value, float) and not abs(value) < float("inf"):
        found.problems.append(str(refuse(where, value, "a finite number")))


def _recognise(value: dict[str, Any], where: str, context: Context, found: _Findings) -> bool:
    """Whether the object itself is something known, which is noted then."""
    if "paired_test" in value:
        found.comparisons.append(claims.read_comparison(value, where))
    elif "p_value" in value and not {"table", "contingency_table", "lhs"}.isdisjoint(value):
        found.tests.append(claims.read_test(value, where, context.scope))
    elif "lhs_only_correct_fixture_ids" in value:
        found.one_sided.append(claims.read_one_sided(value, where, context.scope))
    elif _is_row(value) and not context.is_within_row:
        read = rows.read_cell if rows.is_cell(value) else rows.read_row
        found.rows.append(read(value, where, context))
    elif rows.is_failure(value):
        found.failures.append(where)
    else:
        alpha = None if where else number(value, ("alpha",), where, 1.0)
        found.alpha = found.alpha if alpha is None else alpha
        return False
    return True


def _is_row(value: Mapping[str, Any]) -> bool:
    return rows.is_cell(value) or (rows.is_row(value) and "p_value" not in value)


def _context(value: Mapping[str, Any], where: str, context: Context) -> Context:
    """What holds for the items of an object."""
    described = [value, *(value[key] for key in _ABOUT if isinstance(value.get(key), dict))]
    models = [one[key] for one in described for key in ("model_id", "model") if isinstance(one.get(key), str)]
    holds_rows = any(isinstance(value.get(key), list) for key in COUNTED_ARRAYS)
    return replace(context, model=models[0] if models else context.model, scope=where if holds_rows else context.scope)


def _counted(value: object) -> Iterator[Counted]:
    """The entries that the paper's accounting counts; a run that is a whole file counts as one."""
    if isinstance(value, list):
        entries = [(child("", i), one) for i, one in enumerate(value)]
        yield from (
            _entry(one, where)
            for where, one in entries
            if isinstance(one, dict) and not {"error", "request"} <= one.keys()
        )
    elif isinstance(value, dict):
        result = value.get("result")
        if isinstance(result, dict) and "observations" in result and "rows" not in value:
            yield _entry(value, "")
            return
        holders = [(value, "")]
        for key in ("models", "families"):
            inside = value.get(key)
            items = enumerate(inside) if isinstance(inside, list) else ()
            holders += [(one, child(key, i)) for i, one in items if isinstance(one, dict)]
        for holder, where in holders:
            for key in COUNTED_ARRAYS:
                items = enumerate(holder[key]) if isinstance(holder.get(key), list) else ()
                for i, one in items:
                    if isinstance(one, dict) and "paired_test" not in one:
                        yield _entry(one, child(child(where, key), i))


def _entry(item: Mapping[str, Any], where: str) -> Counted:
    result = item.get("result")
    seen = item.get("observations", result.get("observations") if isinstance(result, dict) else None)
    return Counted(
        where=where,
        n_observations=len(seen) if isinstance(seen, list) else 0,
        cost_usd=_amount(item.get("estimated_cost_usd")),
        duration_s=_amount(item.get("elapsed_seconds")),
    )


def _amount(value: object) -> float:
    """What the accounting adds: positive numbers; whatever else stands there is noted where the row is read."""
    return float(value) if isinstance(value, int | float) and type(value) is not bool and 0 < value < 1e12 else 0.0
