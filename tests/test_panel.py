"""From configuration to cells: labels by hand, identities recomputed with hashlib, shares by integer division."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import product

import pytest
from composing import changed_to, composed
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vorn.cells import CellSpec
from vorn.identity import evaluation_identity
from vorn.panel import plan_panel
from vorn.records import BadInput
from vorn.settings import budget_text, check_guards_fit

SMALL = ("policy=[tova]", "unit=[token]", "budget=64")


def labels(*overrides: str) -> list[str]:
    return [cell.label for cell in plan_panel(composed(*overrides)).cells]


def only(*overrides: str) -> CellSpec:
    (cell,) = plan_panel(composed(*SMALL, *overrides)).pruned
    return cell


def test_default_panel_is_the_whole_product_after_the_reference() -> None:
    policies, units = ("vorn", "tova", "h2o", "sink_recent", "random"), ("token", "sentence")
    budgets = [str(budget) for budget in composed().budget]
    assert labels() == ["full", *("/".join(cell) for cell in product(policies, units, budgets))]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["policy.vorn.layer=[0,1,null]"], ["vorn(layer=0)", "vorn(layer=1)", "vorn"]),
        (["policy.vorn.window=8", "policy.vorn.layer=3"], ["vorn(layer=3,window=8)"]),
        (["policy=[vorn,full]"], ["vorn"]),
        (["seed=7"], ["vorn"]),
    ],
)
def test_parameters_in_the_label_are_those_that_differ(overrides: list[str], expected: list[str]) -> None:
    got = labels("policy=[vorn]", "unit=[word]", "budget=25%", *overrides)
    assert got == ["full", *(f"{policy}/word/25%" for policy in expected)]


def test_seed_of_a_policy_is_shown_only_if_it_is_not_the_runs_own() -> None:
    small = ("policy=[random]", "unit=[token]", "budget=64")
    assert labels(*small, "seed=7")[1] == "random/token/64"
    assert labels(*small, "policy.random.seed=7")[1] == "random(seed=7)/token/64"


def test_unit_settings_make_cells_only_where_they_mean_something() -> None:
    got = labels("policy=[tova]", "unit=[token,sentence]", "unit.fill=[true,false]", "unit.pool=[max,topk_mean]",
                 "unit.top_k=[2,3]", "budget=64")  # fmt: skip
    sentences = ["sentence", "sentence(pool=topk_mean,top_k=2)", "sentence(pool=topk_mean)"]
    filled = [s.replace("sentence(", "sentence(fill=false,") if "(" in s else "sentence(fill=false)" for s in sentences]
    assert got[:2] == ["full", "tova/token/64"]
    assert sorted(got[2:]) == sorted(f"tova/{unit}/64" for unit in sentences + filled)
    assert only("unit.pool=mean").cell_id("e") == only().cell_id("e")
    assert only("unit=[sentence]", "unit.split=marks").unit_config == {
        "_target_": "vorn.kv.units.Sentences", "split": "marks",
    }  # fmt: skip
    assert labels(*SMALL, "unit=[word,sentence,adaptive]", "unit.split=[rules,marks]")[1:] == [
        f"tova/{unit}/64" for unit in ("word", "sentence", "sentence(split=marks)", "adaptive", "adaptive(split=marks)")
    ]


def test_guards_and_contracts_show_where_they_are_not_the_default() -> None:
    assert labels(*SMALL, "guards=[matched,none,published]") == [
        "full", "tova/token/64", "tova/token/64/none", "tova/token/64/published",
    ]  # fmt: skip
    assert labels(*SMALL, "guards.recent=[8,16]") == ["full", "tova/token/64/matched(recent=8)", "tova/token/64"]
    assert labels(*SMALL, "decode.first_token=prefill")[1:] == ["tova/token/64/prefill_once(first_token=prefill)"]


def test_a_cell_reads_and_hashes_the_same_in_every_panel() -> None:
    alone = only()
    among = [
        c for c in plan_panel(composed("guards=[none,matched]", "budget=[128,64]")).pruned if c.label == alone.label
    ]
    assert among == [alone]


def test_reference_stands_first_once_and_is_alone_if_asked() -> None:
    assert labels("policy=[full]") == ["full"]
    reference = plan_panel(composed("policy=[tova,full]")).reference
    assert (reference.unit, reference.guards, reference.contract, reference.budget) == ("", "", "", "")
    assert reference.is_reference
    assert (reference.resolve_budget(777), reference.resolve_guards(777)) == (777, (0, 0))


def test_the_token_that_is_fed_again_counts_among_the_guards() -> None:
    settings = ("policy=[tova]", "unit=[token]", "guards.sinks=64", "guards.recent=0", "budget=64")
    with pytest.raises(BadInput, match=r"budget of 64 tokens cannot hold 64 sink \+ 1 recent tokens"):
        plan_panel(composed(*settings))
    (cell,) = plan_panel(composed(*settings, "decode.first_token=prefill")).pruned
    assert cell.resolve_guards(64) == (64, 0)


def test_published_guards_are_each_policys_own_and_no_parameter() -> None:
    cells = {c.policy: c for c in plan_panel(composed("guards=[published]", "unit=[token]", "budget=101")).pruned}
    assert {name: cell.resolve_guards(101) for name, cell in cells.items()} == {
        "vorn": (1, 16), "tova": (0, 1), "h2o": (0, 50), "sink_recent": (4, 1), "random": (0, 1),
    }  # fmt: skip
    assert cells["vorn"].policy_config == {
        "_target_": "vorn.kv.scorers.vorn.Vorn", "layer": None, "window": 16, "direction": "mean",
    }  # fmt: skip


def test_a_published_guard_may_be_a_parameter() -> None:
    cells = plan_panel(composed("policy=[snapkv]", "policy.snapkv.window=[8,32]", "guards=[published]", "unit=[token]",
                                "budget=100")).pruned  # fmt: skip
    assert [(cell.label, *cell.resolve_guards(100)) for cell in cells] == [
        ("snapkv(window=8)/token/100/published", 0, 8), ("snapkv/token/100/published", 0, 32),
    ]  # fmt: skip


def test_every_layer_of_the_model_is_a_cell_like_any_other() -> None:
    cfg = composed("policy=[vorn]", "policy.vorn.layer=[all,25.0 %]", "unit=[token]", "budget=64")
    unknown, known = plan_panel(cfg), plan_panel(cfg, layers=3)
    assert unknown.is_open
    assert not known.is_open
    names = ["vorn(layer=0)", "vorn(layer=1)", "vorn(layer=2)", "vorn(layer=25%)"]
    assert [cell.label for cell in known.pruned] == [f"{name}/token/64" for name in names]
    (alone,) = plan_panel(changed_to(cfg, "policy.vorn.layer=2")).pruned
    assert known.pruned[2] == alone
    with pytest.raises(BadInput, match=r"policy.vorn.layer=\[0,1,2,1\] names 1 twice"):
        plan_panel(changed_to(cfg, "policy.vorn.layer=[all,1]"), layers=3)


def test_allocations_are_an_axis_and_read_as_a_parameter() -> None:
    got = labels("policy=[h2o,pyramidkv,ada_snapkv]", "allocation=[uniform,pyramid,adaptive]", "unit=[token,sentence]",
                 "allocation.pyramid.beta=[20,5]", "budget=64")  # fmt: skip
    names = ["h2o", "h2o(allocation=pyramid)", "h2o(allocation=pyramid(beta=5))"]
    assert got == [
        "full",
        *(f"{name}/{unit}/64" for name in names for unit in ("token", "sentence")),
        "h2o(allocation=adaptive)/token/64",  # units keep one set for all heads
        "pyramidkv/token/64",
        "pyramidkv/sentence/64",
        "ada_snapkv/token/64",
    ]


def test_an_even_allocation_is_none_and_any_other_makes_another_cell() -> None:
    even, pyramid, steep, own = (
        only(*overrides)
        for overrides in ([], ["allocation=[pyramid]"], ["allocation=[pyramid]", "allocation.pyramid.beta=5"],
                          ["policy=[pyramidkv]"])
    )  # fmt: skip
    assert (even.allocation, even.allocation_config) == ("", {})
    assert pyramid.allocation_config == own.allocation_config == {
        "_target_": "vorn.kv.allocation.Pyramid", "beta": 20,
    }  # fmt: skip
    assert (own.params, pyramid.params) == ("", "allocation=pyramid")
    assert len({cell.cell_id("e") for cell in (even, pyramid, steep, own)}) == 4


def test_positions_inside_the_cache_make_another_cell() -> None:
    plain, compact = (only("+policy.mine={_target_: a.B}", "~policy.tova"),
                      only("+policy.mine={_target_: a.B, positions: compact}", "~policy.tova"))  # fmt: skip
    assert (plain.is_compact, compact.is_compact) == (False, True)
    assert plain.policy_config == compact.policy_config == {"_target_": "a.B"}
    assert plain.cell_id("e") != compact.cell_id("e")
    assert only("policy=[streaming_llm]").is_compact
    assert labels("policy=[streaming_llm,h2o]", "allocation=[pyramid]", "unit=[token]", "budget=64") == [
        "full", "streaming_llm/token/64", "h2o(allocation=pyramid)/token/64",
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"policy.mine.positions: 'new'.*Available: compact, null"):
        only("+policy.mine={_target_: a.B, positions: new}", "~policy.tova")


def test_heads_cannot_share_a_budget_of_units_that_all_heads_keep() -> None:
    assert labels("policy=[tova]", "allocation=[adaptive]", "unit=[token,word]", "budget=64") == [
        "full", "tova(allocation=adaptive)/token/64", "tova/word/64",
    ]  # fmt: skip
    for overrides, message in (
        (["policy=[tova]", "allocation=[uniform,adaptive]", "unit=[word,adaptive]"], "allocation=adaptive has no eff"),
        (["policy=[pyramidkv]", "allocation=[adaptive]", "unit=[token]"], "allocation=adaptive has no effect"),
        (["policy=[tova,ada_snapkv]", "unit=[word]"], "policy=ada_snapkv spreads its budget over heads, but unit=word"),
    ):
        with pytest.raises(BadInput, match=message):
            plan_panel(composed(*overrides))


def test_what_belongs_to_a_policys_name_is_no_parameter() -> None:
    for override, message in (
        ("policy.pyramidkv.allocation=adaptive", "belongs to what 'pyramidkv' means, so 'pyramid' is legal"),
        ("policy.streaming_llm.positions=null", "belongs to what 'streaming_llm' means, so 'compact' is legal"),
        ("policy.evidence_drop.fixed.budget=50%", "belongs to what 'evidence_drop' means"),
        ("+allocation.pyramid.bta=1", "Unknown parameter of allocation 'pyramid': 'bta'. Did you mean 'beta'"),
    ):
        with pytest.raises(BadInput, match=message):
            plan_panel(
                composed("policy=[pyramidkv,streaming_llm,evidence_drop]", "allocation=[uniform,pyramid]", override)
            )
    with pytest.raises(BadInput, match=r"policy.mine.allocation='heap' has no file in conf/allocation"):
        plan_panel(composed("+policy.mine={_target_:a.B,allocation:heap}"))
    with pytest.raises(BadInput, match=r"policy.mine.fixed=\{'unit': 'token'\} is not legal; give unit, guards, bud"):
        plan_panel(composed("+policy.mine={_target_:a.B,fixed:{unit:token}}"))


def test_a_fixed_cell_is_one_whatever_the_panels_axes() -> None:
    got = labels("policy=[tova,evidence_drop]", "unit=[word,sentence]", "unit.fill=[true,false]", "budget=[64,128]",
                 "guards=[matched,published]", "guards.recent=[8,16]")  # fmt: skip
    assert [label for label in got if label.startswith("evidence_drop")] == ["evidence_drop/token/100%/none"]
    assert len(got) == 2 + 4 * 2 * 3
    with pytest.raises(BadInput, match=r"guards.recent=\[8,16\] has no effect"):
        plan_panel(composed("policy=[evidence_drop]", "guards=[none]", "guards.recent=[8,16]"))


@pytest.fixture(scope="module")
def cell() -> CellSpec:
    return only()


@given(hundredths=st.integers(1, 10_000), prompt=st.integers(1, 200_000))
@example(hundredths=2900, prompt=100)  # 0.29 * 100 is 28.999... in floats
def test_percentage_is_floored_exactly_and_keeps_a_token(cell: CellSpec, hundredths: int, prompt: int) -> None:
    cell = replace(cell, budget=budget_text(f"{hundredths // 100}.{hundredths % 100:02d}%"))
    assert cell.resolve_budget(prompt) == max(1, prompt * hundredths // 10_000)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [(64, "64"), ("64", "64"), (" 64 ", "64"), ("064", "64"), ("25%", "25%"), ("25 %", "25%"), ("25.0%", "25%"),
     ("025%", "25%"), ("12.5%", "12.5%"), ("100%", "100%"), ("100.00 %", "100%"), ("0.01%", "0.01%")],
)  # fmt: skip
def test_a_budget_has_one_text_however_it_is_written(value: object, canonical: str) -> None:
    assert budget_text(value) == canonical


def test_cell_id_is_the_hash_of_the_resolved_cell() -> None:
    """Oracle: SHA-256 of sorted, compact JSON, built here from the definition."""
    cell = only("guards.recent=8")
    identity = {
        "policy": ["tova", {"_target_": "vorn.kv.scorers.tova.Tova"}],
        "unit": {"name": "token", "_target_": "vorn.kv.units.Tokens"},
        "guards": ["matched", 4, 8],
        "contract": ["prefill_once", "refeed"],
        "budget": "64",
    }
    text = json.dumps(["e", identity], sort_keys=True, separators=(",", ":"))
    assert cell.cell_id("e") == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_reference_keeps_the_id_that_older_ledgers_have() -> None:
    text = '["e",{"first_token":"refeed","policy":"full"}]'
    assert plan_panel(composed()).reference.cell_id("e") == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_cell_id_follows_what_matters_and_nothing_else() -> None:
    cfg, base = composed(*SMALL), only().cell_id("e")
    same = ["budget='64'", "limit=3", "prefill.chunk_tokens=9", "decode.max_cells=1", "ledger_dir=x",
            "logger.mode=online", "trainer.devices=2", "unit.fill=false"]  # fmt: skip
    other = [["budget=65"], ["budget=64%"], ["guards=[none]"], ["guards.sinks=3"], ["unit=[word]"],
             ["decode.first_token=prefill"], ["policy=[h2o]"]]  # fmt: skip
    assert {plan_panel(changed_to(cfg, o)).pruned[0].cell_id("e") for o in same} == {base}
    assert len({base, *(only(*o).cell_id("e") for o in other)}) == len(other) + 1
    assert only().cell_id("other evaluation") != base
    shuffled = composed(*SMALL)
    shuffled.guards = OmegaConf.create(dict(reversed(list(OmegaConf.to_container(shuffled.guards).items()))))
    assert plan_panel(shuffled).pruned[0].cell_id("e") == base


def test_evaluation_holds_what_all_cells_share() -> None:
    cfg = composed()

    def identity(change: str = "seed=0", weights: str = "w", dtype: str = "float32") -> str:
        return json.dumps(evaluation_identity(changed_to(cfg, change), weights_digest=weights, dtype=dtype))

    base = identity()
    outside = """
        limit=3 task.fixtures=7 budget=65 policy.vorn.layer=1 logger.mode=online guards.sinks=1 model.name=x model.id=x
        model.revision=x prefill.chunk_tokens=5 decode.max_bytes=9 trainer.devices=2
    """.split()
    inside = """
        seed=1 task.keys=4 task.max_new_tokens=3 task.grade=x model.attn_implementation=x model.chat_template=x
        outcome.nll=true
    """.split()
    assert {change for change in outside if identity(change) != base} == set()
    assert {change for change in inside if identity(change) == base} == set()
    assert len({base, identity(weights="v"), identity(dtype="bfloat16")}) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget=0.25", r"budget=0.25 is not legal.*write 25%"),
        ("budget=64.0", r"for tokens write 64"),
        ("budget=true", r"budget=True is not legal"),
        ("budget=[]", r"budget=\[\] is not legal"),
        ("budget=null", r"budget=None is not legal"),
        ("budget=[64,-1]", r"budget=-1 is not legal; give tokens >= 1 \(64\) or a percentage in \(0%, 100%\]"),
        ("budget=0", r"budget=0 "),
        ("budget=0%", r"budget='0%'"),
        ("budget=101%", r"budget='101%'"),
        ("budget=abc", r"budget='abc'"),
        ("budget=[64,'64']", r"budget=\[64,64\] names 64 twice"),
        ("budget=19", r"budget of 19 tokens cannot hold 4 sink \+ 16 recent tokens; raise budget to >= 20 or lower "),
        ("guards.sinks=-1", r"guards.sinks=-1 is not legal; give tokens >= 0"),
        ("guards.recent=1.5", r"guards.recent=1.5 is not legal"),
        ("guards.recent=150%", r"guards.recent='150%' is not legal"),
        ("+guards.foo=1", r"Unknown guards setting 'foo'"),
        ("guards.recent=[]", r"guards.matched.recent=\[\] is not legal"),
        ("unit.fit=prefx", r"value of unit.fit: 'prefx'. Did you mean 'prefix'\? Available: drop_lowest, prefix"),
        ("unit.pool=median", r"unit.pool: 'median'.*Available: max, mean, topk_mean"),
        ("unit.fill=1", r"unit.fill=1 is not legal; give one of: true, false"),
        ("unit.top_k=0", r"unit.top_k=0 is not legal; give a whole number >= 1"),
        ("+unit.foo=1", r"Unknown unit setting 'foo'"),
        ("++unit.sentence.pool=mean", r"unit.sentence=.* is not legal"),
        ("decode.first_token=refed", r"first_token: 'refed'. Did you mean 'refeed'\?"),
        ("outcome.nll=yes", r"outcome.nll='yes'|outcome.nll: 'yes'"),
        ("decode.max_cells=0", r"decode.max_cells=0 is not legal; give a whole number >= 1$"),
        ("decode.max_bytes=2.5", r"decode.max_bytes=2.5"),
        ("prefill.chunk_tokens=0", r"prefill.chunk_tokens=0 .*or null for the whole prompt at once"),
        ("views.fixtures=-1", r"views.fixtures=-1 is not legal; give a whole number >= 0, or null for all fixtures"),
        ("limit=0", r"limit=0 is not legal; give a whole number >= 1, or null for all fixtures of the task"),
        ("seed=-1", r"seed=-1 is not legal; give a whole number >= 0"),
        ("seed=[0,1]", r"to run several: -m seed=A,B"),
        ("fuse=maybe", r"fuse: 'maybe'"),
        ("ledger_dir=null", r"ledger_dir=None"),
        ("model.dtype=float23", r"model.dtype: 'float23'. Did you mean 'float32'"),
        ("model.chat_template=true", r"model.chat_template=True is not legal; give one of: auto, false"),
        ("model=hf", r"model.id is required and not given; give it as model.id=VALUE"),
        ("task.max_new_tokens=0", r"task.max_new_tokens=0"),
        ("task.grade=ruler_al", r"grade='ruler_al' is unknown; did you mean ruler_all@2 or ruler_all@1"),
        ("decode.first_token=[refeed,prefill]", r"first_token=prefill,refeed: the cells of a panel share"),
        ("task.fixtures=none", r"task.fixtures='none'"),
        ("policy=[]", r"policy selects nothing; name at least one of: ada_snapkv, all, at"),
        ("unit=[]", r"unit selects nothing"),
        ("contract=[]", r"contract selects nothing"),
        ("+contract.prefill_once.decay=1", r"Unknown setting of contract 'prefill_once': 'decay'.*: first_token"),
        ("+contract.mine.first_token=refeed", r"contract.mine=\{.*\} has no _target_ and is no contract"),
        ("policy.vorn=tova", r"policy.vorn='tova' is not legal: vorn is a policy; select it with policy=vorn"),
        ("policy.vorn.layer=1.5", r"policy.vorn.layer=1.5 is not legal; give a whole number, a perc.* or null"),
        ("policy.vorn.layer=half", r"policy.vorn.layer='half' is not legal"),
        ("policy.vorn.window=50%", r"policy.vorn.window='50%' is not legal; give a whole number$"),
        ("unit.split=word", r"value of unit.split: 'word'.*Available: marks, rules, sentencex"),
        ("allocation=[]", r"allocation selects nothing; name at least one of: adaptive, pyramid, uniform"),
        ("policy.vorn.layer=true", r"policy.vorn.layer=True"),
        ("policy.vorn.window=null", r"policy.vorn.window=None is not legal; give a whole number$"),
        ("policy.vorn.window=[8,8]", r"policy.vorn.window=\[8,8\] names 8 twice"),
        ("policy.vorn.window=[[8]]", r"give one value or a list of values"),
        ("+policy.vorn.layr=1", r"Unknown parameter of policy 'vorn': 'layr'. Did you mean 'layer'"),
        ("+policy.mine.layer=1", r"policy.mine=\{'layer': 1\} has no _target_ and is no policy"),
        ("+foo=1", r"Unknown key 'foo'"),
    ],
)  # fmt: skip
def test_one_message_per_mistake(override: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_panel(composed(override))


@pytest.mark.parametrize("setting", ["unit.fill=[true,false]", "unit.top_k=[2,3]", "unit.split=[rules,marks]"])
def test_an_axis_that_nothing_uses_is_refused(setting: str) -> None:
    with pytest.raises(BadInput, match="has no effect on what is selected"):
        plan_panel(composed("unit=[token]", setting))
    with pytest.raises(BadInput, match=r"guards.recent=\[8,16\] has no effect"):
        plan_panel(composed("guards=[none]", "guards.recent=[8,16]"))


def test_published_guards_must_exist_to_be_used() -> None:
    overrides = ["+policy.mine={_target_:a.B}", "guards=[published]"]
    with pytest.raises(BadInput, match=r"policy.mine.published_guards=None cannot serve guards=published"):
        plan_panel(composed(*overrides))
    assert "mine/token/64" in labels("+policy.mine={_target_:a.B}", "budget=64")


def test_two_cells_with_one_label_are_refused() -> None:
    cfg = composed(*SMALL)
    OmegaConf.set_struct(cfg, False)
    cfg.policy = {"mine": {"_target_": "a.B", "a": 1}, "mine(a=1)": {"_target_": "a.B"}}
    with pytest.raises(BadInput, match=r"two different cells would both be called 'mine\(a=1\)/token/64'"):
        plan_panel(cfg)


@given(budget=st.integers(0, 40), sinks=st.integers(0, 20), recent=st.integers(0, 20))
def test_guards_fit_exactly_when_their_sum_does(budget: int, sinks: int, recent: int) -> None:
    if len({*range(sinks), *range(100, 100 + recent)}) > budget:
        with pytest.raises(BadInput, match=f"raise budget to >= {sinks + recent} "):
            check_guards_fit(budget, sinks, recent)
    else:
        check_guards_fit(budget, sinks, recent)
