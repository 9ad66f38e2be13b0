"""A process among those of its job: its rank, how the job ended, and what SIGTERM asks of it. Imports no torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

DONE, FAILED, WITH_ERRORS, NO_REPORT = 0, 1, 3, 4
INTERRUPTED, TERMINATED = 130, 143


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: its exit status, and why if it failed."""

    code: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rank:
    """Which of the processes that measure one panel this is; torchrun, or the launcher of this project, says so."""

    rank: int  # over all machines; 0 prints, logs and reports
    local_rank: int  # on this machine; chooses the GPU
    world_size: int

    @staticmethod
    def of(environment: Mapping[str, str]) -> Rank:
        """From RANK, LOCAL_RANK and WORLD_SIZE; a process without them is alone."""
        rank = int(environment.get("RANK", "0"))
        return Rank(rank, int(environment.get("LOCAL_RANK", rank)), int(environment.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no launcher has started others beside it."""
        return self.world_size == 1


class Termination:
    """SIGTERM ends the process with 143: at once, or, while it measures, when the fixture in flight is on disk."""

    def __init__(self) -> None:
        self.is_requested = False
        self._is_measuring = False

    def install(self) -> None:
        """Handle SIGTERM from now on."""
        signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def after_the_fixture(self) -> Iterator[None]:
        """Within, the first SIGTERM only sets `is_requested`; afterwards the process ends if there was one."""
        self._is_measuring = True
        try:
            yield
        finally:
            self._is_measuring = False
        if self.is_requested:
            raise SystemExit(TERMINATED)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.is_requested or not self._is_measuring:
            raise SystemExit(TERMINATED)
        self.is_requested = True
        # Not print(): the signal may have come in the middle of one.
        os.write(2, b"SIGTERM: ends after the fixture in flight; a second one ends at once\n")


TERMINATION = Termination()  # of this process: a process has one handler of a signal
