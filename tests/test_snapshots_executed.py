"""Real resumes on tiny hybrid models. Oracle: one prefill of the whole prompt, and transformers' own generate."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path as File

import pytest
import torch
from composing import composed
from factories import make_manifest
from transformers import DynamicCache, GenerationConfig

from vorn.records import BadInput
from vorn.snapshots import executed, states
from vorn.snapshots.campaign import Campaign
from vorn.snapshots.cold import ColdPrefill
from vorn.snapshots.engine import Outcome
from vorn.snapshots.executed import Executed, load_engine
from vorn.snapshots.index import Capacity
from vorn.snapshots.module import ResumeModule
from vorn.snapshots.paths import Path
from vorn.snapshots.placement import Placement
from vorn.snapshots.plan import plan_campaign
from vorn.snapshots.policies.lru import Lru
from vorn.snapshots.requests import Request, Talk
from vorn.snapshots.simulate import Pool
from vorn.snapshots.states import Reader, State, keys_and_values, probe, restore, snapshot
from vorn.snapshots.tiny import VOCABULARY, load_model, tiny_model

pytestmark = pytest.mark.integration
TOKENS, TOLERANCE = 100, 2e-5
PLACEMENT = Placement(
    grid=48, tail=True, sibling=False, leaf=True, branch=False, block=16, match_generated=False, rendered_anew=False
)
TINY = (
    "workload=[small_strand]", "workload.seeds=1", "workload.small_strand.system_tokens=20",
    "workload.small_strand.build_turns=1", "workload.small_strand.turn_tokens=20", "workload.small_strand.cycles=2",
    "workload.small_strand.one_shots=1", "workload.small_strand.one_shot_tokens=20", "workload.small_strand.slots=3",
    "snapshot_policy=[forecast]", "placement.grid=null",
)  # fmt: skip
SLOTS = Pool(Lru("winner"), Capacity(slots=3), "swap", 1)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """The families warn that faster kernels are not installed."""
    warnings.filterwarnings("ignore", module="transformers")


def prompt(tokens: int = TOKENS) -> list[int]:
    return torch.randint(VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.mark.parametrize(
    ("family", "tokens", "anchors"),
    [
        ("qwen3_next", 200, (16, 160, 199)),
        ("zamba2", 200, (16, 160, 199)),
        *((name, TOKENS, (47, 99)) for name in ("qwen3_5", "bamba", "granite_hybrid", "nemotron_h", "falcon_h1",
                                                "mamba2")),
    ],
)  # fmt: skip
def test_a_resume_from_any_anchor_equals_a_cold_prefill(family: str, tokens: int, anchors: tuple[int, ...]) -> None:
    reader, ids = Reader(tiny_model(family)), prompt(tokens)
    whole = reader.fresh()
    cold = reader.read(ids, whole, 0)
    said = reader.generate(cold, whole, tokens, 5)
    kv = keys_and_values(whole)
    for anchor in anchors:
        cache = reader.fresh()
        reader.read(ids[:anchor], cache, 0)
        state = snapshot(cache, anchor)
        reader.read(ids[anchor : anchor + 1], cache, anchor)  # reading on must not change the snapshot
        resumed = restore(reader, state, kv)
        warm = reader.read(ids[anchor:], resumed, anchor)
        assert (warm - cold).abs().max() <= TOLERANCE
        assert reader.generate(warm, resumed, tokens, 5) == said
    stale = restore(reader, State(16, snapshot(whole, tokens).layers), kv)
    assert (reader.read(ids[16:], stale, 16) - cold).abs().max() > 100 * TOLERANCE


def test_a_cold_prefill_says_what_generate_says() -> None:
    model = tiny_model("qwen3_5")
    reader, ids, cache = Reader(model), prompt(), Reader(model).fresh()
    tokens = reader.generate(reader.read(ids, cache, 0), cache, TOKENS, 5)
    config = GenerationConfig(do_sample=False, max_new_tokens=5, pad_token_id=0)
    batch = torch.tensor([ids])
    said = model.generate(batch, attention_mask=torch.ones_like(batch), generation_config=config)
    assert said[0, TOKENS:].tolist() == tokens


@pytest.mark.parametrize("family", ["jamba", "mamba", "falcon_mamba"])
def test_families_that_lose_their_state_are_refused_with_the_reason(family: str) -> None:
    with pytest.raises(BadInput, match=r"loses its recurrent state: reading 48 tokens after a restored 48.*Jamba"):
        load_engine(PLACEMENT, model=f"tiny/{family}", revision=None, device="cpu", tolerance=TOLERANCE, new_tokens=2,
                    probe_tokens=96, name=family)  # fmt: skip


def test_a_probe_that_could_see_nothing_is_refused() -> None:
    reader = Reader(tiny_model("qwen3_5"))
    with pytest.raises(BadInput, match=r"even a wrong state changes no logit by more than"):
        probe(reader, 96, 0.1, VOCABULARY)


def test_unknown_tiny_models_and_plain_transformers_are_refused() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    with pytest.raises(BadInput, match=r"Unknown tiny model 'qwen3_nxt'. Did you mean 'qwen3_next'"):
        tiny_model("qwen3_nxt")
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    ).eval()
    with pytest.raises(BadInput, match="has no recurrent state"):
        probe(Reader(llama), 32, TOLERANCE, 64)


def engine(family: str) -> Executed:
    return Executed(ColdPrefill(Reader(tiny_model(family)), TOLERANCE, 4, VOCABULARY), PLACEMENT, family)


def conversation() -> list[Request]:
    """Three turns with one-shots between them that need slots."""
    talk = Talk("t", 1, PLACEMENT)
    found = [talk.turn(60, 3)]
    for turn in range(2):
        found.append(Request(5 + turn, Path.of((f"shot{turn}", 50)), (f"said{turn}", 2)))
        found.append(talk.turn(30, 3, f"resume{turn}"))
    return found


@pytest.mark.parametrize("family", ["qwen3_5", "zamba2", "bamba"])
def test_the_engine_resumes_as_the_simulation_says_and_exactly(family: str) -> None:
    from vorn.snapshots.cost import Affine
    from vorn.snapshots.simulate import simulate

    for pool in (SLOTS, replace(SLOTS, capacity=Capacity())):
        outcomes = engine(family).run(pool, conversation())
        simulated = simulate(pool, conversation(), PLACEMENT, Affine(0.0, 1.0))
        assert [replace(one.resumed, seconds=0.0) for one in outcomes] == [
            replace(one, seconds=0.0) for one in simulated
        ]
        measured = [one for one in outcomes if one.logit_difference is not None]
        assert len(measured) == 2
        for one in measured:
            assert one.problem is None
            assert one.greedy_equal
            assert one.logit_difference is not None
            assert one.logit_difference <= TOLERANCE
            assert one.resumed.seconds > 0
    assert max(one.resumed.anchor for one in measured) > 0


def without_rounding(family: str) -> list[Outcome]:
    """The measured resumes where no logit may differ from a cold prefill by rounding, unless its pieces explain it."""
    usual = engine(family)
    strict = replace(usual.cold, tolerance=1e-9)
    outcomes = replace(usual, cold=strict).run(replace(SLOTS, capacity=Capacity()), conversation())
    found = [one for one in outcomes if one.logit_difference is not None]
    assert len(found) == 2
    assert all(one.logit_difference and one.logit_difference > strict.tolerance for one in found)
    return found


@pytest.mark.parametrize("family", ["qwen3_next", "zamba2"])
def test_the_rounding_of_pieces_is_no_error(family: str) -> None:
    assert [one.problem for one in without_rounding(family)] == [None, None]


def test_a_model_that_loses_its_state_between_pieces_is_no_rounding() -> None:
    """Jamba's resume is what its cold read in pieces gives, to the last bit, and both are wrong."""
    for one in without_rounding("jamba"):
        assert one.problem is not None
        assert "by 0 from a cold read in the same pieces" in one.problem


