"""Scores kept on disk by what they are scores of: one SQLite file in a folder.

A key is the SHA-256 of the reward's fingerprint, the prompt, the completion and the columns
that the reward reads. SQLite's own journal makes a batch whole or absent whenever a process
is killed, and lets several write in turn.
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from palm_core.errors import WorkError
from palm_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

FILE_NAME = "rewards.sqlite"
_APPLICATION = 0x50414C53  # "PALS"
_PATIENCE = 60.0
_ABSTAINED = math.inf  # for None, which no finite score is
_AT_ONCE = 500  # SQLite takes at least 999 values in a statement


class ScoreCache:
    """The cache in ``folder``, which is made where it does not exist.

    Raises:
        WorkError: on opening or use: the folder cannot be used, or the file is no cache of
            scores or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
        except (OSError, ValueError, sqlite3.Error) as error:
            raise self._cannot(error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._cannot(error) from error
        except WorkError:
            self._connection.close()
            raise

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float | None]:
        """The scores that are there; ``None`` where the reward abstained."""
        found: dict[bytes, float] = {}
        try:
            for start in range(0, len(keys), _AT_ONCE):
                asked = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(asked))
                query = f"SELECT key, score FROM scores WHERE key IN ({marks})"
                with closing(self._connection.execute(query, asked)) as rows:
                    found.update(rows)
        except sqlite3.Error as error:
            raise self._cannot(error) from error
        return {
            bytes(key): None if score == _ABSTAINED else score
            for key, score in found.items()
            if isinstance(score, float) and (math.isfinite(score) or score == _ABSTAINED)
        }

    def put(self, scores: Mapping[bytes, float | None]) -> None:
        """Keep ``scores``: all of them or, when killed, none."""
        rows = [(key, _ABSTAINED if score is None else score) for key, score in scores.items()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO scores (key, score) VALUES (?, ?)", rows
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._cannot(error) from error

    def _prepare(self) -> None:
        # The lock first: of two processes that find an empty file, one makes the table.
        self._connection.execute("BEGIN IMMEDIATE")
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            self._connection.execute("ROLLBACK")
            raise WorkError(f"{one_line(self._file)}: is no cache of scores, must be moved away")
        if not tables:
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(
                "CREATE TABLE scores (key BLOB PRIMARY KEY, score REAL NOT NULL) WITHOUT ROWID"
            )
        self._connection.execute("COMMIT")

    def _cannot(self, error: Exception) -> WorkError:
        return WorkError(
            f"{one_line(self._file)}: the cache of scores cannot be used: {one_line(error, 200)}; "
            "it can be deleted, its scores are then computed anew"
        )
