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

#: What file systems without locks say.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: File systems whose files only the machine that has mounted them can write.
LOCAL = {
    *("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "ntfs"),
    *("ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs"),
}
# Bytes 18 and 19 of a SQLite file, the versions to write and read it with: 2 is WAL.
_VERSIONS = slice(18, 20)
_WAL = b"\x02\x02"


def is_wal(file: Path) -> bool:
    """Whether the SQLite file ``file`` was last written with a write-ahead log."""
    try:
        with file.open("rb") as stream:
            return stream.read(_VERSIONS.stop)[_VERSIONS] == _WAL
    except OSError:
        return False


def log_of(file: Path) -> Path | None:
    """The write-ahead log beside ``file``, if there is one that is not empty."""
    log = file.with_name(f"{file.name}-wal")
    try:
        return log if log.stat().st_size else None
    except OSError:
        return None


def shares_memory(file: Path) -> bool:
    """Whether a write-ahead log works for ``file``: a local file system, locks, shared memory.

    SQLite finds out by itself only after some ten seconds of trying.
    """
    return file_system(file.parent) in LOCAL and _probe(file, memory=True) is None


def locks(file: Path) -> bool:
    """Whether the file system of ``file`` locks files, as far as that can be found out.

    SQLite takes a file system without locks for a file that another program has locked.
    """
    error = _probe(file, memory=False)
    return error is None or error.errno not in NO_LOCKS


def _probe(file: Path, *, memory: bool) -> OSError | None:
    """Lock a file beside ``file``, and map it into memory; what is said where that fails."""
    if _fcntl is None:
        return None
    # With SQLite's endings, for what treats its files apart.
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
        with suppress(OSError):
            probe.unlink()
    return None


def file_system(folder: Path, mounts: str | None = None) -> str:
    """The type of the file system that ``folder`` is on, such as "ext4"; "" if not known.

    Args:
        folder: that is there.
        mounts: what is mounted where, in the form of /proc/self/mountinfo; ``None`` reads that.
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
        # Of mounts on one place the last is seen.
        if len(point.parts) >= deepest and (place == point or point in place.parents):
            found, deepest = after.split(" ")[0], len(point.parts)
    return found


def begin_writing(
    connection: sqlite3.Connection, file: Path, reconnect: Callable[[], sqlite3.Connection]
) -> sqlite3.Connection:
    """Choose the journal, before anything else is done with ``connection``.

    Args:
        connection: to ``file``.
        file: the ledger.
        reconnect: opens it once more.

    Returns:
        The connection to go on with.

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
            # The file to ourselves: then its log is folded in without shared memory.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA locking_mode = NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # lets go of it
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def has_log(connection: sqlite3.Connection) -> bool:
    """Whether the connection writes a write-ahead log."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return bool(mode == "wal")


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
