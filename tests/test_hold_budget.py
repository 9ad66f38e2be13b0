"""The contract hold_budget: what it refuses before a model is loaded, and what a run under it records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from composing import CONF, composed
from hydra.utils import get_class

from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput

SMALL = ("unit=[token]", "budget=[64]", "contract=[hold_budget]")
RULES = sorted(path.stem for path in (CONF / "policy").glob("*.yaml") if "decode_rule: true" in path.read_text())


def test_policies_say_in_their_file_whether_they_have_a_decode_rule() -> None:
    plan = plan_panel(composed("policy=all", "unit=[token]", "budget=[64]"))
    with_rule = {
        cell.policy for cell in plan.pruned if hasattr(get_class(cell.policy_config["_target_"]), "decode_rule")
    }
    assert {cell.policy for cell in plan.pruned if cell.has_decode_rule} == with_rule == set(RULES)
    assert {"tova", "h2o", "vorn", "sink_recent", "sliding_window", "random"} <= with_rule


@pytest.mark.parametrize("name", ["snapkv", "pyramidkv", "ada_snapkv", "expected_attention", "evidence_keep"])
def test_a_policy_without_a_decode_rule_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadInput, match=rf"policy={name} under contract=hold_budget: it prunes the prompt only.*leave"):
        plan_panel(composed(*SMALL, f"policy=[{name}]"))


def test_what_else_cannot_be_held_is_refused() -> None:
    for overrides, message in (
        (["allocation=[pyramid]"], r"allocation=pyramid under contract=hold_budget: .* choose allocation=uniform"),
        (["contract.hold_budget.trigger=line"], r"contract.hold_budget.trigger: 'line'.*sentence, step"),
        (["contract.hold_budget.overflow_percent=-1"], r"contract.hold_budget.overflow_percent=-1 is not legal"),
        (["contract.hold_budget.overflow_percent=50"],
         r"hold_budget.overflow_percent=50 has no effect with first_token=refeed, trigger=step; leave it out, or"),
        (["contract.hold_budget.overflow_percent=[20,50]"], r"hold_budget.overflow_percent=50 has no effect with"),
        (["+policy.snapkv.decode_rule=true", "policy=[snapkv]"], r"policy.snapkv.decode_rule=True: belongs to what"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=message):
            plan_panel(composed(*SMALL, "policy=[h2o]", *overrides))


def test_triggers_are_an_axis() -> None:
    plan = plan_panel(composed(*SMALL, "policy=[tova]", "contract.hold_budget.trigger=[step,sentence]"))
    labels = [cell.label for cell in plan.pruned]
    assert labels == ["tova/token/64/hold_budget", "tova/token/64/hold_budget(trigger=sentence)"]


def test_the_overflow_makes_cells_only_where_it_means_something() -> None:
    """Oracle: the cells by hand; the identity as it stood in ledgers when every setting was part of it."""
    asked = "contract.hold_budget.trigger=[step,sentence]", "contract.hold_budget.overflow_percent=[10,50]"
    plan = plan_panel(composed(*SMALL, "policy=[tova]", *asked))
    assert [cell.contract for cell in plan.pruned] == [
        "hold_budget",
        "hold_budget(trigger=sentence,overflow_percent=10)",
        "hold_budget(trigger=sentence,overflow_percent=50)",
    ]
    step = plan.pruned[0]
    assert step.identity["contract"] == ["hold_budget", "refeed", {"trigger": "step", "overflow_percent": 20}]
    (alone,) = plan_panel(composed(*SMALL, "policy=[tova]")).pruned
    assert alone == step


@pytest.mark.integration
def test_a_run_measures_both_contracts_on_one_prefill(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vorn import run
    from vorn.kv.held import HeldGroup

    end_step, held = HeldGroup.end_step, {}

    def noting(group: HeldGroup, tokens: Sequence[int]) -> dict[int, str]:
        errors = end_step(group, tokens)
        counts = (group.positions >= 0).sum(dim=-1).amax(dim=(0, 2)).tolist()
        triggers = [type(hold.trigger).__name__ for hold in group.holds]
        for branch, trigger, count in zip(group.branches, triggers, counts, strict=True):
            held[trigger, branch] = count
        return errors

    monkeypatch.setattr(HeldGroup, "end_step", noting)
    cfg = composed(
        f"policy=[{','.join(RULES)}]", "unit=[token,sentence]", "budget=[80]", "contract=[prefill_once,hold_budget]",
        "contract.hold_budget.trigger=[step,sentence]", "limit=1", "logger=none", "task.context_tokens=200",
        "task.keys=4", "task.max_new_tokens=4", f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}",
    )  # fmt: skip
    assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
    (folder,) = (tmp_path / "ledgers").iterdir()
    seen = {one.cell: one for one in read_ledger(folder).observations}
    assert len(seen) == 1 + 2 * 3 * len(RULES)
    assert len({one.panel_prefill_s for one in seen.values()}) == 1
    steps, sentences = ({c for (t, _), c in held.items() if t == name} for name in ("EveryStep", "SentenceEnd"))
    assert steps == {80}
    assert max(sentences) == 83  # the completion has four tokens, of which the last is not read
    assert len(held) == 2 * 2 * len(RULES)
    for name in RULES:
        once, held = seen[f"{name}/token/80"], seen[f"{name}/token/80/hold_budget"]
        assert held.kept_tokens == once.kept_tokens == 80
        assert held.kv_bytes == once.kv_bytes
        assert held.contract == "hold_budget"
