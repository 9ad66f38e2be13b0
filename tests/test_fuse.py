"""The pass over the command line: literal expectations, and Hydra's own parser and sweeper as the oracle of meaning."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from composing import CONF
from hydra.core.override_parser.overrides_parser import OverridesParser

from vorn.fuse import fuse_argv
from vorn.records import BadInput

POLICIES = ", ".join(sorted(path.stem for path in (CONF / "policy").glob("*.yaml")))


@pytest.mark.parametrize(
    ("given", "fused"),
    [
        ("policy=vorn,tova", "policy=[vorn,tova]"),
        ("policy=choice(vorn,tova)", "policy=[vorn,tova]"),
        ("unit=token,sentence", "unit=[token,sentence]"),
        ("guards=matched,none", "guards=[matched,none]"),
        ("budget=64,25%", "budget=[64,25%]"),
        ("budget=range(32,129,32)", "budget=[32,64,96,128]"),
        ("policy.vorn.layer=0,1,null", "policy.vorn.layer=[0,1,null]"),
        ("unit.fill=true,false", "unit.fill=[True,False]"),
        ("guards.recent=8,16", "guards.recent=[8,16]"),
        ("contract.prefill_once.first_token='refeed',prefill", "contract.prefill_once.first_token=['refeed',prefill]"),
    ],
)
def test_sweep_over_an_axis_becomes_one_list(given: str, fused: str) -> None:
    assert fuse_argv(["-m", given, "seed=1"]) == ["-m", fused, "seed=1"]
    assert fuse_argv([given, "--multirun"]) == [fused, "--multirun"]
    assert fuse_argv([given, "hydra.mode=MULTIRUN"]) == [fused, "hydra.mode=MULTIRUN"]


@pytest.mark.parametrize(
    "text",
    [
        "policy=vorn",
        "policy=[vorn,tova]",
        "policy=[vorn,tova],[random]",  # two whole panels
        "model=pocket_llama,hf",
        "seed=1,2",
        "task.keys=4,8",
        "decode.first_token=refeed,prefill",
        "model.id='a,b=c'",
        "hydra/launcher=basic",
        "hydra.sweep.dir='x y'",
        "~policy.vorn.window",
        "~logger",
        "policy@extra=vorn",
        "policy.vorn.layer=interval(0,3)",
        "+trainer.precision=bf16-true,32-true",
        "experiment=smoke,granularity",
        "not an override",
    ],
)
def test_everything_else_stays_as_written(text: str) -> None:
    assert fuse_argv(["-m", text]) == ["-m", text]


@pytest.mark.parametrize(
    "argv",
    [
        ["policy=vorn,tova"],  # without -m Hydra explains
        ["-m", "policy=vorn,tova", "fuse=false"],
        ["-m", "unit=glob(s*)", "fuse=false"],
        ["--help", "policy=vrn"],
        ["--hydra-help"],
        ["-sc", "install=bash"],
        ["--cfg", "job", "-p", "budget", "policy=[vorn]"],
        ["--info", "searchpath"],
    ],
)
def test_nothing_changes_without_a_fused_multirun(argv: list[str]) -> None:
    assert fuse_argv(argv) == argv


def test_fused_lists_hold_what_hydra_would_have_swept() -> None:
    """Oracle: the cross product that Hydra's basic sweeper makes of the same overrides."""
    given = ["policy=vorn,tova", "budget=64,25%", "policy.vorn.layer=range(0,3)"]
    parser = OverridesParser.create()
    swept = [list(o.sweep_string_iterator()) for o in parser.parse_overrides(given)]
    lists = [o.value() for o in parser.parse_overrides(fuse_argv(["-m", *given])[1:])]
    assert list(product(*swept)) == [tuple(str(v) for v in job) for job in product(*lists)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy=[vrn]", f"Unknown policy 'vrn'. Did you mean 'vorn'? Available: {POLICIES}."),
        ("policy=tova,vrn", "Unknown policy 'vrn'"),
        ("unit=sentense", "Did you mean 'sentence'"),
        ("task=niah_multkey", "Did you mean 'niah_multikey'"),
        ("logger=wand", "Did you mean 'wandb'"),
        ("sweep=models", "Unknown key 'sweep'"),
        ("experiment=smok", "Did you mean 'smoke'"),
        ("policy=[]", f"no policy is selected; name at least one of: {POLICIES}"),
        ("policy=null", "no policy is selected"),
        ("guards=", "no guards is selected"),
        ("model=[hf,pocket_llama]", "model takes one option per job; to run several: -m model=A,B"),
        ("budgets=64", "Unknown key 'budgets'. Did you mean 'budget'?"),
        ("+foo=1", "Unknown key 'foo'"),
        ("++limits=1", "Did you mean 'limit'"),
        ("policy=glob(*)", "policy=all selects every policy"),
        ("unit=glob(*)", "name the options: adaptive, sentence, token, word"),
        ("policy.vorn.layr=3", "Unknown parameter of policy 'vorn': 'layr'. Did you mean 'layer'?"),
        ("+policy.vorn.layr=3", "Did you mean 'layer'"),
        ("policy.tov.x=1", "Did you mean 'tova'"),
        ("+policy.mine.layer=3", "Unknown policy 'mine'"),
        ("unit.fil=true", "Unknown unit setting 'fil'. Did you mean 'fill'"),
        ("guards.sink=1", "Did you mean 'sinks'"),
        ("task.key=3", "Unknown setting of task 'niah_multikey': 'key'. Did you mean 'keys'? Available: _target_, con"),
        ("task.niah.keys=3", "in 'task.niah.keys=3'; a setting that is in no file is added with a plus: +task.niah.ke"),
        ("model.dtyp=auto", "Unknown setting of model 'pocket_llama': 'dtyp'. Did you mean 'dtype'?"),
        ("decode.max_cell=3", "Unknown setting of decode: 'max_cell'. Did you mean 'max_cells'?"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"]])
def test_mistakes_are_refused_with_near_matches(text: str, message: str, flags: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        fuse_argv([*flags, text])
    assert message in str(caught.value)


def test_parameter_of_a_policy_that_is_not_selected_is_refused() -> None:
    with pytest.raises(BadInput, match=r"policy 'vorn' is not selected \(policy=tova,random\)"):
        fuse_argv(["-m", "policy=tova,random", "policy.vorn.layer=1"])
    with pytest.raises(BadInput, match="Unknown policy 'vrn'"):
        fuse_argv(["policy.vorn.layer=1", "policy=[vrn]"])
    for choice in ("policy=[tova,vorn]", "policy=all", "policy=vorn"):
        assert fuse_argv([choice, "policy.vorn.layer=1"]) == [choice, "policy.vorn.layer=1"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["policy.snapkv.window=3"], "policy 'snapkv' is not selected (policy=[vorn,tova,h2o,sink_recent,random], by "),
        (["contract.hold_budget.trigger=step"],
         "contract.hold_budget.trigger=step: contract 'hold_budget' is not selected (contract=[prefill_once], by "
         "default); select it with contract=[prefill_once,hold_budget], or leave its parameter out"),
        (["experiment=vorn_mat", "contract.hold_budget.trigger=step"], "(contract=reforward, by the experiment);"),
        (["task=jsonl", "task.keys=3"], "Unknown setting of task 'jsonl': 'keys'. Available: _target_, fixtures,"),
        (["-m", "task=niah_multikey,jsonl", "task.keys=3,4"], "Unknown setting of task 'jsonl': 'keys'"),
    ],
)  # fmt: skip
def test_a_setting_of_what_is_not_selected_is_refused_by_one_message(argv: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        fuse_argv(argv)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["experiment=vorn_mat", "policy.redraw.seed=3", "contract.reforward.cached=false"],
        ["task=ruler", "task.members.niah_single_1.keys=3"],  # of a file that begins with others
        ["task=niah_single_1", "task.keys=3"],
        ["+task.mine=1", "task.mine=2", "logger=none", "logger.mode=offline", "model=llama31", "model.dtype=float32"],
    ],
)
def test_a_setting_of_what_is_selected_otherwise_is_left_to_hydra(argv: list[str]) -> None:
    assert fuse_argv(argv) == argv


