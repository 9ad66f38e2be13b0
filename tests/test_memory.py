"""A fixture that runs out of memory is measured with less. Oracle: the same run undisturbed, and the ladder by hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import make_contents, make_manifest, make_observation

from tests.composing import composed
from vorn import run, work
from vorn.kv import reforward
from vorn.ledger import read_ledger
from vorn.memory import Relief, Watch, is_out_of_memory
from vorn.panel import plan_panel
from vorn.records import BadInput, FixtureRun, Observation
from vorn.report import build_report
from vorn.report.notes import qualifications

SMALL = ("logger=none", "limit=1", "task.context_tokens=300", "task.keys=4", "budget=[32]", "policy=[vorn,random]",
         "verbosity=quiet", "memory.batch_cells=[4,2]", "memory.chunk_tokens=[200,64]")  # fmt: skip
READING = work.Reading(
    evaluation_id="e", model="m", task="t", grade="g", max_new_tokens=9, max_cells=64, max_bytes=1, chunk_tokens=None
)

Measure = Callable[..., dict[tuple[str, str], Observation]]


@pytest.fixture
def measure(random_checkpoint: Path, tmp_path: Path) -> Measure:
    """The observations of a run into a ledger of this name, by cell and fixture, and its exit code under ("", "")."""

    def measured(name: str, code: int = 0, *more: str) -> dict[tuple[str, str], Observation]:
        cfg = composed(*SMALL, *more, f"model.id={random_checkpoint}", f"ledger_dir={tmp_path / name}")
        assert run.evaluate(cfg, plan_panel(cfg), tmp_path / "out") == code
        (folder,) = (tmp_path / name).iterdir()
        return {(one.cell, one.fixture_id): one for one in read_ledger(folder).observations}

    return measured


def results(seen: dict[tuple[str, str], Observation]) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {key: (one.outcome, one.completion, one.kept_tokens, one.evidence_kept) for key, one in seen.items()}


def ladders(seen: dict[tuple[str, str], Observation]) -> set[tuple[int, int, int | None]]:
    runs = [one.fixture_run for one in seen.values() if one.fixture_run]
    assert len(runs) == len(seen)
    return {(one.retries, one.max_cells, one.chunk_tokens) for one in runs}


def failing(original: Callable[..., Any], when: Callable[..., bool], error: type[Exception]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        if when(**kwargs):
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(*args, **kwargs)

    return called


def alone(prefill: Callable[..., Any]) -> Callable[..., Any]:
    """Reads prompts, and fails where an earlier prefill is still held."""
    read: list[weakref.ref[Any]] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        assert [one for one in read if one() is not None] == []
        found = prefill(*args, **kwargs)
        read.append(weakref.ref(found))
        return found

    return called


@pytest.mark.integration
def test_smaller_batches_then_chunks_measure_what_an_undisturbed_run_does(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = measure("calm")
    assert ladders(calm) == {(0, 64, None)}
    with monkeypatch.context() as patch:
        few = lambda max_cells, **_: max_cells > 2  # noqa: E731
        patch.setattr(work, "decode", failing(work.decode, few, torch.OutOfMemoryError))
        patch.setattr(work, "prefill", alone(work.prefill))
        batches = measure("batches")
    assert ladders(batches) == {(2, 2, None)}
    assert {one.batch_rows for one in batches.values()} == {1, 2}
    with monkeypatch.context() as patch:
        long = lambda chunk_tokens, **_: chunk_tokens is None or chunk_tokens > 64  # noqa: E731
        patch.setattr(work, "prefill", failing(work.prefill, long, MemoryError))
        chunks = measure("chunks")
    assert ladders(chunks) == {(4, 2, 64)}
    assert results(batches) == results(calm)
    assert results(chunks) == results(calm)


@pytest.mark.integration
def test_a_cell_that_is_read_again_comes_in_chunks_where_memory_runs_short(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone, and without smaller batches, which it is not in."""
    panel, chunks = ("unit=[token]", "contract=[prefill_once,reforward]"), list[int | None]()
    calm, again = measure("calm", 0, *panel), reforward.reforward

    def starved(*args: Any, chunk_tokens: int | None, **kwargs: Any) -> Any:
        chunks.append(chunk_tokens)
        if type(args[3].policy.scorer).__name__ == "Random" and chunk_tokens != 64:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return again(*args, chunk_tokens=chunk_tokens, **kwargs)

    monkeypatch.setattr(reforward, "reforward", starved)
    short = measure("short", 0, *panel)
    assert results(short) == results(calm)
    assert chunks == [None, None, 200, 64]
    (starving,) = [one for one in short.values() if (one.policy, one.contract) == ("random", "reforward")]
    assert ladders({("", ""): starving}) == {(2, 1, 64)}
    assert ladders({key: one for key, one in short.items() if one is not starving}) == {(0, 64, None)}


