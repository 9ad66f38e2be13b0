"""A fixture that runs out of memory: what is tried with less, and what measuring it took."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from vorn.records import FixtureRun
from vorn.work import Reading


@dataclass(frozen=True, slots=True)
class Relief:
    """What is tried, one step after another, when memory runs out, and when it nearly did.

    Attributes:
        batch_cells: cells decoded in one batch.
        chunk_tokens: tokens of one forward of the prefill, once smaller batches have not helped.
        near_miss: share of the device's memory; reserving more than it is a near miss.
    """

    batch_cells: Sequence[int]
    chunk_tokens: Sequence[int]
    near_miss: float

    def less(self, reading: Reading, cells: int, prompt_tokens: int) -> Reading | None:
        """The next step, which takes less memory than `reading`; None if there is none.

        Args:
            reading: with which memory ran out.
            cells: that ran out of it and may share a batch; 1 if none may.
            prompt_tokens: of the fixture.
        """
        batch, chunk = min(reading.max_cells, cells), min(reading.chunk_tokens or prompt_tokens, prompt_tokens)
        for fewer in self.batch_cells:
            if fewer < batch:
                return replace(reading, max_cells=fewer)
        for shorter in self.chunk_tokens:
            if shorter < chunk:
                return replace(reading, max_cells=batch, chunk_tokens=shorter)
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has no class of its own for one on a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


class Watch:
    """Time and memory of one fixture, from now on."""

    def __init__(self, device: torch.device, relief: Relief) -> None:
        self._device, self._relief = device, relief
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._start = perf_counter()

    @property
    def seconds(self) -> float:
        """Since the beginning, wall clock."""
        return perf_counter() - self._start

    @property
    def peak_bytes(self) -> int:
        """Peak of the allocated device memory; on a CPU the peak resident memory of the process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return rss if sys.platform == "darwin" else rss * 1024

    def run(self, seconds: float, retries: int, reading: Reading) -> FixtureRun:
        """What measuring took, for the cells that were measured with the last of so many further tries."""
        reserved = near = None
        if self._device.type == "cuda":
            reserved = torch.cuda.max_memory_reserved(self._device)
            total = torch.cuda.get_device_properties(self._device).total_memory
            near = reserved > self._relief.near_miss * total
        return FixtureRun(
            wall_s=seconds,
            reserved_bytes=reserved,
            is_near_miss=near,
            retries=retries,
            max_cells=reading.max_cells,
            chunk_tokens=reading.chunk_tokens,
        )
