"""Locking and journal modes of the ledger, with and without shared memory."""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import re
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from palm_core.errors import InputError, WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_fcntl: Any = None
with suppress(ImportError):  # Windows has none
    _fcntl = importlib.import_module("fcntl")

#: Error codes of file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: Local file systems, whose files only one machine can write.
LOCAL = {
    *("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "ntfs"),
    *("ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs"),
}
# Bytes 18 and 19 of a SQLite file, its write and read versions: 2 is WAL.
_VERSIONS = slice(18, 20)
_WAL = b"\x02\x02"


def is_wal(file: Path) -> bool:
    """Whether the SQLite file ``file`` was last written with a write-ahead log."""
    try:
        with file.open("rb") as stream:
            return stream.read(_VERSIONS.stop)[_VERSIONS] == _WAL
    except OSError:  # opening the file for SQLite reports it
        return False


def log_of(file: Path) -> Path | None:
    """The write-ahead log beside ``file``, if it exists and is not empty."""
    log = file.with_name(f"{file.name}-wal")
    try:
        return log if log.stat().st_size else None
    except OSError:  # no such file
        return None


def shares_memory(file: Path) -> bool:
    """Whether a write-ahead log works for ``file``: a local file system, locks, shared memory.

    SQLite itself detects this only after about ten seconds.
    """
    return file_system(file.parent) in LOCAL and _probe(file, memory=True) is None


def locks(file: Path) -> bool:
    """Whether the file system of ``file`` supports locks, as far as detectable.

    SQLite reports a file system without locks as a locked database.
    """
    error = _probe(file, memory=False)
    return error is None or error.errno not in NO_LOCKS


def _probe(file: Path, *, memory: bool) -> OSError | None:
    """Lock a file beside ``file`` and map it into memory; returns the error, if any."""
    if _fcntl is None:
        return None
    # With SQLite's suffixes, for software that treats its files specially.
    probe = file.with_name(f"{file.name}.{os.getpid()}-{'shm' if memory else 'journal'}")
    try:
        with probe.open("w+b") as stream:
            stream.truncate(mmap.PAGESIZE)
            _fcntl.lockf(stream, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            if memory:
                mmap.mmap(stream.fileno(), mmap.PAGESIZE).close()
    except OSError as error:
        return error
    finally:
        with suppress(OSError):  # it was not created
            probe.unlink()
    return None


def file_system(folder: Path, mounts: str | None = None) -> str:
    """The type of the file system of ``folder``, such as "ext4"; "" if unknown.

    Args:
        folder: an existing folder.
        mounts: the mount table in the format of /proc/self/mountinfo; ``None`` reads that.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return ""
    place = folder.resolve()
    found, deepest = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        # The last of several mounts at one place is effective.
        if len(point.parts) >= deepest and (place == point or point in place.parents):
            found, deepest = after.split(" ")[0], len(point.parts)
    return found


def begin_writing(
    connection: sqlite3.Connection, file: Path, reconnect: Callable[[], sqlite3.Connection]
) -> sqlite3.Connection:
    """Choose the journal mode, before any other use of ``connection``.

    Args:
        connection: to ``file``.
        file: the ledger.
        reconnect: opens a new connection.

    Returns:
        The connection to use.

    Raises:
        sqlite3.Error: the file cannot be locked or written.
    """
    if shares_memory(file):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise
            connection.close()
            connection = reconnect()
        else:
            return connection
    try:
        if is_wal(file):
            # Exclusive locking: the log is checkpointed without shared memory.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA locking_mode = NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # releases the lock
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def has_log(connection: sqlite3.Connection) -> bool:
    """Whether the connection uses a write-ahead log."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return bool(mode == "wal")


FILE_NAME = "lock"
#: Timeout of the lock in seconds: status checks hold it for an instant.
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
            raise InputError(f"{self._folder}: another process is using this run") from None
        except NotImplementedError:  # filelock's, where old, for a file system without locks
            raise WorkError(
                f"{self._folder}: the file system has no locks; move the run to a local disk"
            ) from None
        except OSError as error:
            cure = "; move the run to a local disk" if error.errno in NO_LOCKS else ""
            raise WorkError(
                f"{self._folder}: cannot be written: {error.strerror or error}{cure}"
            ) from error

    def release(self) -> None:
        """Release the lock; no effect if it is not held."""
        self._lock.release()


def is_worked_on(folder: Path) -> bool:
    """Whether a process holds the run's lock; false for a read-only folder."""
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
