"""Writing the ledger of a run: tasks, rounds, attempts, answers, sessions."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError, OracleAnswerError, PalmError, WorkError
from palm_core.model.files import is_folder, not_a_folder
from palm_core.oracles.protocol import Claims
from palm_core.run.config import Settings, changed_fields, keeps_answers, task_hash
from palm_core.run.ledger import lock as _journal
from palm_core.run.ledger import schema
from palm_core.run.ledger.lock import RunLock
from palm_core.run.ledger.reader import Records
from palm_core.run.ledger.schema import key_of, row_of, sqlite_errors, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_core.model.policy import Policy
    from palm_core.run.artifacts import Artifact
    from palm_core.run.executors.protocol import Failure


def begin_run(
    connection: sqlite3.Connection,
    task: Mapping[str, Any],
    objectives: tuple[str, ...],
    claimed: Claims,
    now: str,
) -> None:
    """Write the task and metadata of a new ledger; part of the caller's transaction."""
    connection.executemany(
        "INSERT INTO run VALUES (?, ?)",
        [
            ("objectives", json.dumps(objectives)),
            ("claims", json.dumps(asdict(claimed))),
            ("begun", json.dumps(now)),
        ],
    )
    _add(connection, task, now)


def is_extension(
    records: Records, task: Mapping[str, Any], objectives: tuple[str, ...], *, asked: bool
) -> bool:
    """Whether ``task`` extends the run of another task, if ``asked``; false if it is the same.

    Raises:
        InputError: earlier answers are not valid for it, or it differs and ``asked`` is false.
    """
    folder = records.file.parent
    if records.objectives != objectives:
        raise InputError(
            f"{folder} was built for another task: objectives were "
            f"{', '.join(records.objectives)}, are {', '.join(objectives)}. Use another --out"
        )
    old = records.task
    with suppress(InputError):  # damaged: reported as a difference below
        old = {**old, **Settings.from_tables(old).tables()}
    if task_hash(task) == task_hash(old):
        return False
    differences = f"{folder} was built for another task: {'; '.join(changed_fields(old, task))}."
    if not keeps_answers(old, task):
        raise InputError(f"{differences} Use another --out, or restore it")
    if not asked:
        raise InputError(
            f"{differences} Use another --out, restore it, or add --extend: its answers stay valid"
        )
    return True


def extend_run(
    connection: sqlite3.Connection, task: Mapping[str, Any], claimed: Claims, now: str
) -> None:
    """Extend the run by ``task``; pending weights are dropped and requested again as needed."""
    _add(connection, task, now)
    connection.execute(
        "UPDATE run SET value = ? WHERE key = 'claims'", (json.dumps(asdict(claimed)),)
    )
    connection.execute(
        "UPDATE request SET state = 'dropped' WHERE id NOT IN (SELECT request FROM answer)"
    )


def _add(connection: sqlite3.Connection, task: Mapping[str, Any], now: str) -> None:
    connection.execute(
        "INSERT INTO task (since, hash, content) VALUES (?, ?, ?)",
        (now, task_hash(task), json.dumps(task, sort_keys=True)),
    )


#: File name of the ledger in a run's folder.
FILE_NAME = "ledger.sqlite"


