"""Scoring: rewards of responses, each distinct response scored once, with a cache on disk.

Paper, section 3.1 and B.3: the value r_i(π) of a policy is E_{x, y∼π(·|x)}[r_i(x, y)],
estimated by the mean over prompts x and completions y. A reward function that abstains
(``None``) adds nothing to the weighted sum of a completion, as in TRL: it counts as 0.

The cache is one SQLite file in a folder. A key is the SHA-256 of the reward's fingerprint,
the prompt, the completion and the columns that the reward reads. SQLite's own journal makes
batches atomic if a process is killed, and serializes concurrent writers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, PalmError, WorkError
from palm_core.plugin import check_count, one_line
from palm_eval.responses import check_columns, completions_of
from palm_eval.rewards.base import called, check_scores, columns_read
from palm_eval.rewards.conversations import shown

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from palm_eval.rewards.base import RewardFunction

FILE_NAME = "rewards.sqlite"
_APPLICATION = 0x50414C53  # "PALS"
_PATIENCE = 60.0
_ABSTAINED = math.inf  # for None, which no finite score is
_AT_ONCE = 500  # SQLite takes at least 999 values in a statement


class ScoreCache:
    """The cache in ``folder``, which is created if missing.

    Raises:
        WorkError: on opening or use: the folder is not usable, or the file is not a cache of
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
        """The cached scores; ``None`` where the reward abstained."""
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
        """Store ``scores`` in one transaction."""
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
        # Lock first: of two processes that find an empty file, one creates the table.
        self._connection.execute("BEGIN IMMEDIATE")
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            self._connection.execute("ROLLBACK")
            raise WorkError(f"{one_line(self._file)}: is not a cache of scores; move it away")
        if not tables:
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(
                "CREATE TABLE scores (key BLOB PRIMARY KEY, score REAL NOT NULL) WITHOUT ROWID"
            )
        self._connection.execute("COMMIT")

    def _cannot(self, error: Exception) -> WorkError:
        return WorkError(
            f"{one_line(self._file)}: the cache of scores cannot be used: {one_line(error, 200)}; "
            "delete it to compute its scores again"
        )


_log = logging.getLogger("palm_eval")

#: Called with the number of known scores and the total number.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Scores:
    """Rewards of n prompts in d objectives.

    Attributes:
        objectives: their names, d.
        per_completion: for each prompt the rewards of its completions, (n_i, d).
        per_prompt: (n, d), the mean over a prompt's completions.
        mean: (d,), the mean over prompts: each prompt counts the same.
        standard_error: (d,), of that mean over prompts, with n − 1 degrees of freedom; NaN
            for a single prompt.
        calls: number of calls of each reward function, by objective.
        scored: number of distinct responses scored, not cached, by objective.
        abstained: number of completions with the score ``None``, by objective.
            Those count as 0 in ``per_completion`` and so in every mean.
    """

    objectives: tuple[str, ...]
    per_completion: tuple[NDArray[np.float64], ...]
    per_prompt: NDArray[np.float64]
    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    calls: Mapping[str, int]
    scored: Mapping[str, int]
    abstained: Mapping[str, int]


@dataclass(frozen=True)
class _Row:
    prompt: Any
    completion: Any
    columns: Mapping[str, Any]


def score(
    rewards: Mapping[str, RewardFunction],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    completion_columns: Mapping[str, Sequence[Any]] | None = None,
    cache: str | Path | None = None,
    batch_size: int = 1024,
    progress: Progress | None = None,
) -> Scores:
    """Reward every completion in every objective.

    Equal (prompt, completion, columns that the function reads) are scored once: a reward
    function must not depend on the rest of its batch. The columns that it reads are its
    attribute ``columns`` (PALM's), else its parameters; with ``**kwargs`` it reads all.

    A function may return ``None`` for completions that it does not score. Each counts as 0,
    because TRL leaves it out of Σ_i w_i r_i: so w·``mean`` is what training for w maximises,
    and means are over the same prompts for all policies.

    Args:
        rewards: reward functions by objective, with the signature of TRL.
        prompts: n strings or conversations.
        completions: for each prompt one completion or a list of them.
        columns: by name, one value per prompt ("ground_truth", for instance).
        completion_columns: by name, shaped as ``completions`` ("completion_ids").
        cache: a folder of scores keyed by content, shared by processes; ``None`` disables
            caching. Only functions with a string ``fingerprint``, such as PALM's, are
            cached: changes of others cannot be detected.
        batch_size: completions in one call; finished batches are stored even if a later
            one fails.
        progress: called after every batch.

    Raises:
        InputError: lengths differ, a column is missing or not JSON, or no objective.
        WorkError: a reward function failed, returned too few or too many scores or one
            that is not finite: the prompt is named.

    Example:
        >>> from palm_eval.rewards import length
        >>> scores = score({"long": length()}, ["a?", "b?"], [["x", "xxx"], "xxxx"])
        >>> scores.per_prompt.tolist(), scores.mean.tolist(), scores.standard_error.tolist()
        ([[2.0], [4.0]], [3.0], [1.0])
    """
    if not isinstance(rewards, Mapping) or not rewards:
        raise InputError("rewards: must be reward functions by objective, at least one")
    for objective, function in rewards.items():
        if not isinstance(objective, str) or not objective or not callable(function):
            raise InputError(
                f"rewards: {one_line(repr(objective), 80)} must be the name of an objective, with "
                "a function"
            )
    size = check_count(batch_size, name="batch_size", least=1)
    nested = completions_of(prompts, completions)
    if not nested:
        raise InputError("prompts: is empty, must have at least one")
    rows = _rows(prompts, nested, columns, completion_columns)
    owners = np.repeat(np.arange(len(nested)), [len(several) for several in nested])

    plans = [_Plan(name, function, rows) for name, function in rewards.items()]
    total, done = sum(len(plan.unique) for plan in plans), 0
    flat = np.empty((len(rows), len(plans)))
    abstained: dict[str, int] = {}
    with ScoreCache(Path(cache)) if cache is not None else nullcontext() as store:
        for column, plan in enumerate(plans):
            for known in plan.run(size, store):
                if progress is not None:
                    progress(done + known, total)
            done += len(plan.unique)
            found = [plan.scores[key] for key in plan.keys]
            flat[:, column] = [0.0 if one is None else one for one in found]
            abstained[plan.name] = found.count(None)
            if abstained[plan.name]:
                _log.info(
                    "reward %r gave no score for %d of %d completions: each counts as 0",
                    plan.name,
                    abstained[plan.name],
                    len(found),
                )

    per_completion = tuple(flat[owners == prompt] for prompt in range(len(nested)))
    per_prompt = np.array([values.mean(axis=0) for values in per_completion])
    n = len(per_prompt)
    return Scores(
        objectives=tuple(rewards),
        per_completion=per_completion,
        per_prompt=per_prompt,
        mean=per_prompt.mean(axis=0),
        standard_error=per_prompt.std(axis=0, ddof=1) / np.sqrt(n)
        if n > 1
        else np.full(len(plans), np.nan),
        calls={plan.name: plan.calls for plan in plans},
        scored={plan.name: plan.scored for plan in plans},
        abstained=abstained,
    )