@pytest.mark.integration
def test_what_never_fits_is_an_error_after_every_try(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "decode", failing(work.decode, lambda **_: True, torch.OutOfMemoryError))
    seen = measure("never", 3)
    assert ladders(seen) == {(4, 2, 64)}
    assert {one.error for one in seen.values()} == {"OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."}


@pytest.mark.parametrize(
    ("cells", "tokens", "reading", "expected"),
    [
        (20, 9000, READING, [(64, None), (8, None), (1, None), (1, 4096), (1, 1024)]),
        (8, 900, READING, [(64, None), (1, None)]),
        (1, 2000, READING, [(64, None), (1, 1024)]),
        (20, 9000, replace(READING, max_cells=4, chunk_tokens=2048), [(4, 2048), (1, 2048), (1, 1024)]),
    ],
)
def test_no_try_is_made_with_as_much_as_before(
    cells: int, tokens: int, reading: work.Reading, expected: list[tuple[int, int | None]]
) -> None:
    relief, got = Relief([8, 1], [4096, 1024], 0.9), list[tuple[int, int | None]]()
    less: work.Reading | None = reading
    while less is not None:
        got.append((less.max_cells, less.chunk_tokens))
        less = relief.less(less, cells, tokens)
    assert got == expected


def test_a_failed_allocation_is_recognised_on_a_cpu_too() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("index out of range"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize(("reserved", "is_near"), [(90, False), (91, True)])
def test_a_near_miss_is_more_reserved_memory_than_the_share(
    monkeypatch: pytest.MonkeyPatch, reserved: int, is_near: bool
) -> None:
    card = type("Card", (), {"total_memory": 100})
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    seen = Watch(torch.device("cuda", 0), Relief([], [], 0.9)).run(2.0, 1, READING)
    assert (seen.wall_s, seen.reserved_bytes, seen.is_near_miss, seen.retries) == (2.0, reserved, is_near, 1)


def test_the_report_says_what_the_panel_cost_and_where_memory_ran_short() -> None:
    """Oracle: 3 fixtures of half an hour, one of them measured again for a cell that was added, at 4 an hour: 8."""
    taken = FixtureRun(
        wall_s=1800.0, reserved_bytes=3 << 30, is_near_miss=True, retries=0, max_cells=64, chunk_tokens=None
    )
    seen = [
        make_observation(fixture_id=f"f{index}", fixture_index=index, policy=policy, fixture_run=one)
        for index, one in enumerate([taken, replace(taken, retries=2, is_near_miss=False), taken])
        for policy in ("full", "tova")
    ]
    seen.append(make_observation(fixture_id="f0", policy="h2o", fixture_run=replace(taken, wall_s=1800.5)))
    manifests = tuple(
        make_manifest(config=make_manifest().config | {"price_per_hour": price}) for price in (None, 9, 4)
    )
    notes = [qualifications(build_report(make_contents(*seen), None).evaluations[0])]
    notes.append(qualifications(build_report(replace(make_contents(*seen), manifests=manifests)).evaluations[0]))
    assert not [line for line in notes[0] if "cost" in line]
    assert [line for line in notes[1] if line.startswith(("memory", "panel cost"))] == [
        "memory: 1 fixture ran out of it and was measured again with smaller batches or chunks (fixture_run in the "
        "ledger says with which)",
        "memory: 3 fixtures nearly ran out of it, 3.0 GiB reserved at most; longer prompts may not fit",
        "panel cost: 8.00, for 2 process hours at 4 (the latest of several prices), of 3 cells together: they share "
        "their prefills, so that none has a cost of its own",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("memory.batch_cells=[1,8]", r"memory\.batch_cells=\[1, 8\] is not legal; give a list of falling whole"),
        ("memory.chunk_tokens=64", r"memory\.chunk_tokens=64 is not legal"),
        ("memory.near_miss=1.5", r"memory\.near_miss=1\.5 is not legal; give a share above 0, at most 1"),
        ("price_per_hour=0", r"price_per_hour=0 is not legal; give null, or what an hour costs"),
    ],
)
def test_settings_are_judged_before_anything_is_loaded(override: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_panel(composed(override))
