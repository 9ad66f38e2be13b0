"""The command line as a user meets it: real processes, exit codes, mistakes answered before torch is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from composing import ROOT
from omegaconf import OmegaConf

from vorn import cli, sweeps
from vorn.records import BadInput

HEAVY = ("torch", "lightning", "transformers", "wandb")

# Stands in for the evaluation, in every process: CODES names what the job of each seed does, WRITE what it measures.
EVALUATION = """
import os, signal, sys, types
from vorn.records import BadInput
def evaluate(cfg, plan, out_dir):
    assert out_dir.is_dir()
    rank = os.environ.get("RANK", "none")
    print("PANEL", cfg.model.name, " ".join(cell.label for cell in plan.cells), flush=True)
    print("GROUP", os.environ.get("WANDB_RUN_GROUP", "none"), flush=True)
    act = os.environ["CODES"].split(",")[cfg.seed]
    if ":" in act: act = act.split(":")[int(rank)]
    if act.startswith("write"):
        from vorn_measures import measure
        measure(cfg, plan, out_dir)
        act = act.removeprefix("write-")
    if act == "bad": raise BadInput("model.id='x' is no folder")
    if act == "crash": raise RuntimeError("out of luck")
    if act == "kill": os.kill(os.getpid(), signal.SIGKILL)
    if act == "term": os.kill(os.getpid(), signal.SIGTERM)
    if act == "wait":
        import time
        time.sleep(60)
    if act == "ctrl-c": raise KeyboardInterrupt
    if act == "lightning":
        try: raise KeyboardInterrupt
        except KeyboardInterrupt: sys.exit(1)
    return int(act)
sys.modules["vorn.run"] = types.SimpleNamespace(evaluate=evaluate)
"""

# What a fake evaluation writes: a panel's outcomes on five fixtures, told from the cells' labels.
MEASURES = """
from factories import make_manifest, make_observation
from vorn.ledger import LedgerWriter, Scope
from vorn.sweeps import note_scope
def measure(cfg, plan, out_dir):
    name = f"e{cfg.seed}"
    ledger = out_dir.parent / "ledgers" / name
    writer = LedgerWriter(ledger, lambda: make_manifest(evaluation_id=name))
    seen = [make_observation(evaluation_id=name, policy=cell.policy, fixture_id=f"f{i}", fixture_index=i, model=name,
                             outcome=float(cell.policy == "full")) for cell in plan.cells for i in range(5)]
    writer.append(seen)
    writer.close()
    note_scope(out_dir, {ledger: Scope(frozenset(one.cell_id for one in seen), frozenset(one.cell for one in seen),
                                       frozenset(f"f{i}" for i in range(5)))})
