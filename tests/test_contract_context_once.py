"""The contract that evicts before the question, in whole runs on an untrained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.composing import composed
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Observation

pytestmark = pytest.mark.integration
SMALL = ("logger=none", "limit=3", "unit=[token]", "contract=[context_once]")
SHARED = ("task=shared_context", "task.sequence_tokens=260", "task.keys=3", "task.questions=2", "task.max_new_tokens=5")
Seen = dict[tuple[str, int], Observation]


@pytest.fixture
def measure(random_checkpoint: Path, tmp_path: Path) -> Callable[..., Seen]:
    """Observations of a run, by label and fixture; runs `into` the same ledger extend each other."""

    def run(*overrides: str, into: str = "ledgers", task: tuple[str, ...] = SHARED) -> Seen:
        from vorn import run

        cfg = composed(*SMALL, *task, f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / into}", *overrides)
        assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == 0
        (folder,) = (tmp_path / into).iterdir()
        seen = read_ledger(folder).observations
        return {(one.cell, one.fixture_index): one for one in seen}

    return run


def test_budget_counts_the_context_and_a_context_is_read_once(
    measure: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vorn.work

    real, read = vorn.work.prefill, []
    monkeypatch.setattr(vorn.work, "prefill", lambda *a, **k: read.append(a[1].shape[1]) or real(*a, **k))
    seen = measure("policy=[h2o,random]", "budget=[32,100%]")
    assert len(read) == 5  # the prompts of three fixtures for the reference, and the contexts of two clusters
    for index in range(3):
        full = seen["full", index]
        cells = [
            seen[f"{policy}/token/{budget}/context_once", index]
            for policy in ("h2o", "random")
            for budget in ("32", "100%")
        ]
        context = cells[1].budget_tokens
        assert context in read
        for one in cells:
            assert one.contract == "context_once"
            assert one.budget_tokens == (32 if one.budget == "32" else context)
            assert one.kept_tokens == one.budget_tokens + full.prompt_tokens - context
            assert one.kv_bytes == one.kept_tokens * 4 * 4 * 32 * 2 * 4  # layers, KV heads, width, keys and values
            assert one.contract_work.read_tokens == full.prompt_tokens - context
            assert one.contract_work.prefill_is_reused == (index == 1)
            assert one.batch_rows == 4
        assert {one.completion for one in cells if one.budget == "100%"} == {full.completion}
        assert {one.evidence_kept for one in cells if one.budget == "100%"} == {1.0}
    assert seen["h2o/token/32/context_once", 0].panel_prefill_s == seen["h2o/token/32/context_once", 1].panel_prefill_s


def test_it_does_not_matter_which_question_came_first(measure: Callable[..., Seen]) -> None:
    cells = ("policy=[random,evidence_keep,h2o]", "budget=[64]")
    at_once = measure(*cells, "limit=2")
    # The second run reads the context for the first question without h2o's signals, which the second one needs.
    measure("policy=[h2o]", "budget=[64]", "limit=1", into="resumed")
    resumed = measure(*cells, "limit=2", into="resumed")
    assert at_once["random/token/64/context_once", 1].contract_work.prefill_is_reused
    assert not resumed["random/token/64/context_once", 1].contract_work.prefill_is_reused
    for key, one in at_once.items():
        assert (one.completion, one.evidence_kept) == (resumed[key].completion, resumed[key].evidence_kept)
    # A shared context is scored anew for each fixture, which has evidence of its own.
    assert [at_once["evidence_keep/token/64/context_once", index].evidence_kept for index in (0, 1)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("keys", "start"),
    [({"prompt": "What has the fox?"}, 0), ({"context": "Wha", "question": "t has the fox?"}, 3)],
    ids=["not told apart", "within a token"],
)
def test_a_fixture_without_a_context_is_refused_before_weights_are_loaded(
    measure: Callable[..., Seen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], start: int
) -> None:
    monkeypatch.setattr("vorn.models.checkpoint.Checkpoint.load", lambda *_, **__: pytest.fail("weights were loaded"))
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "one", "answers": ["12"], **keys}))
    with pytest.raises(BadInput, match=rf"fixture 'one' has question_start={start}, which leaves 0 of its \d+ tokens"):
        measure("budget=[20]", task=("task=jsonl", f"task.path={path}"))


def test_answers_are_weighed_in_every_contract(
    measure: Callable[..., Seen], random_checkpoint: Path, tmp_path: Path
) -> None:
    """Oracle: log-softmax of one forward of transformers over the prompt's and the answer's text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path / "mine.jsonl"
    text = {"context": "The fox has 12 and a house. " * 8, "question": "What has the fox? It has"}
    path.write_text(json.dumps({"id": "one", "answers": ["12 and a house and more than that", "no"], **text}))
    task = ("task=jsonl", f"task.path={path}", "task.max_new_tokens=2", "contract=[prefill_once,context_once]")
    seen = measure("outcome.nll=true", "policy=[random]", "budget=[30,100%]", task=task)
    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint)
    ids = tokenizer("".join(text.values()) + " 12 and a house and more than that", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(random_checkpoint)(ids).logits[0].log_softmax(-1)
    first = seen["full", 0].prompt_tokens
    want = -float(sum(logits[place - 1, ids[0, place]] for place in range(first, ids.shape[1])))
    assert ids.shape[1] - first > 2  # more tokens than are generated
    whole = [one for (label, _), one in seen.items() if label == "full" or "100%" in label]
    assert [one.answer_nll for one in whole] == pytest.approx([want] * 3, abs=1e-3)
    pruned = [one.answer_nll for (label, _), one in seen.items() if "/30" in label]
    assert len(pruned) == 2
    assert all(abs(one - want) > 1e-3 for one in pruned)
    assert "answer nats" in (tmp_path / "out" / "report.md").read_text()
