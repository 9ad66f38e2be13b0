from __future__ import annotations

import json
import os

import pytest

from vorn.bench import __main__ as command
from vorn.bench import configured, engine, measures
from vorn.choices import conf_dirs, options

SMALL = (
    "--tokens 80 --new-tokens 3 --cells 4 --contract-cells 2 --budget 70 --hidden 32 --layers 2 --heads 4 --kv-heads 2 "
    "--vocab 64 --rounds 1"
)


def test_every_case_runs_and_the_last_line_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In this process, for speed; the growth of the peak then means nothing, but the same code runs.
    in_process = lambda sizes, names: {name: measures.peak_growth_bytes(sizes, name) for name in names}  # noqa: E731
    monkeypatch.setattr(measures, "memory", in_process)
    command.main(SMALL.split())
    table, last = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    result = json.loads(last)
    assert result["sizes"]["tokens"] == 80
    for kind in ("wall_prefills", "processor_prefills"):
        assert result[kind]["plain_prefill"] == 1.0
        assert "panel_4_cells_and_full" in result[kind]
        assert min(result[kind].values()) > 0
    files = options("policy", conf_dirs())
    bound = {name for name, path in files.items() if "\n  contracts:" in path.read_text()}  # to contracts of their own
    others = {f"policy_{name}" for name in files.keys() - bound - {"all", "full", "step_query_mass"}}
    others |= {name for name in result["wall_prefills"] if name.startswith("contract_")}
    assert {name.split("_", 1)[1][:-8] for name in others if "contract_" in name} == set(
        options("contract", conf_dirs())
    )
    assert others <= set(result["wall_prefills"])
    assert set(result["peak_growth_bytes"]) == set(result["wall_prefills"]) - others
    for name in result["wall_prefills"]:
        assert f"\n{name} " in table


def test_panels_of_the_benchmark_are_what_they_are_called() -> None:
    small = engine.Bench(engine.Sizes(tokens=80, hidden=32, layers=2, heads=4, kv_heads=2))
    decoded = small.panel(engine._default_cells(engine.Sizes(budget=48)), with_full=True)
    assert len(decoded.cells) == 5 * 2 * 2 + 1
    assert {cell.batch_rows for cell in decoded.cells} == {21}
    assert {len(cell.token_ids) for cell in decoded.cells} == {16}
    labels = [(cell.policy.scorer, cell.budget, cell.sinks) for cell in engine._equal_cells(engine.Sizes())]
    assert len(set(labels)) == 12


def test_configured_cases_do_what_they_are_called() -> None:
    small = engine.Bench(engine.Sizes(tokens=80, budget=70, new_tokens=3, hidden=32, layers=2, heads=4, kv_heads=2))
    for case in configured.policy_cases(small).values():
        (pruned,) = case()
        assert pruned.kept.mean_tokens in (70, 79)  # all but the one token of evidence are left by evidence_drop
    for name, case in configured.contract_cases(small).items():
        case()
        seen = case()
        assert not any(one.contract_work and one.contract_work.prefill_is_reused for one in seen)
        assert len(seen) == (1 if "summarize" in name else 4)
        assert {one.contract for one in seen} == {name.removeprefix("contract_").rpartition("_cells")[0][:-2]}


@pytest.mark.parametrize("before", [None, "7"])
def test_only_the_processes_that_are_measured_give_freed_blocks_back_early(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    name = "MALLOC_MMAP_THRESHOLD_"
    monkeypatch.setenv(name, before) if before else monkeypatch.delenv(name, raising=False)
    assert measures.in_own_process(os.getenv, name) == "1048576"
    assert os.getenv(name) == before
    with pytest.raises(ValueError, match="invalid literal"):
        measures.in_own_process(int, "no number")
    assert os.getenv(name) == before


def test_a_case_that_fails_ends_the_benchmark() -> None:
    tight = engine.Bench(engine.Sizes(tokens=20, budget=22, hidden=32, layers=2, heads=4, kv_heads=2))
    with pytest.raises(RuntimeError, match="a case of the benchmark failed: BadInput: window=32 of a SnapKV policy"):
        configured.policy_cases(tight)["policy_snapkv"]()


def test_memory_is_printed_per_length_with_the_growth_between_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measures, "in_own_process", lambda measure, sizes: measure(sizes))  # as above
    command.main([*SMALL.split(), "--window", "32", "--chunk-tokens", "16", "--memory-tokens", "160", "80"])
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert "per further token" in head
    peaks = json.loads(last)["panel_peak_bytes"]
    assert list(peaks) == ["80", "160"]
    assert [line.split()[0] for line in (first, second)] == ["80", "160"]
    assert len(first.split()) == 2
    assert float(second.split()[2]) == pytest.approx((peaks["160"] - peaks["80"]) / 80 / 2**10, abs=0.06)
