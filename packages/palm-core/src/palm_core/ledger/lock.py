"""One writer for a run: a lock of the operating system, gone when its process is.

A process that is killed leaves no lock behind, so none has to be removed by hand.
Who holds it is written in the ledger, for the one that is turned away.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from palm_core.errors import InputError, WorkError
from palm_core.ledger._journal import NO_LOCKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_NAME = "lock"
#: Seconds: whoever only looks whether a run is worked on holds the lock for an instant.
PATIENCE = 2.0


class RunLock:
    """The lock of a run's folder, held from :meth:`acquire` to :meth:`release`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / FILE_NAME)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InputError: another process holds it.
            WorkError: the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.02)
        except Timeout:
            raise InputError(f"{self._folder}: another process works on this run") from None
        except NotImplementedError:  # filelock's, where old, for a file system without locks
            raise WorkError(
                f"{self._folder}: its file system does not lock files; put the run on a local disk"
            ) from None
        except OSError as error:
            cure = "; put the run on a local disk" if error.errno in NO_LOCKS else ""
            raise WorkError(
                f"{self._folder}: cannot be written: {error.strerror or error}{cure}"
            ) from error

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        self._lock.release()


def is_worked_on(folder: Path) -> bool:
    """Whether a process holds the run's lock now; a folder that is read-only has none."""
    if not (folder / FILE_NAME).exists():
        return False
    with _tried(FileLock(folder / FILE_NAME)) as free:
        return not free


@contextmanager
def _tried(lock: FileLock) -> Iterator[bool]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
    except (OSError, NotImplementedError):
        yield True
    else:
        try:
            yield True
        finally:
            lock.release()