class Ledger(Records):
    """The ledger of a run, with write access by one process.

    Open it with :meth:`begin` to write and with :meth:`read` to read; close it, or use
    it as a context manager.

    Attributes:
        interrupted: unfinished calls of a killed session; they are retried.
    """

    def __init__(
        self, file: Path, connection: sqlite3.Connection, lock: RunLock | None = None
    ) -> None:
        super().__init__(file, connection)
        self.interrupted = 0
        self._lock = lock
        self._has_log = False
        self._session: int | None = None
        self._requests: dict[bytes, int] = {}
        self._attempts: dict[bytes, int] = {}

    @classmethod
    def begin(
        cls,
        folder: Path,
        task: Mapping[str, Any],
        objectives: tuple[str, ...],
        claimed: Claims | None = None,
        *,
        extend: bool = False,
        versions: Mapping[str, str] | None = None,
        execution: Mapping[str, Any] | None = None,
    ) -> Ledger:
        """Open the ledger of ``folder`` for ``task``, creating it if it does not exist.

        Args:
            folder: of the run.
            task: the resolved task.
            objectives: d names.
            claimed: claims of the oracle.
            extend: accept a task for which earlier answers are valid: it differs only in
                how weights are chosen and how the portfolio is pruned.
            versions: package → version, stored with the session.
            execution: settings of the calls, stored with the session.

        Raises:
            InputError: the folder holds another task's run (naming the fields that
                differ), another process is using it, or the file is not a ledger or a
                newer one.
            WorkError: the folder cannot be written.
        """
        file = folder / FILE_NAME
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, must be a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkError(f"{folder}: cannot be created: {error.strerror or error}") from error
        lock = RunLock(folder)
        try:
            lock.acquire()
            if not _journal.locks(file):
                lock.release()
                raise schema.not_fit(file, "no locks available")
        except InputError as error:
            raise InputError(f"{error}{_holder(folder)}") from None
        ledger = None
        try:
            ledger = cls(file, schema.connect(file, create=True), lock)
            ledger._open(task, objectives, claimed or Claims(), extend=extend)
            ledger._begin_session(versions or {}, execution or {})
        except BaseException:
            if ledger is not None:
                ledger.close()
            lock.release()
            raise
        return ledger

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Open the ledger of a run read-only, also while another process works on it.

        Raises:
            InputError: no such run, or a file that is not a ledger or is a newer one.
            WorkError: it cannot be opened.
        """
        file = folder / FILE_NAME
        if not is_folder(folder):
            raise not_a_folder(folder, "run folder")
        if not file.exists():
            raise InputError(f"{folder}: is not a run, it has no {FILE_NAME}")
        # After a kill the write-ahead log needs a checkpoint, so the ledger is opened for
        # writing where possible.
        writable = os.access(file, os.W_OK) and os.access(folder, os.W_OK)
        ledger = cls(file, schema.connect(file, write=writable))
        try:
            schema.check_file(file, ledger._connection)
            with sqlite_errors(file):
                ledger._connection.execute("PRAGMA query_only = ON")
        except BaseException:
            ledger.close()
            raise
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and close the file; answers are already persisted."""
        try:
            if self._session is not None:
                with suppress(PalmError):  # otherwise the next session treats it as killed
                    self._end_session(self._session)
        finally:
            self._session = None
            self._connection.close()
            if self._lock is not None:
                self._lock.release()

    def request(self, weights: NDArray[np.float64]) -> None:
        """Record the weights (k, d) to ask as a new round.

        Rows that were requested earlier keep their place.
        """
        with self._written():
            (last,) = self._connection.execute("SELECT max(round) FROM request").fetchone()
            place = 0 if last is None else last + 1
            self._connection.executemany(
                "INSERT INTO request (weights, round) VALUES (?, ?)"
                " ON CONFLICT (weights) DO UPDATE SET state = 'wanted', round = excluded.round"
                " WHERE state = 'dropped'",
                ((key_of(row), place) for row in weights),
            )
        self._requests.update(self._rows("SELECT weights, id FROM request"))

    def started(self, weights: NDArray[np.float64]) -> None:
        """Record the start of a call for ``weights`` (n, d)."""
        keys = [key_of(row) for row in weights]
        now = _now()
        # Useless after a power failure, so it is not flushed to disk.
        with self._written(durable=False):
            for key in keys:
                self._attempts[key] = self._connection.execute(
                    "INSERT INTO attempt (request, session, begun) VALUES (?, ?, ?) RETURNING id",
                    (self._requests[key], self._session, now),
                ).fetchone()[0]

    def record(
        self,
        weights: NDArray[np.float64],
        policy: Policy,
        seconds: float,
        artifact: Artifact | None = None,
    ) -> None:
        """Persist one answer in a separate transaction.

        Raises:
            OracleAnswerError: it is larger than what a ledger holds.
            WorkError: the file cannot be written; earlier answers are kept, and this one
                too if the disk is full only now.
        """
        key = key_of(weights)
        record, rewards, regularizer, digest = row_of(key, policy)
        size = len(record.encode()) + sum(len(part) for part in (rewards, regularizer) if part)
        if size > schema.LARGEST_VALUE:
            raise OracleAnswerError(
                f"policy {policy.id!r}: {size} bytes with its per-prompt rewards and info, must "
                f"be at most {schema.LARGEST_VALUE}"
            )
        request, now = self._requests[key], _now()

        with self._written():
            self._connection.execute(
                "INSERT INTO answer (request, policy, prompt_rewards, prompt_regularizer,"
                " seconds, finished, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (request, record, rewards, regularizer, seconds, now, digest),
            )
            if artifact is not None:
                self._connection.execute(
                    "INSERT INTO artifact VALUES (?, ?, ?, ?)",
                    (request, artifact.path, artifact.sha256, artifact.bytes),
                )
            self._connection.execute("UPDATE request SET state = 'wanted' WHERE id = ?", (request,))
            self._close_attempt(key, now, "answered")

    def failed(self, weights: NDArray[np.float64], failure: Failure, *, final: bool) -> None:
        """Record a failed attempt; ``final``: it was the last one allowed."""
        key = key_of(weights)

        with self._written():
            self._close_attempt(key, _now(), failure.kind, failure.message, failure.detail)
            if final:
                self._connection.execute(
                    "UPDATE request SET state = 'given up' WHERE id = ?",
                    (self._requests[key],),
                )

    def set_aside(self, weights: NDArray[np.float64]) -> None:
        """Record that a call ended before ``weights`` (n, d) were tried; they are asked again."""
        with self._written(durable=False):
            for row in weights:
                self._close_attempt(key_of(row), _now(), "stopped")

    def finish(self) -> None:
        """Record the completion of the run: its portfolio is written."""
        with self._written():
            self._connection.execute(
                "INSERT OR REPLACE INTO run VALUES ('finished', ?)", (json.dumps(_now()),)
            )

    def _close_attempt(
        self, key: bytes, now: str, outcome: str, message: str | None = None, detail: str = ""
    ) -> None:
        self._connection.execute(
            "UPDATE attempt SET ended = ?, outcome = ?, message = ?, detail = ? WHERE id = ?",
            (now, outcome, message, detail or None, self._attempts.get(key)),
        )

    def _open(
        self,
        task: Mapping[str, Any],
        objectives: tuple[str, ...],
        claimed: Claims,
        *,
        extend: bool,
    ) -> None:
        with sqlite_errors(self.file):
            self._connection = _journal.begin_writing(
                self._connection, self.file, lambda: schema.connect(self.file, create=True)
            )
            self._has_log = _journal.has_log(self._connection)
            fresh = not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if fresh:
            with self._written():
                schema.create_tables(self._connection)
                begin_run(self._connection, task, objectives, claimed, _now())
            return
        schema.check_file(self.file, self._connection)
        if is_extension(self, task, objectives, asked=extend):
            with self._written():
                extend_run(self._connection, task, claimed, _now())

    def _begin_session(self, versions: Mapping[str, str], execution: Mapping[str, Any]) -> None:
        self._requests = dict(self._rows("SELECT weights, id FROM request"))
        with self._written():
            now = _now()
            self.interrupted = self._connection.execute(
                "UPDATE attempt SET outcome = 'stopped' WHERE outcome IS NULL"
            ).rowcount
            self._connection.execute("DELETE FROM run WHERE key = 'finished'")
            # Weights that were given up are retried in a new session.
            self._connection.execute("UPDATE request SET state = 'wanted' WHERE state = 'given up'")
            self._session = self._connection.execute(
                "INSERT INTO session (task, host, pid, begun, versions, execution)"
                " VALUES ((SELECT max(id) FROM task), ?, ?, ?, ?, ?) RETURNING id",
                (
                    socket.gethostname(),
                    os.getpid(),
                    now,
                    json.dumps(dict(versions), sort_keys=True),
                    json.dumps(dict(execution), sort_keys=True),
                ),
            ).fetchone()[0]

    def _end_session(self, session: int) -> None:
        with self._written():
            now = _now()
            self._connection.execute(
                "UPDATE attempt SET outcome = 'stopped', ended = ? WHERE outcome IS NULL", (now,)
            )
            self._connection.execute("UPDATE session SET ended = ? WHERE id = ?", (now, session))

    @contextmanager
    def _written(self, *, durable: bool = True) -> Iterator[None]:
        """A transaction; a durable one is flushed to disk at its end."""
        with sqlite_errors(self.file):
            # A rollback journal needs a further flush: EXTRA for its folder.
            levels = ("FULL", "NORMAL") if self._has_log else ("EXTRA", "FULL")
            self._connection.execute(f"PRAGMA synchronous = {levels[0 if durable else 1]}")
            with transaction(self._connection):
                yield


def _holder(folder: Path) -> str:
    """The process that works on the run, according to its ledger."""
    try:
        with Ledger.read(folder) as ledger:
            last = ledger.sessions()[-1]
    except (PalmError, IndexError):
        return ""
    return "" if last.ended else f" (process {last.pid} on {last.host}, since {last.begun})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
