"""Rewards of responses: each different response is scored once, and kept on disk.

Paper, section 3.1 and B.3: the value r_i(π) of a policy is E_{x, y∼π(·|x)}[r_i(x, y)],
estimated by the mean over prompts x and completions y. A reward function that abstains
(``None``) adds nothing to the weighted sum of a completion, as in TRL: it counts as 0.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError, PalmError, WorkError
from palm_core.simplex import check_count
from palm_core.text import one_line
from palm_eval._score_cache import ScoreCache
from palm_eval.responses import check_columns, completions_of
from palm_eval.rewards.base import called, check_scores, columns_read
from palm_eval.rewards.texts import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_eval.rewards.base import RewardFunction

_log = logging.getLogger("palm_eval")

#: Called with the number of scores that are known and the number that are needed.
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
        calls: how often each reward function was called, by objective.
        scored: how many different responses each of them scored anew, by objective.
        abstained: for how many completions each of them returned ``None``, by objective.
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
    function must not depend on what else is in its batch. Which columns it reads is what
    it says (``columns``, our own), else its parameters; one with ``**kwargs`` reads all.

    A function may return ``None`` for completions that it does not score. Each counts as 0,
    because TRL leaves it out of Σ_i w_i r_i: so w·``mean`` is what training for w maximises,
    and means are over the same prompts for all policies.

    Args:
        rewards: reward functions by objective, with the signature of TRL.
        prompts: n strings or conversations.
        completions: for each prompt one completion or a list of them.
        columns: by name, one value per prompt ("ground_truth", for instance).
        completion_columns: by name, shaped as ``completions`` ("completion_ids").
        cache: a folder where scores are kept by content, shared by processes; ``None``
            keeps none. Only functions with a text ``fingerprint`` are cached, as ours
            have: of any other nobody can tell when it changed.
        batch_size: completions in one call; a batch that is done is kept even if the
            next one fails.
        progress: called after every batch.

    Raises:
        InputError: lengths differ, a column is missing or no JSON, or no objective.
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
    """What one reward function has to score: the different rows, by key."""

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
        """Score what is not known; yields how many scores are known after each batch."""
        if store is not None and self._cached:
            self.scores.update(store.get(list(self.unique)))
        # In the order they were given: errors name the first.
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
            # Escaped, so that any string has a form; as written, so that 1 is not 1.0.
            written = json.dumps(
                [identity, row.prompt, row.completion, read], sort_keys=True, allow_nan=False
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"columns {', '.join(map(repr, read))}: a value is none of JSON's: "
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
