"""Small published artifacts, one per kind of schema, as plain dicts; their numbers are worked out by hand."""

from __future__ import annotations

from typing import Any

ANSWERS = ("4711", "4712", "4713", "4714")
# 95 % Wilson intervals of 0, 2 and 3 of 4 for z = 1.96, from the closed form with p and q.
WILSON = {
    0: [0.0, 0.48990002040399916],
    2: [0.15003570882017148, 0.8499642911798285],
    3: [0.3006360524426366, 0.9544139373553637],
}


def observations(marks: str, task: str = "niah_multikey_1_4k", wrap: str = "{}") -> list[dict[str, Any]]:
    """One per mark: "1" completes with the fixture's number inside `wrap`, "0" with nothing of use."""
    return [
        {
            "fixture_id": f"{task}-{i}",
            "correct": mark == "1",
            "prediction": wrap.format(ANSWERS[i]) if mark == "1" else "no idea",
        }
        for i, mark in enumerate(marks)
    ]


def row(label: str, marks: str, **changes: Any) -> dict[str, Any]:
    """A row of four fixtures with everything that a released one has."""
    hits = marks.count("1")
    return {
        "label": label,
        "method": "token_vorn",
        "budget": 512,
        "guardrails": "prefix_plus_recent",
        "hits": hits,
        "cases": 4,
        "hit_rate": hits / 4,
        "wilson_ci_95": WILSON.get(hits),
        "elapsed_seconds": 36.0 + len(label) / 1000,
        "estimated_cost_usd": 0.25,
        "observations": observations(marks),
    } | changes


def pair_test(lhs: str, rhs: str, table: list[list[int]], p_value: float) -> dict[str, Any]:
    """A paired test as the artifacts have it."""
    discordant = table[0][1] + table[1][0]
    return {
        "lhs": lhs,
        "rhs": rhs,
        "paired": True,
        "same_n": True,
        "test": "mcnemar_exact_two_sided",
        "table": table,
        "p_value": p_value,
        "discordant_pairs": discordant,
        "lhs_discordant_share": table[0][1] / discordant if discordant else None,
    }


def flat() -> dict[str, Any]:
    """Rows with observations and paired tests; "a" and "b" differ on three fixtures, all for "a"."""
    return {
        "schema_version": "result-envelope/v0.2",
        "rows": [row("a", "1110"), row("b", "0000"), row("c", "1100")],
        "pairwise_tests": [
            pair_test("a", "b", [[0, 3], [0, 1]], 0.25),
            pair_test("a", "c", [[2, 1], [0, 1]], 1.0),
            pair_test("a", "a", [[3, 0], [0, 1]], 1.0),
        ],
        "run_conditions": {"model": "a/model", "random_seed": 17},
    }


def cell(marks: str, **changes: Any) -> dict[str, Any]:
    """A run as its request with the result inside."""
    return {
        "model_id": "a/model",
        "retention_policy": "vorn",
        "cache_budget_tokens": 1024,
        "case_count": 4,
        "elapsed_seconds": 72.0,
        "estimated_cost_usd": 0.5,
        "result": {
            "baseline": "vorn_live",
            "metadata": {"case_count": "4", "model_id": "a/model"},
            "metrics": {"needle_hit_rate": marks.count("1") / 4},
            "observations": observations(marks),
        },
    } | changes


def family(lhs: str, discordant: int, p_holm: float, label: str) -> dict[str, Any]:
    """A comparison of a family on ten fixtures; all discordant ones are for lhs."""
    return {
        "family_id": "one",
        "comparison": {"lhs": lhs, "rhs": "base"},
        "lhs_hit_rate": discordant / 10,
        "rhs_hit_rate": 0.0,
        "delta_hit_rate": discordant / 10,
        "paired_test": {
            "name": "mcnemar_exact_two_sided",
            "p_value": 2 * 0.5**discordant if discordant else 1.0,
            "holm_adjusted_p_within_family": p_holm,
            "discordant_pairs": discordant,
            "table": [[0, discordant], [0, 10 - discordant]],
        },
        "classification": label,
    }


def families() -> dict[str, Any]:
    """A family of three under Holm: 2/2^8 * 3, 2/2^7 * 2, 1; and a claim that cites one of them."""
    comparisons = [
        family("x", 7, 0.03125, "publication_strong"),
        family("y", 8, 0.0234375, "publication_strong"),
        family("z", 0, 1.0, "non_discriminative"),
    ]
    return {"alpha": 0.05, "comparisons": comparisons, "claims": [{"support": [comparisons[0]]}]}


