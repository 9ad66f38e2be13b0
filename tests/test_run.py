"""A whole evaluation on an untrained model: records, resuming, failures, exit codes. Oracle: transformers' generate."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.composing import composed
from vorn.grading import grade
from vorn.ledger import read_ledger
from vorn.panel import plan_panel
from vorn.records import BadInput, Fixture, Observation

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[1]
SMALL = ("logger=none", "limit=3", "task.context_tokens=300", "task.keys=4", "budget=[32]", "policy=[vorn,random]")

Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(random_checkpoint: Path, tmp_path: Path) -> Evaluate:
    """`python launch.py OVERRIDES` in this process; returns the exit code."""

    def run(*overrides: str) -> int:
        from vorn import run

        cfg = composed(*SMALL, f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}", *overrides)
        return run.evaluate(cfg, plan_panel(cfg), tmp_path / "out")

    return run


def folder(tmp_path: Path) -> Path:
    (only,) = (tmp_path / "ledgers").iterdir()
    return only


def observations(tmp_path: Path) -> tuple[Observation, ...]:
    return read_ledger(folder(tmp_path)).observations


def test_every_cell_is_observed_on_every_fixture(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate() == 0
    seen = observations(tmp_path)
    cells = {"full", *(f"{policy}/{unit}/32" for policy in ("vorn", "random") for unit in ("token", "sentence"))}
    assert {one.cell for one in seen} == cells
    assert len(seen) == 3 * 5
    for one in seen:
        assert one.prompt_tokens <= 300
        pruned = one.cell != "full"
        assert one.kept_tokens == one.budget_tokens == (32 if pruned else one.prompt_tokens)
        # 4 layers, 4 KV heads of width 32, keys and values in float32
        assert one.kv_bytes == one.kept_tokens * 4 * 4 * 32 * 2 * 4
        assert one.batch_rows == 5
        assert one.evidence_tokens == 15
        assert one.evidence_kept == 1.0 or pruned
        assert min(one.panel_prefill_s, one.panel_decode_s, one.peak_bytes or 0) > 0
        assert one.outcome == grade("ruler_all@1", one.completion, one.answers).outcome
    assert len(list((tmp_path / "out").glob("cells.csv"))) == 1


def test_full_says_what_generate_says(evaluate: Evaluate, tmp_path: Path, random_checkpoint: Path) -> None:
    from itertools import islice

    from hydra.utils import instantiate

    evaluate()
    model = AutoModelForCausalLM.from_pretrained(random_checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint)

    def count(prompt: str, prefix: str) -> int:
        return len(tokenizer(prompt + prefix).input_ids)

    task = instantiate(composed(*SMALL).task, count_tokens=count)
    said = {one.fixture_id: one.completion for one in observations(tmp_path) if one.cell == "full"}
    config = GenerationConfig(
        do_sample=False, max_new_tokens=12, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    for fixture in islice(task, 3):
        ids = tokenizer(fixture.prompt + fixture.answer_prefix, return_tensors="pt").input_ids
        new = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, ids.shape[1] :]
        assert said[fixture.fixture_id] == tokenizer.decode(new, skip_special_tokens=True)


def test_the_same_command_measures_nothing_twice(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate()
    before = {path: path.read_bytes() for path in folder(tmp_path).iterdir()}
    monkeypatch.setattr("vorn.models.checkpoint.Checkpoint.load", lambda *_, **__: pytest.fail("weights were loaded"))
    (tmp_path / "out" / "cells.csv").unlink()
    assert evaluate() == 0
    assert {path: path.read_bytes() for path in folder(tmp_path).iterdir()} == before
    assert (tmp_path / "out" / "cells.csv").exists()


def test_a_wider_panel_runs_only_its_missing_cells(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate("unit=[token]")
    first = observations(tmp_path)
    evaluate()
    lines = [json.loads(line) for path in folder(tmp_path).iterdir() for line in path.read_text().splitlines()]
    assert sum(line["kind"] == "observation" for line in lines) == 3 * 5
    assert set(first) <= set(observations(tmp_path))


def test_a_cell_in_a_panel_equals_the_cell_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    together = {(one.cell, one.fixture_id): one.completion for one in observations(tmp_path)}
    evaluate("policy=[random]", "unit=[sentence]", f"ledger_dir={tmp_path / 'alone'}")
    (alone,) = (tmp_path / "alone").iterdir()
    for one in read_ledger(alone).observations:
        assert together[one.cell, one.fixture_id] == one.completion


def test_more_fixtures_extend_a_run_and_show_as_a_look(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    before = set(observations(tmp_path))
    evaluate("limit=4")
    assert before < set(observations(tmp_path))
    names = [one.fixture_id for one in observations(tmp_path) if one.cell == "full"]
    places = {one.fixture_id: one.fixture_index for one in observations(tmp_path)}
    assert [places[name] for name in names] == [0, 1, 2, 3]
    assert [look.fixtures for look in read_ledger(folder(tmp_path)).looks] == [3, 4]
    assert "3" in (tmp_path / "out" / "report.md").read_text().split("look", 1)[1][:200]


def test_changed_fixtures_are_refused(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate()
    monkeypatch.setattr("tasks.niah.Template.intro", "Read this.\n", raising=False)
    monkeypatch.setattr("tasks.niah.Template.__init__", lambda self: None)
    with pytest.raises(BadInput, match="changed: its fingerprint is"):
        evaluate()


def test_a_failing_fixture_is_an_error_and_not_a_wrong_answer(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vorn.work

    real, calls = vorn.work.prefill, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return real(*args, **kwargs)

    monkeypatch.setattr(vorn.work, "prefill", failing)
    assert evaluate() == 3
    failed = [one for one in observations(tmp_path) if one.error]
    assert {one.error for one in failed} == {"RuntimeError: out of luck"}
    assert len(failed) == 5
    assert len({one.fixture_id for one in failed}) == 1
    assert evaluate() == 0  # a rerun tries it again
    assert not any(one.error for one in observations(tmp_path))


def test_a_failing_cell_leaves_the_others_alone(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vorn.kv.scorers.random import Random

    monkeypatch.setattr(Random, "__call__", lambda self, signals: torch.full((1, 1, signals.prompt_tokens), torch.nan))
    assert evaluate() == 3
    failed = {one.cell for one in observations(tmp_path) if one.error}
    assert failed == {"random/token/32", "random/sentence/32"}


@pytest.mark.parametrize("first_token", ["refeed", "prefill"])
def test_the_first_token_comes_from_where_the_cell_says(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_token: str
) -> None:
    import vorn.work

    real, seen = vorn.work.decode, []
    monkeypatch.setattr(
        vorn.work, "decode", lambda *args, **kwargs: seen.append(kwargs["first_token"]) or real(*args, **kwargs)
    )
    assert evaluate(f"contract.prefill_once.first_token={first_token}") == 0
    assert set(seen) == {first_token}


def test_a_logger_that_breaks_while_it_runs_stops_nothing(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightning.pytorch.loggers import CSVLogger

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    for method in ("log_metrics", "save", "finalize"):
        monkeypatch.setattr(CSVLogger, method, broken)
    logger = f"+logger={{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: {tmp_path}}}"
    assert evaluate(logger) == 0
    assert "ConnectionError: gone" in capsys.readouterr().err
    assert len(observations(tmp_path)) == 15


def test_a_report_that_fails_loses_nothing(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("callbacks.paired_tests.write_report", failing)
    assert evaluate() == 4
    assert "disk full" in capsys.readouterr().err
    assert len(observations(tmp_path)) == 15


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.context_tokens=5000", r"more than the 4096 positions.* prompts \(task.context_tokens\) or choose"),
        ("policy.vorn.layer=4", "the model has layers 0 to 3"),
        ("task.grade=longbench_class_line@1", r"fixture 'niah_multikey/seed0/0' cannot be graded: choices=\[\]: grade"),
        ("budget=[2%]", "budget of 5 tokens cannot hold 4 sink"),
        ("trainer.num_nodes=2", "trainer.num_nodes=2: processes are started on this machine alone"),
        ("trainer.accelerator=tpu", "trainer.accelerator='tpu': legal values here are auto, cpu"),
        ("+trainer.precision=bf16-mixed", "give model.dtype"),
    ],
)
def test_what_only_model_or_prompts_tell_is_still_one_message(evaluate: Evaluate, override: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate(override)


def test_prompts_too_long_name_the_setting_of_their_task_after_what_it_notes(
    random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vorn import run

    cfg = composed("task=niah_grid", "task.lengths=5000", "limit=1", "logger=none", f"model.id={random_checkpoint}")
    with pytest.raises(BadInput, match=r"the 4096 positions.*; shorten the prompts \(task.lengths\) or choose a model"):
        run.evaluate(cfg, plan_panel(cfg), tmp_path)
    note = "note: fixtures per field of the grid: 1 on 1 of 5 fields, none on the others; a limit of 5 fills all alike"
    assert capsys.readouterr().out == note + "\n"


def launched(random_checkpoint: Path, tmp_path: Path, *overrides: str, by: Sequence[str] = ()) -> subprocess.Popen[str]:
    paths = (f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / 'ledgers'}", f"hydra.run.dir={tmp_path / 'out'}")
    return subprocess.Popen(
        [sys.executable, *by, str(ROOT / "launch.py"), *SMALL, *paths, *overrides],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test runner in the background ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def measured_any(tmp_path: Path) -> bool:
    """Whether an outcome is on disk; a segment begins with its manifest, before anything was measured."""
    return any(b'"kind": "observation"' in path.read_bytes() for path in tmp_path.glob("ledgers/*/*.jsonl"))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_keeps_what_it_measured_and_resumes(
    random_checkpoint: Path, tmp_path: Path, evaluate: Evaluate, sent: signal.Signals, code: int
) -> None:
    process = launched(random_checkpoint, tmp_path, "limit=400")
    deadline = time.monotonic() + 300
    while not measured_any(tmp_path) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    done = observations(tmp_path)
    assert len(done) >= 5
    assert len(done) < 400 * 5
    fixtures = len({one.fixture_id for one in done})
    assert evaluate(f"limit={fixtures + 1}") == 0
    assert len(observations(tmp_path)) == (fixtures + 1) * 5


@pytest.mark.parametrize(("signals", "fixtures"), [(1, 2), (2, 1)])
def test_sigterm_ends_after_the_fixture_in_flight_and_a_second_one_at_once(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int, fixtures: int
) -> None:
    import vorn.work
    from vorn.processes import Termination

    real, calls, termination = vorn.work.prefill, [], Termination()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(vorn.work, "prefill", interrupted)
    monkeypatch.setattr("vorn.run.TERMINATION", termination)
    before = signal.getsignal(signal.SIGTERM)
    termination.install()
    try:
        with pytest.raises(SystemExit) as ended:
            evaluate()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert len(observations(tmp_path)) == fixtures * 5
    assert not any(one.error for one in observations(tmp_path))


def test_processes_share_the_work_and_a_killed_one_takes_none_of_it_along(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    process = launched(random_checkpoint, tmp_path, "limit=60", "trainer.devices=2", "policy=[random]", "unit=[token]")
    deadline = time.monotonic() + 240
    while len(segments := list(tmp_path.glob("ledgers/*/*.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    ranks = {path.stem.rpartition("-rank")[2]: int(path.stem.split("-")[-2]) for path in segments}
    os.kill(ranks["0"], signal.SIGKILL)  # the one that would report
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert "process 0 of 2 failed: ended by SIGKILL" in output
    lines = [json.loads(line) for path in segments for line in path.read_text().splitlines()]
    seen = [(one["fixture_index"], one["cell"]) for one in lines if one["kind"] == "observation"]
    assert sorted(seen) == sorted((index, cell) for index in range(60) for cell in ("full", "random/token/32"))
    assert {path.name for path in (tmp_path / "out").glob("*.csv")} == {"cells.csv", "pairs.csv"}
    assert output.count("Against full: 1 comparison") == 1


def test_torchrun_measures_with_two_processes_and_reports_once(random_checkpoint: Path, tmp_path: Path) -> None:
    """Oracle: the lines of all segments; each fixture once in each cell, whichever process took it."""
    how = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    output, _ = (process := launched(random_checkpoint, tmp_path, "limit=30", by=how)).communicate(timeout=240)
    assert process.returncode == 0, output
    paths = list(tmp_path.glob("ledgers/*/*.jsonl"))
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert {one["rank"] for one in lines if one["kind"] == "manifest"} <= {0, 1}
    seen = [(one["fixture_index"], one["cell"]) for one in lines if one["kind"] == "observation"]
    cells = {cell for _, cell in seen}
    assert len(cells) == 5
    assert sorted(seen) == sorted((index, cell) for index in range(30) for cell in cells)
    assert output.count("Against full: 4 comparisons") == 1


def test_a_full_disk_ends_a_run_with_one_message_and_the_same_command_resumes(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = os.write, [1]

    def run_full(descriptor: int, block: bytes) -> int:
        if bytes(block[:30]).startswith(b'{"kind": "observation"'):
            if not left:
                raise OSError(errno.ENOSPC, "No space left on device")
            left.pop()
        return write(descriptor, block)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", run_full)
        with pytest.raises(BadInput, match=r"cannot be written \(No space left on device\); .* same command resumes"):
            evaluate()
    assert len(observations(tmp_path)) == 5
    assert evaluate() == 0
    assert len(observations(tmp_path)) == 3 * 5


def test_two_commands_on_the_same_work_by_mistake_do_it_once(
    evaluate: Evaluate, random_checkpoint: Path, tmp_path: Path
) -> None:
    process = launched(random_checkpoint, tmp_path, "limit=40")
    while not list(tmp_path.glob("ledgers/*/*.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    assert evaluate("limit=40") == 0
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "fixtures, full" in output  # plain lines, since this is no terminal
    assert "Predicting" not in output  # and no bar of Lightning's beside them
    paths = list(folder(tmp_path).glob("*.jsonl"))
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    seen = [(one["fixture_id"], one["cell"]) for one in lines if one["kind"] == "observation"]
    assert len(paths) == 2
    assert len(seen) == len(set(seen)) == 40 * 5


def test_keys_are_written_nowhere(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        name: f"{number}123456789abcdef" * 2 + "01234567" for number, name in enumerate(("WANDB_API_KEY", "HF_TOKEN"))
    }
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    process = launched(random_checkpoint, tmp_path, "logger=wandb", "logger.mode=offline")
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    written = [output.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
    assert len(written) > 10
    assert not [key for key in keys.values() if any(key.encode() in text for text in written)]


def test_a_logger_that_fails_stops_nothing(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("+logger={_target_: no.such.Logger}") == 0
    assert "warning: making the logger failed" in capsys.readouterr().err
    assert len(observations(tmp_path)) == 15


class NoFixtures:
    """A task without fixtures."""

    fixtures = 5

    def __init__(self, **settings: Any) -> None:
        pass

    def __iter__(self) -> Any:
        return iter(())


class TwiceTheSame(NoFixtures):
    """A task that gives one fixture twice."""

    def __iter__(self) -> Any:
        same = Fixture(
            fixture_id="one", prompt="a b", answer_prefix="", question_start=1, answers=("c",), evidence=((0, 1),)
        )
        return iter((same, same))


@pytest.mark.parametrize(
    ("task", "message"),
    [("NoFixtures", "has 0 fixtures: at least 1 is needed"), ("TwiceTheSame", "fixture_id 'one' occurs twice")],
)
def test_an_empty_or_ambiguous_task_is_refused_before_weights(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch, task: str, message: str
) -> None:
    monkeypatch.setattr("vorn.models.checkpoint.Checkpoint.load", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(BadInput, match=message):
        evaluate(f"task._target_=tests.test_run.{task}")


def test_every_layer_is_a_cell_and_one_layer_alone_is_measured_already(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("policy.vorn.layer=all", "unit=[token]", "limit=2") == 0
    cells = {f"vorn(layer={layer})/token/32" for layer in range(4)} | {"full", "random/token/32"}
    assert {one.cell for one in observations(tmp_path)} == cells
    assert evaluate("policy.vorn.layer=2", "unit=[token]", "limit=2") == 0
    assert "all 2 fixtures x 3 cells are measured" in capsys.readouterr().out


class WithoutEvidence(NoFixtures):
    """A task whose one fixture names no evidence."""

    def __iter__(self) -> Any:
        words = " ".join(["word"] * 60)
        return iter(
            (Fixture(fixture_id="one", prompt=words, answer_prefix="", question_start=1, answers=("c",), evidence=()),)
        )


def test_an_oracle_without_evidence_is_an_error_and_no_other_cells(evaluate: Evaluate, tmp_path: Path) -> None:
    oracle = "+policy.evidence_keep={_target_: vorn.kv.scorers.evidence.EvidenceKeep, after: 0}"
    assert evaluate("task._target_=tests.test_run.WithoutEvidence", oracle, "unit=[token]") == 3
    errors = {one.cell: one.error for one in observations(tmp_path)}
    (failed,) = (cell for cell, error in errors.items() if error)
    assert failed.startswith("evidence_keep")
    assert "this fixture names no evidence" in str(errors[failed])
    assert len(errors) == 4