class _Plan:
    """The distinct rows that one reward function has to score, by key."""

    def __init__(self, name: str, function: RewardFunction, rows: Sequence[_Row]) -> None:
        self.name, self.function = name, function
        self.calls = self.scored = 0
        self.scores: dict[bytes, float | None] = {}
        given = rows[0].columns.keys()
        self._columns = columns_read(name, function, given)
        fingerprint = getattr(function, "fingerprint", None)
        self._cached = isinstance(fingerprint, str) and bool(fingerprint)
        identity = fingerprint if self._cached else ""
        self.keys = [self._key(str(identity), row) for row in rows]
        self.unique = dict(zip(reversed(self.keys), reversed(rows), strict=True))

    def run(self, size: int, store: ScoreCache | None) -> Any:
        """Score unknown rows; yield the number of known scores after each batch."""
        if store is not None and self._cached:
            self.scores.update(store.get(list(self.unique)))
        # In the given order: errors name the first.
        missing = [key for key in dict.fromkeys(self.keys) if key not in self.scores]
        yield len(self.scores)
        for start in range(0, len(missing), size):
            keys = missing[start : start + size]
            found = dict(zip(keys, self._call([self.unique[key] for key in keys]), strict=True))
            if store is not None and self._cached:
                store.put(found)
            self.scores.update(found)
            self.scored += len(found)
            yield len(self.scores)

    def _call(self, rows: Sequence[_Row]) -> list[float | None]:
        self.calls += 1
        try:
            values = self._values(rows)
        except PalmError:
            raise
        except Exception as error:
            text = one_line(f"{type(error).__name__}: {error}", 300)
            raise WorkError(f"reward {self.name!r} failed{self._at(rows)}: {text}") from error
        return check_scores(values, [row.prompt for row in rows], self.name)

    def _values(self, rows: Sequence[_Row]) -> object:
        columns = {name: [row.columns[name] for row in rows] for name in self._columns}
        prompts, completions = [row.prompt for row in rows], [row.completion for row in rows]
        return called(self.function, prompts, completions, columns)

    def _at(self, rows: Sequence[_Row]) -> str:
        """Which of ``rows`` fails by itself, in words; empty where none does."""
        for row in rows:
            try:
                self._values([row])
            except Exception:  # noqa: BLE001  whatever it is, it has been told
                return f" at prompt {shown(row.prompt)}, completion {shown(row.completion)}"
        return ""

    def _key(self, identity: str, row: _Row) -> bytes:
        read = {name: row.columns[name] for name in self._columns}
        try:
            # Escaped, so that any string is valid; by its JSON text, so that 1 is not 1.0.
            written = json.dumps(
                [identity, row.prompt, row.completion, read], sort_keys=True, allow_nan=False
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"columns {', '.join(map(repr, read))}: must hold JSON values: "
                f"{one_line(error, 200)}"
            ) from error
        return hashlib.sha256(written.encode()).digest()


def _rows(
    prompts: Sequence[Any],
    nested: Sequence[Sequence[Any]],
    columns: Mapping[str, Sequence[Any]] | None,
    completion_columns: Mapping[str, Sequence[Any]] | None,
) -> list[_Row]:
    by_prompt = check_columns(columns, len(prompts))
    by_completion = check_columns(completion_columns, len(prompts))
    for name, values in by_completion.items():
        if name in by_prompt:
            raise InputError(f"column {name!r} is in columns and in completion_columns")
        for index, (several, value) in enumerate(zip(nested, values, strict=True)):
            if not hasattr(value, "__len__") or len(value) != len(several):
                raise InputError(
                    f"completion_columns: {name!r} of prompt {index} must have {len(several)} "
                    "values, one per completion"
                )
    return [
        _Row(
            prompt,
            completion,
            {
                **{name: values[index] for name, values in by_prompt.items()},
                **{name: values[index][number] for name, values in by_completion.items()},
            },
        )
        for index, (prompt, several) in enumerate(zip(prompts, nested, strict=True))
        for number, completion in enumerate(several)
    ]
