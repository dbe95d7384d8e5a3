"""Schema of the ledger: rows, versions, opening an untrusted file."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError, WorkError
from palm_core.model.encoding import decode, encode, stored
from palm_core.model.policy import Policy
from palm_core.run.ledger.lock import file_system, is_wal, locks, log_of, shares_memory
from palm_core.validation import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_core.run.artifacts import Artifact


@dataclass(frozen=True)
class Answer:
    """One answer: the requested weight vector (d,), the policy, the duration in seconds.

    ``artifact``: the artifact in the run's folder, if any.
    """

    weights: NDArray[np.float64]
    policy: Policy
    seconds: float
    artifact: Artifact | None = None


def key_of(weights: NDArray[np.float64]) -> bytes:
    """The database key of a weight vector, to the last bit."""
    return np.asarray(weights, dtype="<f8").tobytes()


def weights_of(key: bytes) -> NDArray[np.float64]:
    """The weight vector (d,) of a key.

    Raises:
        ValueError: that is none.
    """
    return np.frombuffer(key, dtype="<f8").astype(np.float64)


def row_of(key: bytes, policy: Policy) -> tuple[str, bytes | None, bytes | None, bytes]:
    """The stored row of a policy: JSON, per-prompt rewards and regulariser, digest."""
    record = encode(stored(policy)).decode()
    arrays = _packed(policy.prompt_rewards), _packed(policy.prompt_regularizer)
    return record, *arrays, answer_digest(key, record, *arrays)


def policy_of(
    key: bytes, record: str, rewards: bytes | None, regularizer: bytes | None, digest: bytes
) -> Policy:
    """The policy of a stored row.

    Raises:
        ValueError: it is not what was stored.
        msgspec.MsgspecError: it is not a policy.
    """
    if digest != answer_digest(key, record, rewards, regularizer):
        raise ValueError("its digest does not match")
    d = len(weights_of(key))
    return replace(
        decode(record, Policy),
        prompt_rewards=None if rewards is None else weights_of(rewards).reshape(-1, d),
        prompt_regularizer=None if regularizer is None else weights_of(regularizer),
    )


def answer_digest(
    key: bytes, record: str, rewards: bytes | None, regularizer: bytes | None
) -> bytes:
    """SHA-256 of the answer for a weight vector."""
    digest = hashlib.sha256(b"palm answer 1\n")
    for part in (key, record.encode(), rewards, regularizer):
        digest.update(b"none\n" if part is None else b"%d\n" % len(part) + part)
    return digest.digest()


def _packed(array: Any) -> bytes | None:
    return None if array is None else np.asarray(array, dtype="<f8").tobytes()


#: Seconds to wait for another program's lock.
PATIENCE = 10.0
APPLICATION = 0x50414C4D  # "PALM": application id of our SQLite files
VERSION = 2

#: Size limit in bytes of one value: a policy as JSON, or its per-prompt rewards.
LARGEST_VALUE = 1 << 28
#: Size limit in bytes of all answers of a run in memory.
LARGEST_LEDGER = 1 << 34

# A pending rollback or checkpoint, which needs write access.
_LEFT_UNDONE = {
    sqlite3.SQLITE_READONLY_ROLLBACK,
    sqlite3.SQLITE_READONLY_RECOVERY,
    sqlite3.SQLITE_READONLY_CANTINIT,
}
_RUN = "CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"
TABLES = (
    _RUN,
    # The newest is the run's task; earlier ones were extended.
    """CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    since TEXT NOT NULL,             -- UTC, as all times
    hash TEXT NOT NULL,
    content TEXT NOT NULL            -- JSON
) STRICT""",
    # A process that worked on the run; without an end it was killed or is running.
    """CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    begun TEXT NOT NULL,
    ended TEXT,
    versions TEXT NOT NULL,          -- JSON, package -> version
    execution TEXT NOT NULL          -- JSON
) STRICT""",
    """CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    weights BLOB NOT NULL UNIQUE,    -- float64, little-endian: the exact weights asked for
    round INTEGER NOT NULL,          -- those of a round were chosen together
    state TEXT NOT NULL DEFAULT 'wanted'  -- or given up, or dropped by an extension
) STRICT""",
    """CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request,
    session INTEGER NOT NULL REFERENCES session,
    begun TEXT NOT NULL,
    ended TEXT,
    outcome TEXT,                    -- answered, stopped, or the kind of failure
    message TEXT,
    detail TEXT                      -- the traceback
) STRICT""",
    "CREATE INDEX attempt_of_request ON attempt (request)",
    """CREATE TABLE answer (
    id INTEGER PRIMARY KEY,
    request INTEGER NOT NULL UNIQUE REFERENCES request,
    policy TEXT NOT NULL,            -- JSON, as in portfolio.json
    prompt_rewards BLOB,             -- float64, little-endian, (n_prompts, d)
    prompt_regularizer BLOB,         -- float64, little-endian, (n_prompts,)
    seconds REAL NOT NULL,
    finished TEXT NOT NULL,
    digest BLOB NOT NULL             -- SHA-256 of weights, policy and the two arrays
) STRICT""",
    """CREATE TABLE artifact (
    request INTEGER PRIMARY KEY REFERENCES request,
    path TEXT NOT NULL,              -- in the run's folder for artifacts
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL
) STRICT""",
)


def connect(file: Path, *, create: bool = False, write: bool = True) -> sqlite3.Connection:
    """Open an untrusted SQLite file with all features disabled that a ledger does not need.

    Raises:
        InputError: it is not a regular file.
        WorkError: it cannot be opened.
    """
    try:
        if not create and not stat.S_ISREG(file.stat().st_mode):
            raise InputError(f"{file}: must be a regular file")
    except OSError as error:
        raise WorkError(f"{file}: cannot be opened: {error.strerror or error}") from error
    mode = "rwc" if create else "rw" if write else "ro"
    if not create and is_wal(file) and not (write and shares_memory(file)):
        # SQLite reads a write-ahead log only with write access beside it and memory shared
        # with other readers. Without a log the file is complete.
        if log_of(file) is not None:
            raise WorkError(
                f"{file}: the write-ahead log of a killed or running process cannot be read here "
                f"({_why_not(file, write=write)}); read or resume the run on the machine where it "
                "runs, or copy the run to read it"
            )
        mode = "ro&immutable=1"
    with sqlite_errors(file):
        connection = sqlite3.connect(
            f"{file.resolve().as_uri()}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
        )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * LARGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    with sqlite_errors(file, connection):
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of a new ledger; part of the caller's transaction."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check_file(file: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file that is not a ledger of this version.

    Raises:
        InputError: not a ledger, one of another palm-core, or one with other tables.
    """
    with sqlite_errors(file):
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = _tables(connection)
    if application != APPLICATION:
        raise InputError(f"{file}: must be the ledger of a PALM run")
    if version > VERSION:
        raise InputError(
            f"{file}: ledger version {version}, must be at most {VERSION}; "
            "upgrade palm-core to read it"
        )
    if version != VERSION or tables != _expected():
        raise InputError(f"{file}: its tables are not those of a ledger of version {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def sqlite_errors(file: Path, connection: sqlite3.Connection | None = None) -> Iterator[None]:
    """Convert SQLite's errors to InputError or WorkError, with a message of one line.

    ``connection`` is closed on errors.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
        if connection is not None:
            connection.close()
        text = one_line(error) or type(error).__name__
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT):
            raise InputError(f"{file}: is not a readable ledger: {text}") from error
        if code == sqlite3.SQLITE_FULL:
            raise WorkError(f"{file}: the disk is full; recorded answers are safe") from error
        busy = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        if busy and locks(file):
            raise WorkError(
                f"{file}: another program has locked it ({text}) for more than {PATIENCE:g} s; "
                "recorded answers are safe. Close that program (a database browser, a backup) "
                "and run the same command again"
            ) from error
        if busy or code in (sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOLFS):
            raise not_fit(file, text) from error
        if getattr(error, "sqlite_errorcode", 0) in _LEFT_UNDONE:
            raise WorkError(
                f"{file}: its process was killed or is running, and the folder is not writable; "
                "copy the run to read it"
            ) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise WorkError(f"{file}: cannot be opened for writing: {text}") from error
        if isinstance(error, sqlite3.OperationalError):
            raise WorkError(f"{file}: {text}; recorded answers are safe") from error
        raise InputError(f"{file}: is not a readable ledger: {text}") from error


def not_fit(file: Path, text: str) -> WorkError:
    """The error for a file system without the features that a ledger needs."""
    return WorkError(
        f"{file}: the file system ({_type(file)}) does not support the locks, reads or writes of "
        f"a ledger ({text}); recorded answers are safe. Move the run to a local disk, or mount "
        "this file system with locks"
    )


def _why_not(file: Path, *, write: bool) -> str:
    """Why a write-ahead log cannot be read."""
    if not write:
        return "the folder cannot be written"
    return f"its file system, {_type(file)}, may be shared or lacks locks"


def _type(file: Path) -> str:
    return file_system(file.parent) or "of unknown type"


def _tables(connection: sqlite3.Connection) -> tuple[tuple[str, str | None], ...]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchmany(100)
    return tuple((str(name), sql) for name, sql in rows)


@cache
def _expected() -> tuple[tuple[str, str | None], ...]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in TABLES:
            connection.execute(statement)
        return _tables(connection)