def test_a_state_that_is_wrong_by_a_thousandth_is_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    @torch.inference_mode()
    def wrong(reader: Reader, state: State, kv: states.KV) -> DynamicCache:
        cache = restore(reader, state, kv)
        for layer in cache.layers:
            for one in getattr(layer, "recurrent_states", {}).values():
                one *= 1.001
        return cache

    monkeypatch.setattr(executed, "restore", wrong)
    assert all(one.problem and "the resume is not exact" in one.problem for one in without_rounding("qwen3_next"))


def test_a_snapshot_that_is_not_cloned_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_cloned", dict)
    outcomes = engine("zamba2").run(replace(SLOTS, capacity=Capacity()), conversation())
    problems = [one.problem for one in outcomes if one.problem]
    assert problems
    assert "the resume is not exact: a logit differs by" in problems[0]


def test_a_state_of_other_tokens_is_never_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = executed.Stored

    def swapped(state: State, kv: states.KV, key: object, cuts: tuple[int, ...]) -> executed.Stored:
        return kept(replace(state, depth=state.depth - 1), kv, key, cuts)  # type: ignore[arg-type]

    monkeypatch.setattr(executed, "Stored", swapped)
    with pytest.raises(RuntimeError, match="a state of other tokens"):
        engine("qwen3_5").run(replace(SLOTS, capacity=Capacity()), conversation())


def test_a_campaign_on_a_model_finds_what_the_simulated_one_finds(tmp_path: File) -> None:
    """From the configuration to observations, on a family whose engine the other tests do not run."""
    from vorn.snapshots.run import make_engine

    found = {}
    for name, settings in {
        "executed": ("engine.model=tiny/granite_hybrid", "engine.new_tokens=3", "engine.probe_tokens=32"),
        "simulated": ("engine=simulated",),
    }.items():
        plan = plan_campaign(composed("experiment=warm_resume_executed", *TINY, *settings))
        campaign = Campaign(plan, tmp_path / name, lambda _: make_manifest(), tmp_path)
        (item,) = campaign.todo()
        found[name] = ResumeModule(campaign, make_engine(plan)).predict_step(item)
    assert len(found["executed"]) == 2 * 2  # cells, resumes
    for real, wanted in zip(found["executed"], found["simulated"], strict=True):
        assert (real.error, real.outcome, real.cell) == (None, wanted.outcome, wanted.cell)
        assert real.resume is not None
        assert real.resume.ttft_law == "measured"
        assert real.resume.greedy_equal
        assert len(real.completion.split()) == 3
    assert any(one.outcome for one in found["executed"])


def test_a_model_that_is_not_there_is_one_message(tmp_path: File) -> None:
    with pytest.raises(BadInput, match=r"model .*nowhere' cannot be loaded \(.*\); give tiny/FAMILY \(qwen3_next"):
        load_model(str(tmp_path / "nowhere"), None)


def test_pickled_weights_are_not_read(tmp_path: File) -> None:
    model = tiny_model("bamba")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_model(str(tmp_path), None)