"""


@pytest.fixture
def no_torch(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing anything heavy is an error."""
    fakes = tmp_path / "fakes"
    for name in HEAVY:
        (fakes / name).mkdir(parents=True)
        (fakes / name / "__init__.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    path = os.pathsep.join([str(fakes), str(ROOT)])
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "WANDB_RUN_GROUP")
    }
    return {**own, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


@pytest.fixture
def fake(no_torch: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment in which every process, also one of a sweep's jobs, has the evaluation that CODES describes."""
    (tmp_path / "fakes" / "sitecustomize.py").write_text(EVALUATION)
    (tmp_path / "fakes" / "vorn_measures.py").write_text(MEASURES)
    return {**no_torch, "PYTHONPATH": os.pathsep.join([no_torch["PYTHONPATH"], str(ROOT / "tests")])}


def run(argv: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def launch(cwd: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, str(ROOT / "launch.py"), *arguments], cwd, env)


def drive(cwd: Path, env: dict[str, str], codes: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launch(cwd, {**env, "CODES": codes}, *arguments)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy=[vrn]"], "error: Unknown policy 'vrn'. Did you mean 'vorn'? Available: ada_snapkv, all, "),
        (["budget=[64,-1]"], "error: budget=-1 is not legal; give tokens >= 1 (64) or a percentage"),
        (["budget=10%", "unit.pool=median"], "error: Unknown value of unit.pool: 'median'. Did you mean 'mean'?"),
        (["-m", "budget=64,8"], "error: budget of 8 tokens cannot hold 4 sink + 16 recent tokens; raise budget"),
        (["policy=vorn,tova"], "To sweep over it, add --multirun"),
        (["limit"], "Error parsing override 'limit'"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_bad_input_is_one_message_and_exit_1_before_torch(
    tmp_path: Path, no_torch: dict[str, str], arguments: list[str], message: str
) -> None:
    done = launch(tmp_path, no_torch, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") <= 1


@pytest.mark.integration
def test_full_error_shows_the_traceback(tmp_path: Path, no_torch: dict[str, str]) -> None:
    done = launch(tmp_path, {**no_torch, "HYDRA_FULL_ERROR": "1"}, "budget=0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.integration
def test_help_and_config_answer_without_torch_from_any_folder(tmp_path: Path, no_torch: dict[str, str]) -> None:
    shown = launch(tmp_path, no_torch, "--help")
    assert shown.returncode == 0, shown.stderr
    for text in ("policy: ada_snapkv, all, attention_mass", "budget=64,25%", "130/143", "most serious"):
        assert text in shown.stdout
    entry = Path(sys.executable).with_name("vorn-launch")
    config = run([str(entry), "--cfg", "job", "policy=[tova]", "budget=25%"], tmp_path, no_torch)
    assert config.returncode == 0, config.stderr
    assert OmegaConf.create(config.stdout).budget == "25%"
    assert list(OmegaConf.create(config.stdout).policy) == ["tova"]


@pytest.mark.integration
def test_a_sweep_over_models_is_one_panel_per_model(tmp_path: Path, fake: dict[str, str]) -> None:
    argv = ["-m", "model=pocket_llama,hf", "model.id=x", "policy=vorn,tova", "unit=[token]", "budget=64,25%"]
    done = drive(tmp_path, fake, "0", *argv)
    panels = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PANEL")]
    cells = ["full", "vorn/token/64", "vorn/token/25%", "tova/token/64", "tova/token/25%"]
    assert panels == [["pocket_llama", *cells], ["x", *cells]]
    assert done.returncode == 0
    moved = drive(tmp_path, fake, "0", *argv[1:3], "-m", *argv[3:])
    assert [line.split()[1:] for line in moved.stdout.splitlines() if line.startswith("PANEL")] == panels
    apart = drive(tmp_path, fake, "0", *argv[:1], "fuse=false", *argv[3:])
    assert apart.stdout.count("PANEL") == 4


@pytest.mark.integration
@pytest.mark.parametrize(
    ("codes", "status", "jobs"),
    [
        ("0,3,0", 3, 3),
        ("3,4,0", 4, 3),
        ("bad,4,0", 1, 3),
        ("0,crash,3", 1, 3),
        ("lightning,kill,0", 1, 3),
    ],
)
def test_a_sweep_goes_on_and_reports_the_most_serious_status(
    tmp_path: Path, fake: dict[str, str], codes: str, status: int, jobs: int
) -> None:
    done = drive(tmp_path, fake, codes, "-m", "seed=0,1,2", "hydra.sweep.dir=sweep")
    assert (done.returncode, done.stdout.count("PANEL")) == (status, jobs), done.stderr
    assert ("error: model.id='x' is no folder" in done.stderr) == ("bad" in codes)
    assert ("RuntimeError: out of luck" in done.stderr) == ("crash" in codes)


@pytest.mark.integration
@pytest.mark.parametrize(("code", "status"), [("4", 4), ("ctrl-c", 130)])
def test_a_single_job_ends_with_its_status(tmp_path: Path, fake: dict[str, str], code: str, status: int) -> None:
    done = drive(tmp_path, fake, code, "limit=1")
    assert done.returncode == status, done.stderr
    assert ("interrupted; the same command resumes" in done.stderr) == (status == 130)


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([3, 0], 3), ([3, 4], 4), ([4, 1, 3], 1), ([0, 77], 1), ([0], 0)]
)
def test_most_serious(codes: list[int], expected: int) -> None:
    assert sweeps.most_serious(codes) == expected


def test_bad_input_inside_a_constructor_is_still_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from hydra.utils import instantiate

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(Exception, match="Error in call") as caught:
        instantiate({"_target_": f"{__name__}.refusing"})
    assert cli.explain(caught.value) == "window=99 is too long"
    assert capsys.readouterr().err == "error: window=99 is too long\n"


def refusing() -> None:
    raise BadInput("window=99 is too long")


@pytest.mark.integration
def test_a_killed_job_leaves_the_others_and_a_report_on_all(tmp_path: Path, fake: dict[str, str]) -> None:
    done = drive(
        tmp_path, fake, "write-0,write-kill,kill", "-m", "seed=0,1,2", "hydra.sweep.dir=sweep", "policy=[vorn]"
    )
    assert (done.returncode, done.stdout.count("PANEL")) == (1, 3), done.stderr
    assert "3 jobs, 2 failed" in done.stdout
    assert done.stdout.count(f"GROUP {tmp_path.name}-sweep\n") == 3  # of the jobs' runs in W&B
    text = (tmp_path / "sweep" / "report.md").read_text()
    for number, model in ((0, True), (1, True), (2, False)):
        assert (f"e{number}, niah" in text) == model
        assert (f"- job {number} (seed={number}" in text) == (number > 0)
    assert "ended by SIGKILL" in text
    assert (tmp_path / "sweep" / "1" / "report.md").exists()  # of what it had measured


@pytest.mark.integration
@pytest.mark.parametrize(("codes", "status", "jobs"), [("0,lightning,0", 130, 2), ("term,0,0", 143, 1)])
def test_jobs_can_stay_in_the_process_and_end_with_it(
    tmp_path: Path, fake: dict[str, str], codes: str, status: int, jobs: int
) -> None:
    done = drive(tmp_path, fake, codes, "-m", "seed=0,1,2", "isolate=false")
    assert (done.returncode, done.stdout.count("PANEL")) == (status, jobs), done.stderr


@pytest.mark.integration
def test_torchrun_gives_each_process_a_rank_and_one_a_folder(tmp_path: Path, fake: dict[str, str]) -> None:
    ranked = {**fake, "CODES": "0:3", "WORLD_SIZE": "2"}
    first = launch(tmp_path, {**ranked, "RANK": "0"}, "limit=1")
    assert first.returncode == 0, first.stderr
    assert "GROUP none" in first.stdout
    before = {path for path in tmp_path.rglob("*") if "fakes" not in path.parts}
    second = launch(tmp_path, {**ranked, "RANK": "1"}, "limit=1")
    assert second.returncode == 3, second.stderr
    assert {path for path in tmp_path.rglob("*") if "fakes" not in path.parts} == before
    refused = launch(tmp_path, {**ranked, "RANK": "1"}, "-m", "seed=0,1")
    assert (refused.returncode, refused.stderr.count("error: -m under torchrun")) == (1, 1)


@pytest.mark.integration
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_ends_its_workers_and_the_sweep(
    tmp_path: Path, fake: dict[str, str], sent: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "-m", "seed=0,1", "policy=[vorn]"],
        cwd=tmp_path,
        env={**fake, "CODES": "wait,wait"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if line.startswith("PANEL"))
        process.send_signal(sent)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "PANEL" not in output, said


@pytest.mark.integration
def test_a_worker_ends_when_its_launcher_is_killed(tmp_path: Path, fake: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "-m", "seed=0,1", "policy=[vorn]"],
        cwd=tmp_path,
        env={**fake, "CODES": "wait,wait"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("GROUP"))
        process.kill()
        rest = process.stdout.read()  # ends when the worker, which has the same output, has ended
    assert rest == ""
