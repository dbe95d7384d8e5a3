"""The run's ledger: every answer of the oracle, kept the moment it arrives.

One SQLite file in write-ahead mode, one transaction per answer: a run killed at
any instant loses the calls in flight and nothing else. The task is stored with
the answers, so that those of another task are never mixed in.
"""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from palm_core.documents import PolicyRecord, policy_from_record, record_of_policy
from palm_core.errors import InputError, WorkError
from palm_core.oracle import Claims
from palm_core.task import changed_fields, task_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_core.policies import Policy

FILE_NAME = "ledger.sqlite"
VERSION = 1
_APPLICATION = 0x50414C4D  # "PALM": tells our files from other SQLite files

_TABLES = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE answer (
    id INTEGER PRIMARY KEY,
    weights BLOB NOT NULL UNIQUE,    -- float64, little-endian: the exact weights asked for
    policy TEXT NOT NULL,            -- JSON, as in portfolio.json
    prompt_rewards BLOB,             -- .npy (n_prompts, d)
    prompt_regularizer BLOB,         -- .npy (n_prompts,)
    seconds REAL NOT NULL,
    finished TEXT NOT NULL           -- UTC
) STRICT;
"""


@dataclass(frozen=True)
class Answer:
    """One answer: the weight vector asked for (d,), the policy, the seconds it took."""

    weights: NDArray[np.float64]
    policy: Policy
    seconds: float


class Ledger:
    """The answers of one run, in the order they arrived.

    Open one with :meth:`begin` (to write) or :meth:`read`; close it, or use it
    as a context manager.
    """

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection

    @classmethod
    def begin(
        cls,
        folder: Path,
        task: Mapping[str, Any],
        objectives: tuple[str, ...],
        claimed: Claims | None = None,
    ) -> Ledger:
        """Open the ledger of ``folder`` for ``task``, making it where there is none.

        Raises:
            InputError: the folder holds another task's run (naming the fields
                that differ), or a file that is no ledger or a newer one.
            WorkError: the folder cannot be written.
        """
        file = folder / FILE_NAME
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, must be a folder for the run")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkError(f"{folder}: cannot be made: {error.strerror or error}") from error
        ledger = cls(file, _connect(file, "rwc"))
        try:
            with _told(file):
                ledger._connection.execute("PRAGMA journal_mode = WAL")
                ledger._connection.execute("PRAGMA synchronous = FULL")
                fresh = not ledger._connection.execute(
                    "SELECT count(*) FROM sqlite_master"
                ).fetchone()[0]
                if fresh:
                    ledger._create(task, objectives, claimed or Claims())
            ledger._check(task)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Open the ledger of a run to read it.

        Raises:
            InputError: no such run, or a file that is no ledger or a newer one.
        """
        file = folder / FILE_NAME
        if not folder.is_dir():
            raise InputError(f"{folder}: no such run folder")
        if not file.is_file():
            raise InputError(f"{folder}: is not a run (it has no {FILE_NAME})")
        # Not mode=ro: a ledger whose run was killed has a write-ahead log to fold in.
        ledger = cls(file, _connect(file, "rw"))
        try:
            ledger._check(None)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; answers are already safe."""
        self._connection.close()

    @property
    def task(self) -> dict[str, Any]:
        """The task as it was resolved when the run began."""
        return dict(json.loads(self._value("task")))

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives that the rewards are in, in order."""
        return tuple(json.loads(self._value("objectives")))

    @property
    def claims(self) -> Claims:
        """What the oracle claimed of itself when the run began."""
        return msgspec.json.decode(self._value("claims"), type=Claims)

    def answers(self) -> list[Answer]:
        """All answers so far, in the order they arrived."""
        with _told(self.file):
            rows = self._connection.execute(
                "SELECT weights, policy, prompt_rewards, prompt_regularizer, seconds"
                " FROM answer ORDER BY id"
            ).fetchall()
        return [_answer(self.file, row) for row in rows]

    def record(self, weights: NDArray[np.float64], policy: Policy, seconds: float) -> None:
        """Keep one answer, in a transaction of its own.

        Raises:
            WorkError: the file cannot be written; earlier answers are kept.
        """
        row = (
            _key(weights),
            msgspec.json.encode(record_of_policy(policy)).decode(),
            _packed(policy.prompt_rewards),
            _packed(policy.prompt_regularizer),
            seconds,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        with _told(self.file), self._connection:
            self._connection.execute(
                "INSERT INTO answer (weights, policy, prompt_rewards, prompt_regularizer,"
                " seconds, finished) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )

    def _create(
        self, task: Mapping[str, Any], objectives: tuple[str, ...], claimed: Claims
    ) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";\n"):
                self._connection.execute(statement)
            self._connection.executemany(
                "INSERT INTO run VALUES (?, ?)",
                [
                    ("task", json.dumps(task, sort_keys=True)),
                    ("task_hash", task_hash(task)),
                    ("objectives", json.dumps(objectives)),
                    ("claims", json.dumps(asdict(claimed))),
                    ("begun", datetime.now(UTC).isoformat(timespec="seconds")),
                ],
            )
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _check(self, task: Mapping[str, Any] | None) -> None:
        with _told(self.file):
            application = self._connection.execute("PRAGMA application_id").fetchone()[0]
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if application != _APPLICATION:
            raise InputError(f"{self.file}: is not the ledger of a PALM run")
        if version > VERSION:
            raise InputError(
                f"{self.file}: ledger version {version}, this palm-core reads up to {VERSION}; "
                "upgrade palm-core to read it"
            )
        if task is not None and task_hash(task) != self._value("task_hash"):
            differences = "; ".join(changed_fields(self.task, task))
            raise InputError(
                f"{self.file.parent} was built for another task: {differences}. "
                "Use another --out, or restore it"
            )

    def _value(self, key: str) -> str:
        with _told(self.file):
            row = self._connection.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise InputError(f"{self.file}: the entry {key!r} is missing")
        return str(row[0])


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    with _told(file):
        return sqlite3.connect(f"{file.resolve().as_uri()}?mode={mode}", uri=True, timeout=10.0)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that says whose fault it is."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise WorkError(f"{file}: {error}; the answers recorded so far are kept") from error
    except sqlite3.DatabaseError as error:
        raise InputError(f"{file}: is not a readable ledger: {error}") from error


def _key(weights: NDArray[np.float64]) -> bytes:
    return np.asarray(weights, dtype="<f8").tobytes()


def _packed(array: NDArray[np.float64] | None) -> bytes | None:
    if array is None:
        return None
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _answer(file: Path, row: tuple[bytes, str, bytes | None, bytes | None, float]) -> Answer:
    key, policy, prompt_rewards, prompt_regularizer, seconds = row

    def unpacked(blob: bytes | None) -> NDArray[np.float64] | None:
        if blob is None:
            return None
        array = np.load(io.BytesIO(blob), allow_pickle=False)
        return np.asarray(array, dtype=np.float64)

    try:
        return Answer(
            weights=np.frombuffer(key, dtype="<f8").astype(np.float64),
            policy=policy_from_record(
                msgspec.json.decode(policy, type=PolicyRecord),
                prompt_rewards=unpacked(prompt_rewards),
                prompt_regularizer=unpacked(prompt_regularizer),
            ),
            seconds=float(seconds),
        )
    except (msgspec.MsgspecError, ValueError, EOFError) as error:
        raise InputError(f"{file}: an answer is damaged: {error}") from error