def test_a_policy_written_on_the_command_line_needs_a_target() -> None:
    whole = ["+policy.mine={_target_:pkg.Mine,layer:3}"]
    assert fuse_argv(whole) == whole
    parts = ["+policy.mine._target_=pkg.Mine", "+policy.mine.layer=3"]
    assert fuse_argv(parts) == parts


def test_a_mistyped_name_that_is_to_be_left_out_is_refused() -> None:
    with pytest.raises(BadInput, match=r"Unknown name in task.members: 'qa2'. Did you mean 'qa_2'"):
        fuse_argv(["task=ruler", "~task.members.qa2"])
    for argv in (["task=ruler", "~task.members.qa_2"], ["task=ruler", "~task.members.zzz"], ["~task.x.y"]):
        assert fuse_argv(argv) == argv  # the last two are left to Hydra


def test_options_of_an_added_config_folder_are_known(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "mine.yaml").write_text("mine: {_target_: pkg.Mine, layer: 3}\n")
    flags = ["--config-dir", str(tmp_path)]
    assert fuse_argv([*flags, "policy=[mine]"]) == [*flags, "policy=[mine]"]
    with pytest.raises(BadInput, match="Did you mean 'layer'"):
        fuse_argv([*flags, "policy.mine.laye=1"])
    searched = [f"hydra.searchpath=[file://{tmp_path}]", "policy=[mine]"]
    assert fuse_argv(searched) == searched


def test_an_entry_made_by_an_experiment_is_known(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "sums.yaml").write_text("policy: {vorn_sum: {_target_: pkg.Sum, layer: 1}}\n")
    argv = ["--config-dir", str(tmp_path), "experiment=sums", "policy.vorn_sum.layer=2"]
    assert fuse_argv(argv) == argv
