"""How many processes `trainer.devices` asks for. Oracle: cases worked out by hand, with GPUs and cores made up."""

from __future__ import annotations

import os

import pytest
import torch
from composing import composed

from vorn.fanout import count_processes
from vorn.records import BadInput


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)


@pytest.mark.parametrize(
    ("devices", "gpus", "count"),
    [("1", 0, 1), ("6", 0, 6), ("auto", 0, 1), ("auto", 4, 4), ("3", 4, 3), ("[0,2]", 4, 2)],
)
def test_each_device_is_a_process(
    machine: None, monkeypatch: pytest.MonkeyPatch, devices: str, gpus: int, count: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert count_processes(composed(f"trainer.devices={devices}")) == count


@pytest.mark.parametrize(
    ("devices", "gpus", "message"),
    [
        ("0", 0, r"trainer.devices=0 is not legal; give how many"),
        ("[0,0]", 4, r"trainer.devices=\[0, 0\] is not legal"),
        ("[0,1]", 0, r"names GPUs and there is none"),
        ("5", 4, r"there are 4 GPUs here, numbered from 0"),
        ("[4]", 4, r"there are 4 GPUs here, numbered from 0"),
        ("7", 0, r"trainer.devices=7: .* there are 6 cores and no GPU here; give at most 6"),
    ],
)
def test_what_is_not_there_is_refused(
    machine: None, monkeypatch: pytest.MonkeyPatch, devices: str, gpus: int, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(BadInput, match=message):
        count_processes(composed(f"trainer.devices={devices}"))
