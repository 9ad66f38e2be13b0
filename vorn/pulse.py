"""Whether a process still lives, told to all others that see a folder: a locked file, and its age for other machines.

The kernel lets go of a file's lock when its holder dies, however it dies, so that no process id has to be compared.
A file system may keep locks to one machine; then another machine goes by when the file was touched last.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from platform import node
from threading import Event, Thread


def machine() -> str:
    """What processes that share a kernel have in common; containers on one machine have host names of their own."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else node()


class Pulse:
    """Holds a lock on a file and touches it from a thread until `stop`, or until the process ends."""

    def __init__(self, path: Path, stale_after_s: float) -> None:
        """Create `path`; it is touched four times in `stale_after_s` seconds. Raises: OSError if it cannot be made."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._stopped = Event()
        self._thread = Thread(target=self._beat, args=(stale_after_s / 4,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Remove the file and let go of its lock."""
        self._stopped.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _beat(self, interval_s: float) -> None:
        while not self._stopped.wait(interval_s):
            os.utime(self._descriptor)


def is_alive(path: Path, *, is_here: bool, now: float, stale_after_s: float) -> bool:
    """Whether the holder of a pulse lives.

    Args:
        path: of its file.
        is_here: whether it runs, or ran, on this machine, where the lock alone decides.
        now: modification time of a file touched just now in the same folder, in seconds; clocks of machines differ.
        stale_after_s: without a touch for so long, a holder on another machine counts as dead.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return not is_here and now - os.fstat(descriptor).st_mtime < stale_after_s
    finally:
        os.close(descriptor)
