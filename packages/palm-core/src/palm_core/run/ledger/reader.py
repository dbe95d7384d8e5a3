"""Reading the ledger of a run, also while another process writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from palm_core.errors import InputError
from palm_core.model.results import Missing
from palm_core.oracles.protocol import Claims
from palm_core.run.artifacts import Artifact
from palm_core.run.ledger import schema
from palm_core.run.ledger.schema import Answer, policy_of, sqlite_errors, weights_of
from palm_core.validation import one_line

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_T = TypeVar("_T")
_SIZE = "length(policy) + ifnull(length(prompt_rewards), 0) + ifnull(length(prompt_regularizer), 0)"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session: a process that worked on the run; without an end it was killed or is running.

    Times are UTC, in ISO 8601.
    """

    host: str
    pid: int
    begun: str
    ended: str | None
    versions: Mapping[str, str]
    execution: Mapping[str, Any]

    @property
    def workers(self) -> int:
        """The number of concurrent calls."""
        value = self.execution.get("workers")
        return value if isinstance(value, int) and value >= 1 else 1


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of the weights of a run by state, and the mean duration of answers.

    Attributes:
        requested: weights requested so far.
        done: weights with an answer.
        failed: weights given up after the last attempt allowed.
        running: weights in progress, if a process works on the run.
        failures: failed attempts, also those followed by a success.
        interrupted: attempts interrupted by the end of their session.
        seconds: the mean time of an answer; ``None`` before the first.
    """

    requested: int
    done: int
    failed: int
    running: int
    failures: int
    interrupted: int
    seconds: float | None


class Records:
    """Read access to the records of a run: task, answers, failures, sessions.

    Args:
        file: the ledger, for messages.
        connection: to the ledger; closed with these records.

    Every method raises :class:`InputError` for data that palm-core has not written and
    :class:`WorkError` for errors of the file system.
    """

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection

    @property
    def task(self) -> dict[str, Any]:
        """The resolved task of the run's start or last extension."""
        rows = self._rows("SELECT content FROM task ORDER BY id DESC LIMIT 1")
        try:
            return dict(json.loads(rows[0][0]))
        except (IndexError, TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self.file}: the stored task is damaged: {one_line(error)}"
            ) from error

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives of the rewards, in order."""
        return self._value("objectives", tuple[str, ...])

    @property
    def claims(self) -> Claims:
        """The oracle's claims at the start of the run."""
        return self._value("claims", Claims)

    @property
    def begun(self) -> str:
        """The time of the run's start."""
        return self._value("begun", str)

    @property
    def finished(self) -> str | None:
        """The time when the portfolio was written, or ``None``: the run is not complete."""
        rows = self._rows("SELECT 1 FROM run WHERE key = 'finished'")
        return self._value("finished", str) if rows else None

    def answers(self) -> list[Answer]:
        """All answers so far, in the order they arrived."""
        ((largest, total),) = self._rows(
            f"SELECT ifnull(max({_SIZE}), 0), ifnull(sum({_SIZE}), 0) FROM answer"
        )
        if largest > schema.LARGEST_VALUE or total > schema.LARGEST_LEDGER:
            raise InputError(
                f"{self.file}: answers of {total} bytes, must be at most {schema.LARGEST_LEDGER}, "
                f"each at most {schema.LARGEST_VALUE}"
            )
        d = len(self.objectives)
        rows = self._rows(
            "SELECT weights, policy, prompt_rewards, prompt_regularizer, digest, seconds,"
            " artifact.path, artifact.sha256, artifact.bytes FROM answer"
            " JOIN request ON request.id = answer.request"
            " LEFT JOIN artifact ON artifact.request = answer.request ORDER BY answer.id"
        )
        return [self._answer(d, row) for row in rows]

    def rounds(self) -> list[NDArray[np.float64]]:
        """The weights requested, (k, d) for each round, in order."""
        d = len(self.objectives)
        found: dict[int, list[NDArray[np.float64]]] = {}
        for key, place in self._rows(
            "SELECT weights, round FROM request WHERE state != 'dropped' ORDER BY round, id"
        ):
            found.setdefault(place, []).append(self._weights(d, key))
        return [np.array(rows) for rows in found.values()]

    def missing(self) -> list[Missing]:
        """The weights given up after the last attempt allowed, in the order of asking."""
        d = len(self.objectives)
        rows = self._rows(
            "SELECT weights, count(attempt.id), outcome, message, max(attempt.id)"
            " FROM request JOIN attempt ON attempt.request = request.id"
            " WHERE state = 'given up' AND outcome NOT IN ('stopped', 'answered') AND session ="
            " (SELECT max(session) FROM attempt AS other WHERE other.request = request.id)"
            " GROUP BY request.id ORDER BY request.id"
        )
        return [
            Missing(weights=self._weights(d, key), attempts=n, kind=str(kind), message=str(text))
            for key, n, kind, text, _ in rows
        ]

    def counts(self) -> Counts:
        """The progress of the run; aggregated in the database."""
        (row,) = self._rows(
            "SELECT (SELECT count(*) FROM request WHERE state != 'dropped'),"
            " (SELECT count(*) FROM answer),"
            " (SELECT count(*) FROM request WHERE state = 'given up'),"
            " (SELECT count(*) FROM attempt WHERE outcome IS NULL),"
            " (SELECT count(*) FROM attempt WHERE outcome NOT IN ('answered', 'stopped')),"
            " (SELECT count(*) FROM attempt WHERE outcome = 'stopped'),"
            " (SELECT avg(seconds) FROM answer)"
        )
        return Counts(**dict(zip(Counts.__dataclass_fields__, row, strict=True)))

    def artifacts(self) -> list[Artifact]:
        """The recorded artifacts."""
        rows = self._rows("SELECT path, sha256, bytes FROM artifact ORDER BY request")
        return [Artifact(*row) for row in rows]

    def sessions(self) -> list[Session]:
        """The sessions of the run, in order."""
        rows = self._rows(
            "SELECT host, pid, begun, ended, versions, execution FROM session ORDER BY id"
        )
        try:
            return [
                Session(
                    host=str(host),
                    pid=int(pid),
                    begun=str(begun),
                    ended=ended,
                    versions=dict(json.loads(versions)),
                    execution=dict(json.loads(execution)),
                )
                for host, pid, begun, ended, versions, execution in rows
            ]
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{self.file}: a session is damaged: {one_line(error)}") from error

    def _answer(self, d: int, row: tuple[Any, ...]) -> Answer:
        key, policy, rewards, regularizer, digest, seconds, *artifact = row
        try:
            found = policy_of(key, policy, rewards, regularizer, digest)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{self.file}: an answer is damaged: {one_line(error)}") from error
        if not len(found.rewards) == len(found.weights) == d:
            raise InputError(
                f"{self.file}: policy {one_line(found.id)!r} must have {d} rewards and weights"
            )
        return Answer(
            weights=self._weights(d, key),
            policy=found,
            seconds=float(seconds),
            artifact=None if artifact[0] is None else Artifact(*artifact),
        )

    def _weights(self, d: int, key: bytes) -> NDArray[np.float64]:
        try:
            weights = weights_of(key)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.file}: a weight vector is damaged: {one_line(error)}"
            ) from error
        if weights.shape != (d,) or not np.isfinite(weights).all():
            raise InputError(f"{self.file}: a weight vector is damaged: it must have {d} entries")
        return weights

    def _value(self, key: str, kind: type[_T]) -> _T:
        rows = self._rows("SELECT value FROM run WHERE key = ?", key)
        if not rows:
            raise InputError(f"{self.file}: the entry {key!r} is missing")
        try:
            return msgspec.json.decode(rows[0][0], type=kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InputError(
                f"{self.file}: the entry {key!r} is damaged: {one_line(error)}"
            ) from error

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with sqlite_errors(self.file):
            return self._connection.execute(statement, values).fetchall()
