"""Files that only grow: each writer appends to one of its own, and what an append returns from is on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vorn.records import BadInput


class Appender:
    """Appends blocks of whole lines to a file of its own, created at the first block.

    Every error of writing or syncing propagates, and the file ends there: whatever is appended later goes to a new one,
    so that a torn line stays the last of its file.
    """

    def __init__(self, folder: Path, suffix: str, owner: Callable[[], str], head: Callable[[], bytes]) -> None:
        """Nothing is created, and `owner` and `head` not called, before there is something to write.

        Args:
            folder: where the file stands; created with it.
            suffix: of the file's name, ".jsonl".
            owner: who writes it, as part of its name.
            head: lines at the file's beginning.
        """
        self._folder, self._suffix, self._owner, self._head = folder, suffix, owner, head
        self._descriptor: int | None = None

    def append(self, block: bytes) -> None:
        """Write the block; it is on disk when this returns. Raises: OSError if it cannot be written."""
        try:
            if self._descriptor is None:
                self._descriptor = self._create()
            _write_all(self._descriptor, block)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the file; a later append would begin another."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _create(self) -> int:
        head, owner = self._head(), re.sub(r"[^A-Za-z0-9.-]+", "_", self._owner())
        make_folder(self._folder)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{owner}{self._suffix}"
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            _write_all(descriptor, head)
            _sync_folder(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turns what the file system refuses into one message. Raises: BadInput."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"ledger_dir: {folder} cannot be written ({error.strerror or error}); legal is a folder with free space "
            "that this user may write; make room, change its permissions, or give another ledger_dir; nothing that "
            "was measured is lost, and the same command resumes"
        ) from error


def make_folder(folder: Path) -> None:
    """Create `folder` and the folders above it, each entry on disk before the next."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _write_all(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
