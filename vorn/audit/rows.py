"""Rows of released artifacts: from a JSON object to a row with its observations.

An object is known by its keys, never by the name or date of its file. All raise BadInput with the field path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vorn.audit.published import Row
from vorn.audit.source import (
    MAX_COUNT,
    RepeatedKey,
    child,
    count,
    interval,
    number,
    present,
    refuse,
    text,
)
from vorn.records import Observation, digest

HITS = ("hits", "hit_count", "hits_before_oom", "partial_hits", "cases_with_top_k_hit", "success_cases")
SIZES = ("cases", "case_count", "n", "n_completed_before_oom", "partial_case_count", "total_cases")
RATES = ("hit_rate", "accuracy", "needle_hit_rate", "hit_rate_before_oom", "top_k_hit_rate")
INTERVALS = ("wilson_ci_95", "wilson")
COSTS = ("estimated_cost_usd", "inference_cost_usd", "reported_success_cost_usd")
DURATIONS = ("elapsed_seconds", "wall_clock_seconds", "reported_success_elapsed_seconds")
METHODS = ("method", "retention_policy", "baseline")
BUDGETS = ("budget", "cache_budget_tokens")
FAILURES = ({"error", "request"}, {"status", "reason"}, {"status", "failure"}, {"error_class"}, {"error_summary"})
_ANY_BUDGET = 10**9


@dataclass(frozen=True, slots=True)
class Context:
    """What the objects around an object say about it."""

    scope: str = ""  # field path of the nearest object that holds rows of its own
    model: str = ""
    method: str = ""
    budget: str = ""
    guards: str = ""
    is_within_row: bool = False  # what stands in a row is part of it, not another


def is_cell(item: Mapping[str, Any]) -> bool:
    """Whether the result of a run stands in the object's `result`."""
    result = item.get("result")
    return isinstance(result, dict) and ("observations" in result or "metrics" in result)


def is_row(item: Mapping[str, Any]) -> bool:
    """Whether the object is a run with its outcome."""
    counted = not item.keys().isdisjoint(SIZES) and not item.keys().isdisjoint(HITS)
    rated = not item.keys().isdisjoint(RATES) and not item.keys().isdisjoint((*SIZES, *METHODS, *COSTS, *DURATIONS))
    return "observations" in item or counted or rated


def is_failure(item: Mapping[str, Any]) -> bool:
    """Whether the object is a run that failed."""
    return any(known <= item.keys() for known in FAILURES)


def read_row(item: Mapping[str, Any], where: str, context: Context) -> Row:
    """The row of an object with a rate, counts or observations."""
    # A list of cases beside the observations is no number of them.
    n = count(item, [key for key in SIZES if not isinstance(item.get(key), list)], where)
    hits = count(item, HITS, where)
    if n is not None and hits is not None and hits > n:
        raise refuse(child(where, "hits"), hits, f"at most the {n} fixtures of the row")
    budget = count(item, BUDGETS, where, _ANY_BUDGET)
    row = Row(
        where=where,
        label=text(item, ("label",), where),
        model=text(item, ("model_id", "model"), where) or context.model,
        method=text(item, METHODS, where) or context.method,
        budget=context.budget if budget is None else str(budget),
        guards=text(item, ("guardrails",), where) or context.guards,
        n=n,
        hits=hits,
        rate=number(item, RATES, where, 1.0),
        interval=interval(item, INTERVALS, where),
        cost_usd=number(item, COSTS, where),
        duration_s=number(item, DURATIONS, where),
        observations=(),
    )
    return _with_observations(row, item, child(where, "observations"))


def read_cell(item: Mapping[str, Any], where: str, context: Context) -> Row:
    """The row of a run whose request and cost stand around its `result`."""
    result, inner = item["result"], child(where, "result")
    parts = {}
    for key in ("metrics", "metadata"):
        parts[key] = result.get(key, {})
        if not isinstance(parts[key], dict):
            raise refuse(child(inner, key), parts[key], "an object")
    if len(parts["metrics"]) > 1 or present(item, RATES):
        raise refuse(child(inner, "metrics"), parts["metrics"], "one rate per run")
    # What a run says of itself, where the object around it does not; numbers are text there.
    named = {key: parts["metadata"][key] for key in ("model_id", "retention_policy") if key in parts["metadata"]}
    row = read_row({"baseline": result.get("baseline"), **named, **item}, where, context)
    rate = number(parts["metrics"], list(parts["metrics"]), child(inner, "metrics"), 1.0)
    return _with_observations(replace(row, rate=rate), result, child(inner, "observations"))


def _with_observations(row: Row, item: Mapping[str, Any], where: str) -> Row:
    """The row with the observations that stand in the item, each checked.

    What a file does not say of a fixture is None, or "" for text. `budget_tokens` is 0 for a row without a budget,
    since no file has the lengths of its prompts.
    """
    value = item.get("observations")
    if value is None:
        return row
    if not isinstance(value, list) or len(value) > MAX_COUNT:
        raise refuse(where, value, f"a list of at most {MAX_COUNT} observations")
    common = _common(row)
    seen = [_observation(one, child(where, index), common) for index, one in enumerate(value)]
    return replace(row, observations=tuple(seen))


def _observation(item: object, where: str, common: Mapping[str, Any]) -> Observation:
    if not isinstance(item, dict) or isinstance(item, RepeatedKey):
        raise refuse(where, item, "an object with fixture_id, correct and prediction, each once")
    for key, kind in (("fixture_id", str), ("correct", bool), ("prediction", str)):
        if type(item.get(key)) is not kind:
            raise refuse(child(where, key), item.get(key), "a string" if kind is str else "true or false")
    peak = number(item, ("peak_memory_allocated_mb",), where)
    return Observation(
        fixture_id=item["fixture_id"],
        outcome=float(item["correct"]),
        completion=item["prediction"],
        answer_graded=text(item, ("scored_prediction",), where) or item["prediction"],
        peak_bytes=None if peak is None else round(peak * 2**20),
        **common,
    )


def _common(row: Row) -> dict[str, Any]:
    """The fields that all observations of a row share."""
    # As ASCII: a file may hold half of a surrogate pair, which has no UTF-8 to be hashed.
    identity = json.dumps([row.model, row.method, row.budget, row.guards, row.label])
    missing = (
        "answer_nll", "prompt_tokens", "kept_tokens", "evidence_tokens", "evidence_kept", "panel_prefill_s", "prune_s",
        "panel_decode_s", "batch_rows", "kv_bytes",
    )  # fmt: skip
    texts = ("cluster", "fingerprint", "task", "contract", "params", "unit", "replica_of", "grade")
    return {
        **dict.fromkeys(missing),
        **dict.fromkeys(texts, ""),
        "cell_id": digest(identity),
        "cell": row.name,
        "evaluation_id": digest(json.dumps(row.model)),
        "fixture_index": 0,
        "model": row.model,
        "policy": row.method,
        "guards": row.guards,
        "budget": row.budget,
        "budget_tokens": int(row.budget or 0),
        "answers": (),
    }
