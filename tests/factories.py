"""Records with every field filled, for the tests of ledgers and reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

from vorn.ledger import LedgerContents
from vorn.records import RESUME_GRADE, Manifest, Observation, Resume


def make_observation(**changes: Any) -> Observation:
    """An observation of policy "tova" at 64 tokens; `changes` are fields, the label and ids follow from them."""
    names = {"policy": "tova", "params": "", "unit": "token", "guards": "matched", "budget": "64"}
    names |= {name: changes.pop(name) for name in list(changes) if name in names}
    if names["policy"] == "full":
        names |= {"unit": "", "guards": "", "budget": ""}
    policy = names["policy"] + (f"({names['params']})" if names["params"] else "")
    cell = "full" if policy == "full" else f"{policy}/{names['unit']}/{names['budget']}"
    fields: dict[str, Any] = (
        {
            "cell": cell,
            "evaluation_id": "e0",
            "fixture_id": "f0",
            "fixture_index": 0,
            "cluster": "",
            "replica_of": "",
            "answer_nll": None,
            "model": "pocket",
            "task": "niah",
            "contract": "prefill_once",
            "budget_tokens": int(names["budget"].rstrip("%") or 1000),
            "grade": "ruler_all@1",
            "outcome": 1.0,
            "completion": " 123",
            "answer_graded": "123",
            "answers": ("123",),
            "prompt_tokens": 1000,
            "kept_tokens": 64.0,
            "evidence_tokens": 8,
            "evidence_kept": 0.5,
            "panel_prefill_s": 0.1,
            "prune_s": 0.01,
            "panel_decode_s": 0.2,
            "batch_rows": 4,
            "kv_bytes": 4096,
            "peak_bytes": None,
        }
        | names
        | changes
    )
    fields.setdefault("fingerprint", f"print of {fields['fixture_id']}")
    identity = "|".join(str(fields[name]) for name in ("evaluation_id", "cell", "guards", "contract"))
    fields.setdefault("cell_id", hashlib.sha256(identity.encode()).hexdigest()[:16])
    return Observation(**fields)


PLAN = {
    "alpha": 0.05,
    "margin": 0.02,
    "discordance": 0.2,
    "families": ["vs_full", "policies", "units", "guards", "contracts"],
    "stop": None,
    "split": None,
    "seed": 0,
}


def make_config(**stats: Any) -> dict[str, Any]:
    """A resolved configuration as a manifest records it; `stats` are changes to the plan of the tests."""
    return {"seed": 11, "limit": None, "task": {"fixtures": 100}, "stats": PLAN | stats}


def make_manifest(**changes: Any) -> Manifest:
    """A manifest of evaluation "e0"."""
    fields: dict[str, Any] = {
        "evaluation_id": "e0",
        "created": "2031-01-01T00:00:00+00:00",
        "host": "a host",
        "pid": 7,
        "rank": 0,
        "config": make_config(),
        "versions": {"python": "3.11.9", "torch": "2.9"},
        "dtype": "float32",
        "device": "cpu",
        "git_revision": "abc",
    }
    return Manifest(**fields | changes)


def make_contents(*observations: Observation, **changes: Any) -> LedgerContents:
    """What a ledger with these observations holds, with a manifest per evaluation; `changes` are other fields."""
    evaluations = dict.fromkeys(seen.evaluation_id for seen in observations)
    contents = LedgerContents(
        observations=observations,
        manifests=tuple(make_manifest(evaluation_id=name) for name in evaluations),
        looks=(),
        damaged=(),
        disagreements=(),
        duplicates=0,
    )
    return replace(contents, **changes)


def run_cell(hits: str, **changes: Any) -> list[Observation]:
    """An observation per character: "1" hit, "0" miss, "h" half of the answers, "x" error; " " was not attempted."""
    outcomes = {"1": 1.0, "0": 0.0, "h": 0.5, "x": None}
    return [
        make_observation(
            fixture_id=f"f{i}",
            fixture_index=i,
            outcome=outcomes[mark],
            error="broke" if mark == "x" else None,
            **changes,
        )
        for i, mark in enumerate(hits)
        if mark != " "
    ]


def in_halves(observations: Iterable[Observation]) -> list[Observation]:
    """The same under ids by whose hash odd indices belong to the half that tests."""

    def name(index: int) -> str:
        names = (f"f{index}-{number}" for number in count())
        return next(n for n in names if hashlib.sha256(f'"{n}"'.encode()).digest()[7] % 2 == index % 2)

    return [replace(seen, fixture_id=name(seen.fixture_index)) for seen in observations]


def resume_cell(
    policy: str, seconds: dict[str, list[float]], *, fired: int | None = None, replay: int = 40, **changes: Any
) -> list[Observation]:
    """One resume per time, of workload "w" in 8 slots; the keys are the clusters, `changes` fields of all."""
    evictions = changes.pop("evictions", 1)
    law = changes.pop("law", "measured")
    fields: dict[str, Any] = {
        "unit": "slots", "budget": "8", "task": "w", "outcome": 0.5, "grade": RESUME_GRADE, "model": "simulated",
        "contract": "" if policy == "full" else "grid=2048+tail+leaf, swap", "prompt_tokens": 100, "kept_tokens": None,
        "evidence_tokens": None, "evidence_kept": None, "completion": "", "answers": (),
    } | changes  # fmt: skip
    fields.setdefault("cell", policy if policy == "full" else f"{policy}/{fields['budget']}")
    found = []
    for cluster, times in seconds.items():
        for number, ttft_s in enumerate(times):
            resume = Resume(
                matched_tokens=90, anchor_tokens=50, replay_tokens=replay, recomputed_tokens=50, ttft_s=ttft_s,
                ttft_law=law, kv_without_state=False, evictions=evictions, protection_fired=fired,
                protection_saturated=fired, logit_difference=None, greedy_equal=None,
            )  # fmt: skip
            name = f"{cluster}/{number}"
            found.append(make_observation(policy=policy, cluster=cluster, fixture_id=name, resume=resume, **fields))
    return found


def make_panel() -> list[Observation]:
    """Two units, two budgets, three policies with clear differences, and a reference."""
    cells = run_cell("1" * 40, policy="full")
    for unit, more in (("token", 0), ("sentence", 3)):
        for budget, better in (("64", 0), ("25%", 4)):
            for policy, hits in (("tova", 30), ("h2o", 28), ("random", 3)):
                hits += more + better
                cells += run_cell("1" * hits + "0" * (40 - hits), policy=policy, unit=unit, budget=budget)
    return cells
