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
from vorn.audit.source import RepeatedKey, child, load_json, number, refuse
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
    failures_only = isinstance(value, list) and bool(value) and found.n_failures == len(value)
    if not (found.rows or found.tests or found.comparisons or found.problems or found.n_failures):
        keys = ", ".join(list(value)[:8]) if isinstance(value, dict) else type(value).__name__
        raise BadInput(
            f"has no structure that is known: no run, test, family or failure in it ({keys[:200]}); legal are the "
            "artifacts that docs/audit.md describes; leave it out"
        )
    return Artifact(
        path=str(path),
        rows=tuple(found.rows),
        tests=tuple(found.tests),
        comparisons=tuple(found.comparisons),
        one_sided=tuple(found.one_sided),
        alpha=found.alpha,
        n_failures=found.n_failures,
        is_failure_list=failures_only,
        counted=tuple(_counted(value)),
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
    n_failures: int = 0
    unchecked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _visit(value: object, where: str, context: Context, found: _Findings, depth: int) -> None:
    """Note what `value` and everything below it claims."""
    if depth > MAX_DEPTH:
        found.problems.append(f"{where[:80]}...: is nested more than {MAX_DEPTH} deep; repair the file or leave it out")
    elif isinstance(value, dict):
        try:
            if isinstance(value, RepeatedKey):
                raise refuse(child(where, value.key), value[value.key], "a key that stands once in its object")
            known = _recognise(value, where, context, found)
        except BadInput as error:
            found.problems.append(str(error))
            known = True
        if not known and any(type(item) in (int, float) for item in value.values()):
            found.unchecked.append(where)
        inner = _context(value, where, context)
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
    elif rows.is_cell(value):
        found.rows.append(rows.read_cell(value, where, context))
    elif rows.is_row(value):
        found.rows.append(rows.read_row(value, where, context))
    elif rows.is_failure(value):
        found.n_failures += 1
    else:
        if "alpha" in value:
            found.alpha = number(value, ("alpha",), where, 1.0) or ALPHA
        return False
    return True


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
        if not (entries and isinstance(entries[0][1], dict) and {"error", "request"} <= entries[0][1].keys()):
            yield from (_entry(one, where) for where, one in entries if isinstance(one, dict))
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
