"""contract=reforward in a panel: what it refuses, what it records, and the paper's choices at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from composing import composed

from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, ContractWork


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["policy=[pyramidkv]"], r"policy=pyramidkv with allocation=pyramid under contract=reforward: tokens leave"),
        (["policy=[vorn]", "allocation=[pyramid]"], r"policy=vorn with allocation=pyramid under contract=reforward"),
        (["policy=[streaming_llm]"], r"policy=streaming_llm under contract=reforward: .* choose sink_recent"),
        (
            ["policy=[evidence_drop]"],
            r"policy=evidence_drop at budget=100% under contract=reforward: .*lower the budget",
        ),
        (
            ["contract.reforward.cached=true"],
            r"contract\.reforward\.cached=True is not legal; give one of: auto, false",
        ),
    ],
)
def test_what_cannot_be_read_again_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_panel(composed("contract=reforward", "policy=[tova]", *overrides))


def test_a_policy_that_draws_at_each_step_is_refused_elsewhere() -> None:
    with pytest.raises(BadInput, match=r"policy=redraw under contract=prefill_once: it means something under reforwar"):
        plan_panel(composed("policy=[tova,redraw]", "contract=[reforward,prefill_once]"))


def test_the_papers_choices_stand_together() -> None:
    cfg = composed("experiment=vorn_mat")
    cells = plan_panel(cfg).pruned
    assert (cfg.task.grade, cfg.task.max_new_tokens) == ("vorn_mat_v2@1", 32)
    assert {cell.contract for cell in cells} == {"reforward"}
    assert {cell.budget for cell in cells} == {"256", "512", "1024"}
    guards = {cell.policy: cell.resolve_guards(256) for cell in cells}
    assert guards == {
        "vorn": (1, 16), "last_query_mass": (1, 16), "step_query_mass": (1, 16), "redraw": (1, 16),
        "sliding_window": (0, 0), "prefix_suffix": (0, 0),
    }  # fmt: skip
    settings = {cell.policy: {k: v for k, v in cell.policy_config.items() if k != "_target_"} for cell in cells}
    mass = {"layers": "final", "heads": "mean"}
    assert settings == {
        "vorn": {"layer": None, "window": 16, "direction": "mean"},
        "last_query_mass": {**mass, "queries": 1}, "step_query_mass": {**mass, "queries": "steps"},
        "redraw": {"seed": 17}, "sliding_window": {"sinks": 0}, "prefix_suffix": {"sinks": 64},
    }  # fmt: skip
    rules = [cell.unit_rule for cell in cells if cell.unit.startswith("sentence")]
    assert {(rule.fill, rule.fit, rule.pool) for rule in rules} == {(False, "drop_lowest", "max")}
    assert {cell.unit_config.get("split") for cell in cells} == {None, "marks"}


@pytest.mark.integration
def test_cells_are_recorded_with_what_they_took(random_checkpoint: Path, tmp_path: Path) -> None:
    from vorn import run

    cfg = composed(
        "policy=[tova]", "unit=[token,sentence]", "unit.fit=drop_lowest", "unit.fill=false", "budget=[32,900]",
        "contract=[prefill_once,reforward]", "contract.reforward.cached=[auto,false]", "limit=1", "logger=none",
        "task.context_tokens=300", "task.keys=4", "task.max_new_tokens=5", f"model.id={random_checkpoint}",
        f"ledger_dir={tmp_path / 'ledgers'}",
    )  # fmt: skip
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 3
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = {one.cell.replace("(fill=false,fit=drop_lowest)", ""): one for one in read_ledger(folder).observations}
    for name in ("reforward", "reforward(cached=false)"):
        small, large = seen[f"tova/token/32/{name}"], seen[f"tova/token/900/{name}"]
        cached = name == "reforward"
        # Five tokens and no end among them: five droppings, each before a token, and four scoring forwards.
        assert (small.error, small.kept_tokens, small.completion) == (
            None,
            32.0,
            seen["tova/token/32/reforward"].completion,
        )
        read = 5 * 32 + 4 * (1 if cached else 33)
        work = small.contract_work
        assert work is not None
        assert work == ContractWork(seconds=work.seconds, forwards=9, read_tokens=read, evictions=5)
        assert small.panel_prefill_s == seen["full"].panel_prefill_s
        assert large.completion == seen["full"].completion
        assert large.kept_tokens == pytest.approx(
            seen["full"].prompt_tokens + 2
        )  # 0 to 4 generated tokens, in the mean
        assert (large.evidence_kept, large.contract_work.evictions) == (1.0, 0)  # type: ignore[union-attr]
        # The guards touch more sentence than 32 tokens hold: an error of these cells alone.
        assert "which unit.fit=drop_lowest keeps whole" in str(seen[f"tova/sentence/32/{name}"].error)
