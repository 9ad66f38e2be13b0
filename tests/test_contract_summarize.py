"""The contract under which the model summarizes its context: cells, refusals, and a run against plain transformers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.composing import composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Observation

ONLY = ("contract=[summarize]", "logger=none")
CONTEXT, QUESTION = "The fox has 12 houses. The owl has 30 trees. " * 6, "What has the fox? It has"
ASK, BETWEEN = " In short:", "\nNow: "


def test_it_makes_one_cell_per_budget_whatever_the_policies() -> None:
    cells = plan_panel(composed("policy=[vorn,tova]", "unit=[token]", "budget=[64,25%]", *ONLY)).pruned
    assert [cell.label for cell in cells] == ["summarize/64", "summarize/25%"]
    assert {(cell.policy, cell.contract, cell.unit, cell.guards) for cell in cells} == {
        ("summarize", "summarize", "", "")
    }
    assert not any(cell.is_reference for cell in cells)
    beside = plan_panel(composed("policy=[vorn]", "unit=[token]", "budget=[64]", "contract=[summarize,prefill_once]"))
    assert [cell.label for cell in beside.pruned] == ["vorn/token/64", "summarize/64"]
    other = plan_panel(composed("budget=[64]", *ONLY, "contract.summarize.separator=' '")).pruned
    shown = hashlib.sha256(b'" "').hexdigest()[:6]
    assert other[0].label == f"summarize(separator={shown})/64"  # a text that is no word by its hash
    assert other[0].cell_id("e") != cells[0].cell_id("e")


def test_an_empty_instruction_is_refused() -> None:
    with pytest.raises(BadInput, match=r"contract.summarize.instruction=' ': must ask for a summary"):
        plan_panel(composed(*ONLY, "contract.summarize.instruction=' '"))


def run(checkpoint: Path, tmp_path: Path, fixture: dict[str, object], *overrides: str) -> dict[str, Observation]:
    from vorn import run

    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "one", "answers": ["12 houses"], **fixture}))
    cfg = composed(
        *ONLY, "task=jsonl", f"task.path={path}", "task.max_new_tokens=5", f"model.id={checkpoint}",
        f"ledger_dir={tmp_path / 'ledgers'}", f"contract.summarize.instruction='{ASK}'",
        "contract.summarize.separator='\nNow: '", *overrides,
    )  # fmt: skip
    run.evaluate(cfg, plan_panel(cfg), tmp_path / "out")
    (folder,) = (tmp_path / "ledgers").iterdir()
    return {one.cell: one for one in read_ledger(folder).observations}


@pytest.mark.integration
def test_a_run_does_what_transformers_does_with_the_two_prompts(random_checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(random_checkpoint)

    def written(text: str, most: int) -> tuple[str, int, int]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        config = GenerationConfig(max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        new = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, ids.shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True), ids.shape[1], len(new)

    fixture = {"context": CONTEXT, "question": QUESTION}
    settings = ("budget=[7,25%]", "outcome.nll=true")
    seen = {one.budget: one for one in run(random_checkpoint, tmp_path, fixture, *settings).values()}
    del seen[""]  # the reference
    context_tokens = len(tokenizer(CONTEXT).input_ids)
    assert sorted(seen) == ["25%", "7"]
    for asked, one in seen.items():
        budget = 7 if asked == "7" else context_tokens // 4
        summary, read, count = written(CONTEXT.rstrip() + ASK, budget)
        answer, tokens, _ = written(summary.strip() + BETWEEN + QUESTION, 5)
        assert one.completion == answer
        assert (one.budget_tokens, one.kept_tokens, one.error) == (budget, count, None)
        work = one.contract_work
        assert (work.read_tokens, work.written_tokens, work.forwards) == (read, count, count)
        assert work.seconds > 0
        assert one.kv_bytes == tokens * 4 * 4 * 32 * 2 * 4  # layers, KV heads, width, keys and values
        ids = tokenizer(summary.strip() + BETWEEN + QUESTION + " 12 houses", return_tensors="pt").input_ids
        with torch.no_grad():
            rows = model(ids).logits[0].log_softmax(-1)
        want = -sum(float(rows[place - 1, ids[0, place]]) for place in range(tokens, ids.shape[1]))
        assert one.answer_nll == pytest.approx(want, abs=1e-3)
    assert len({one.completion for one in seen.values()}) == 2


@pytest.mark.integration
def test_a_fixture_without_a_question_of_its_own_is_refused(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vorn.models.checkpoint.Checkpoint.load", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(BadInput, match=r"fixture 'one' has question_start=0, which leaves 0 .*contract=summarize"):
        run(random_checkpoint, tmp_path, {"prompt": CONTEXT + QUESTION}, "budget=[7]")


@pytest.mark.integration
def test_a_summary_that_is_no_prompt_is_an_error_of_its_cell(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vorn.models.prompts import Renderer

    real = Renderer.prompt

    def refusing(self: Renderer, fixture: object) -> object:
        if BETWEEN in fixture.prompt:
            raise BadInput("fixture 'one': its tokens do not spell its characters")
        return real(self, fixture)

    monkeypatch.setattr(Renderer, "prompt", refusing)
    seen = run(random_checkpoint, tmp_path, {"context": CONTEXT, "question": QUESTION}, "budget=[7]")
    whole, cell = sorted(seen.values(), key=lambda one: one.budget)
    assert cell.error == "BadInput: fixture 'one': its tokens do not spell its characters"
    assert cell.contract_work.written_tokens == 7
    assert whole.error is None
