"""What every policy of conf/policy promises, found by glob: form, determinism, budget, guards, growth, chunks."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from composing import CONF, composed
from hydra.utils import instantiate
from tiny_models import prompt, tiny_model
from torch import Tensor

from vorn.cells import CellSpec
from vorn.kv.capture import prefill
from vorn.kv.layout import model_shape
from vorn.kv.policy import CellPolicy
from vorn.kv.retention import Kept
from vorn.kv.signals import PrefillSignals, Signal
from vorn.panel import plan_panel

TOKENS, SINKS, RECENT = 101, 2, 3
EVIDENCE = (40, 41, 42)
FILES = {path.stem: path.read_text() for path in (CONF / "policy").glob("*.yaml") if path.stem not in ("all", "full")}
# Those that mean something under other contracts alone are tested with them.
POLICIES = sorted(name for name, text in FILES.items() if "\n  contracts:" not in text)
# With an allocation the shares of layers or heads move with the budget, and nothing is promised.
EVEN = [name for name in POLICIES if "\n  allocation:" not in FILES[name]]
policies = pytest.mark.parametrize("name", POLICIES)


@cache
def cells() -> dict[str, CellSpec]:
    """A cell of single tokens of every policy, as the configuration makes it."""
    plan = plan_panel(composed("policy=[all,step_query_mass]", "unit=[token]", "budget=40"))
    return {cell.policy: cell for cell in plan.pruned}


def made(name: str) -> CellPolicy:
    cell = cells()[name]
    allocation = instantiate(cell.allocation_config) if cell.allocation_config else None
    return CellPolicy(instantiate(cell.policy_config), instantiate(cell.unit_config), cell.unit_rule, allocation)


@cache
def read(chunk_tokens: int | None = None) -> PrefillSignals:
    """One prefill with the signals of all policies, as in a panel."""
    model = tiny_model("qwen3")
    needs = frozenset[Signal]().union(*(made(name).needs(model_shape(model)) for name in POLICIES))
    done = prefill(model, prompt(TOKENS), needs, chunk_tokens=chunk_tokens, room=1, seed=5, evidence=EVIDENCE)
    return done.signals


def scores(name: str, signals: PrefillSignals) -> Tensor:
    return made(name).scorer(signals)


def rows(kept: Kept) -> list[list[int]]:
    """The kept positions of every layer and KV head."""
    found = []
    for layer in range(4):
        heads = kept.layer(layer).tolist()
        found += [[p for p in heads[head % len(heads)] if p >= 0] for head in range(2)]
    return found


def keep(name: str, budget: int) -> list[list[int]]:
    ids = list(range(TOKENS))
    return rows(made(name).keep(read(), ids, budget, sinks=SINKS, recent=RECENT))


def test_every_policy_file_makes_a_cell() -> None:
    assert sorted(cells()) == POLICIES
    assert len(POLICIES) >= 17


@policies
def test_scores_have_the_form_that_selection_needs(name: str) -> None:
    got = scores(name, read())
    assert got.dtype == torch.float32
    assert got.shape[0] in (1, 4)
    assert got.shape[1] in (1, 2)
    assert got.shape[2] == TOKENS
    assert not got.isnan().any()
    assert not got.isposinf().any()
    assert (got[0, 0] != got[0, 0, 0]).any()  # it ranks something


@policies
def test_equal_parameters_are_one_scorer_and_score_alike(name: str) -> None:
    first, second = made(name), made(name)
    assert first.scorer is not second.scorer
    assert first.scorer == second.scorer
    assert hash(first) == hash(second)
    torch.manual_seed(99)
    assert torch.equal(first.scorer(read()), second.scorer(read()))


@policies
def test_chunks_change_no_score(name: str) -> None:
    torch.testing.assert_close(scores(name, read(17)), scores(name, read()), rtol=2e-4, atol=2e-5)


@policies
@pytest.mark.parametrize("budget", [5, 40, 83, TOKENS - 1])
def test_the_budget_is_spent_exactly_and_the_guards_are_kept(name: str, budget: int) -> None:
    got = keep(name, budget)
    guards = {*range(SINKS), *range(TOKENS - RECENT, TOKENS)}
    banned = len(EVIDENCE) if name == "evidence_drop" and budget == TOKENS - 1 else 0
    assert sum(map(len, got)) == len(got) * (budget - max(0, banned - 1))
    for row in got:
        assert row == sorted(set(row))
        assert guards <= set(row) <= set(range(TOKENS))
    assert keep(name, budget) == got


@pytest.mark.parametrize("name", EVEN)
def test_a_larger_budget_keeps_what_a_smaller_one_kept(name: str) -> None:
    for smaller, larger in ((20, 21), (40, 80)):
        assert all(set(few) <= set(more) for few, more in zip(keep(name, smaller), keep(name, larger), strict=True))


@policies
def test_a_budget_of_the_whole_prompt_evicts_nothing_but_what_is_banned(name: str) -> None:
    gone = set(EVIDENCE) if name == "evidence_drop" else set()
    assert keep(name, TOKENS) == [[p for p in range(TOKENS) if p not in gone]] * 8
