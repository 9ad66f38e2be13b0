from __future__ import annotations

import json

import pytest

from vorn import bench

SMALL = (
    "--tokens 80 --new-tokens 3 --cells 4 --budget 48 --hidden 32 --layers 2 --heads 4 --kv-heads 2 --vocab 64 "
    "--rounds 1"
)


def test_every_case_runs_and_the_last_line_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In this process, for speed; the growth of the peak then means nothing, but the same code runs.
    in_process = lambda sizes, names: {name: bench._peak_growth_bytes(sizes, name) for name in names}  # noqa: E731
    monkeypatch.setattr(bench, "_memory", in_process)
    bench.main(SMALL.split())
    table, last = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    result = json.loads(last)
    assert result["sizes"]["tokens"] == 80
    for kind in ("wall_prefills", "processor_prefills"):
        assert result[kind]["plain_prefill"] == 1.0
        assert "panel_4_cells_and_full" in result[kind]
        assert min(result[kind].values()) > 0
    assert set(result["peak_growth_bytes"]) == set(result["wall_prefills"])
    for name in result["wall_prefills"]:
        assert f"\n{name} " in table


def test_panels_of_the_benchmark_are_what_they_are_called() -> None:
    small = bench.Bench(bench.Sizes(tokens=80, hidden=32, layers=2, heads=4, kv_heads=2))
    decoded = small.panel(bench._default_cells(bench.Sizes(budget=48)), with_full=True)
    assert len(decoded.cells) == 5 * 2 * 2 + 1
    assert {cell.batch_rows for cell in decoded.cells} == {21}
    assert {len(cell.token_ids) for cell in decoded.cells} == {16}
    labels = [(cell.policy.scorer, cell.budget, cell.sinks) for cell in bench._equal_cells(bench.Sizes())]
    assert len(set(labels)) == 12


def test_memory_is_printed_per_length_with_the_growth_between_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_in_own_process", bench._peak_over_model_bytes)  # as above
    bench.main([*SMALL.split(), "--window", "32", "--chunk-tokens", "16", "--memory-tokens", "160", "80"])
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert "per further token" in head
    peaks = json.loads(last)["panel_peak_bytes"]
    assert list(peaks) == ["80", "160"]
    assert [line.split()[0] for line in (first, second)] == ["80", "160"]
    assert len(first.split()) == 2
    assert float(second.split()[2]) == pytest.approx((peaks["160"] - peaks["80"]) / 80 / 2**10, abs=0.06)
