"""Writing that is on disk when it returns, and what the file system refuses as one message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vorn.records import BadInput


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


def write_all(descriptor: int, block: bytes) -> None:
    """Write the block; it is on disk when this returns. Raises: OSError."""
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and the folders above it, each entry on disk before the next."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
