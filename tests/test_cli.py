"""The command line as a user meets it: real processes, exit codes, mistakes answered before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from composing import ROOT
from omegaconf import OmegaConf

from vorn import cli
from vorn.records import BadInput

HEAVY = ("torch", "lightning", "transformers", "wandb")

# Stands in for the evaluation: CODES names what the job of each seed does.
DRIVER = """
import os, signal, sys, types
from vorn.records import BadInput
def evaluate(cfg, plan, out_dir):
    assert out_dir.is_dir()
    print("PANEL", cfg.model.name, " ".join(cell.label for cell in plan.cells), flush=True)
    act = os.environ["CODES"].split(",")[cfg.seed]
    if act == "bad": raise BadInput("model.id='x' is no folder")
    if act == "crash": raise RuntimeError("out of luck")
    if act == "term": os.kill(os.getpid(), signal.SIGTERM)
    if act == "ctrl-c": raise KeyboardInterrupt
    if act == "lightning":
        try: raise KeyboardInterrupt
        except KeyboardInterrupt: sys.exit(1)
    return int(act)
sys.modules["vorn.run"] = types.SimpleNamespace(evaluate=evaluate)
import launch
launch.main()
"""


@pytest.fixture
def no_torch(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing anything heavy is an error."""
    fakes = tmp_path / "fakes"
    for name in HEAVY:
        (fakes / name).mkdir(parents=True)
        (fakes / name / "__init__.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(fakes), str(ROOT)]), "PYTHONWARNINGS": "error"}


def run(argv: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def launch(cwd: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, str(ROOT / "launch.py"), *arguments], cwd, env)


def drive(cwd: Path, env: dict[str, str], codes: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", DRIVER, *arguments], cwd, {**env, "CODES": codes})


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
def test_a_sweep_over_models_is_one_panel_per_model(tmp_path: Path, no_torch: dict[str, str]) -> None:
    argv = ["-m", "model=pocket_llama,hf", "model.id=x", "policy=vorn,tova", "unit=[token]", "budget=64,25%"]
    done = drive(tmp_path, no_torch, "0", *argv)
    panels = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PANEL")]
    cells = ["full", "vorn/token/64", "vorn/token/25%", "tova/token/64", "tova/token/25%"]
    assert panels == [["pocket_llama", *cells], ["x", *cells]]
    assert done.returncode == 0
    apart = drive(tmp_path, no_torch, "0", *argv[:1], "fuse=false", *argv[3:])
    assert apart.stdout.count("PANEL") == 4


@pytest.mark.integration
@pytest.mark.parametrize(
    ("codes", "status", "jobs"),
    [
        ("0,3,0", 3, 3),
        ("3,4,0", 4, 3),
        ("bad,4,0", 1, 3),
        ("0,crash,3", 1, 3),
        ("0,lightning,0", 130, 2),
        ("term,0,0", 143, 1),
    ],
)
def test_a_sweep_goes_on_and_reports_the_most_serious_status(
    tmp_path: Path, no_torch: dict[str, str], codes: str, status: int, jobs: int
) -> None:
    done = drive(tmp_path, no_torch, codes, "-m", "seed=0,1,2", "hydra.sweep.dir=sweep")
    assert (done.returncode, done.stdout.count("PANEL")) == (status, jobs), done.stderr
    assert ("error: model.id='x' is no folder" in done.stderr) == ("bad" in codes)
    assert ("RuntimeError: out of luck" in done.stderr) == ("crash" in codes)


@pytest.mark.integration
@pytest.mark.parametrize(("code", "status"), [("4", 4), ("ctrl-c", 130)])
def test_a_single_job_ends_with_its_status(tmp_path: Path, no_torch: dict[str, str], code: str, status: int) -> None:
    done = drive(tmp_path, no_torch, code, "limit=1")
    assert done.returncode == status, done.stderr
    assert ("interrupted; the same command resumes" in done.stderr) == (status == 130)


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([3, 0], 3), ([3, 4], 4), ([4, 1, 3], 1), ([0, 77], 1), ([0], 0)]
)
def test_most_serious(codes: list[int], expected: int) -> None:
    assert cli.most_serious(codes) == expected


def test_codes_of_an_earlier_sweep_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / cli._CODES
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    folder.mkdir()
    (folder / "7").write_text("4")
    cli.SweepExitStatus().on_multirun_start(config)
    (folder).mkdir()
    (folder / "0").write_text("0")
    cli.SweepExitStatus().on_multirun_end(config)
    (folder / "1").write_text("3")
    with pytest.raises(SystemExit) as ended:
        cli.SweepExitStatus().on_multirun_end(config)
    assert ended.value.code == 3


def test_a_sweep_of_which_no_job_noted_a_status_has_failed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.SweepExitStatus().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert ended.value.code == cli.FAILED


def test_bad_input_inside_a_constructor_is_still_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from hydra.utils import instantiate

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(Exception, match="Error in call") as caught:
        instantiate({"_target_": f"{__name__}.refusing"})
    cli._complain(caught.value)
    assert capsys.readouterr().err == "error: window=99 is too long\n"


def refusing() -> None:
    raise BadInput("window=99 is too long")