def legacy() -> dict[str, Any]:
    """Counts without observations, intervals as objects, Fisher's tests on counts and on a table."""
    side = {
        "method": "m",
        "case_count": 4,
        "hit_count": 3,
        "wilson_ci_95": dict(zip(("low", "high"), WILSON[3], strict=True)),
    }
    other = {"method": "n", "case_count": 4, "hit_count": 0, "hit_rate": 0.0}
    return {
        "analysis": {
            "alpha": 0.05,
            "requested_comparisons": [
                # C(3,3) C(5,1) / C(8,4) on each tail.
                {
                    "test": "two_sided_fisher_exact",
                    "lhs": side,
                    "rhs": other,
                    "p_value": 1 / 7,
                    "significant_at_0_05": False,
                }
            ],
        },
        "rows": [{**side, "wall_clock_seconds": 9.5, "inference_cost_usd": 0.125, "hit_rate": 0.75}],
        "significance": {
            "test": "fisher_exact_two_sided",
            "contingency_table": [[3, 1], [1, 3]],
            "p_value": 34 / 70,
            "odds_ratio": 9.0,
            "absolute_hit_rate_delta": 0.5,
        },
    }


# Kind -> value, rows, rows with observations, and totals: rows, with observations, observations, USD, hours.
KINDS: dict[str, tuple[Any, int, int, tuple[int, int, int, float, float]]] = {
    "rows": (flat(), 3, 3, (3, 3, 12, 0.75, 0.03)),
    "arrays by unit": (
        {"ceiling": row("v", "1110"), "sentence_rows": [row("s", "1100")], "token_rows": [row("t", "0000")]},
        3,
        3,
        (2, 2, 8, 0.5, 0.02),
    ),
    "references beside rows": (
        {
            "historical_reference_rows": {"tova_style": [row("old", "1110")]},
            "sentence_attention_rows": [row("n", "1100")],
        },
        2,
        2,
        (1, 1, 4, 0.25, 0.01),
    ),
    "models": ({"models": [{"rows": [row("a", "1110")], "pairwise_tests": []}]}, 1, 1, (1, 1, 4, 0.25, 0.01)),
    "rows by name of the model": (
        {
            "models": {
                "qwen": {"rows": [{"method": "Vanilla", "hit_rate": 0.0}]},
                "llama": {"status": "blocked", "failure": {}},
            }
        },
        1,
        0,
        (0, 0, 0, 0.0, 0.0),
    ),
    "list of runs": ([cell("1100"), cell("0000")], 2, 2, (2, 2, 8, 1.0, 0.04)),
    "one run": (cell("1110"), 1, 1, (1, 1, 4, 0.5, 0.02)),
    "phases": (
        {
            "phase1_cells": [cell("1110")],
            "phase3_a100_cells": [cell("0000")],
            "phase3_h100_oom_skipped": {"reason": "x"},
        },
        2,
        2,
        (2, 2, 8, 1.0, 0.04),
    ),
    "failures": ([{"error": "broke", "request": {"cache_budget_tokens": 4}}], 0, 0, (0, 0, 0, 0.0, 0.0)),
    "failed rows beside rows": (
        {"rows": [row("a", "1110")], "failed_rows": [{"label": "b", "status": "failed", "reason": "out of memory"}]},
        1,
        1,
        (1, 1, 4, 0.25, 0.01),
    ),
    "counts alone": (legacy(), 3, 0, (1, 0, 0, 0.0, 0.0)),
    "rates alone": (
        {"rows": [{"method": "vorn", "accuracy": 0.5, "wall_clock_seconds": 3.0}]},
        1,
        0,
        (1, 0, 0, 0.0, 0.0),
    ),
    "seeds": (
        {"budgets": [{"budget": 256, "runs": [{"seed": 17, "hit_rate": 0.04, "wall_clock_seconds": 2.0}]}]},
        1,
        0,
        (0, 0, 0, 0.0, 0.0),
    ),
    "cells by family": (
        {"cells_by_family": {"A": [{"method": "vorn", "budget": 64, "hit_rate": 0.5, "n": 4, "wilson": WILSON[2]}]}},
        1,
        0,
        (0, 0, 0, 0.0, 0.0),
    ),
    "partial rows": (
        {"rows": [{"method": "h2o", "status": "oom", "n_completed_before_oom": 3, "hits_before_oom": 0}]},
        1,
        0,
        (1, 0, 0, 0.0, 0.0),
    ),
    "probes": (
        {"probes": {"line": {"failure": {"case_count": 4, "cases_with_top_k_hit": 1, "top_k_hit_rate": 0.25}}}},
        1,
        0,
        (0, 0, 0, 0.0, 0.0),
    ),
    "manifest of shards": (
        {"case_count": 4, "format": "sharded", "summary": {"success_cases": 1, "failure_cases": 3, "total_cases": 4}},
        1,
        0,
        (0, 0, 0, 0.0, 0.0),
    ),
    "runs with their steps": (
        {
            "budget_runs": [
                {"hit_rate": 0.75, "observations": observations("1110"), "cases": [{"observations": observations("1")}]}
            ]
        },
        1,
        1,
        (0, 0, 0, 0.0, 0.0),
    ),
    "families of tests": (families(), 0, 0, (0, 0, 0, 0.0, 0.0)),
}
