"""Base class of reward functions: validation of inputs and outputs, asynchronous functions.

Asynchronous functions run in one event loop per process, with the lifetime of the process, as
in TRL, so that state between calls (an HTTP client, for example) remains usable. The loop has a
thread of its own, since a notebook's thread already runs another loop.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import inspect
import json
import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from palm_core import InputError, WorkError
from palm_core.plugin import one_line
from palm_eval import __version__
from palm_eval.rewards.conversations import completion_text, shown


def awaited(value: Any) -> Any:
    """The result of ``value`` where it is a coroutine or another awaitable, else ``value``.

    Exceptions of the coroutine are raised; it is cancelled if the caller is interrupted.
    """
    if not inspect.isawaitable(value):
        return value

    async def result() -> Any:
        return await value

    future = asyncio.run_coroutine_threadsafe(result(), _event_loop(os.getpid()))
    try:
        return future.result()
    finally:
        future.cancel()


@cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    """The event loop of this process; a forked process does not inherit its parent's thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="palm-rewards", daemon=True)

    def close() -> None:
        if os.getpid() == process:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    atexit.register(close)
    thread.start()
    return loop


#: ``(prompts, completions, **columns) -> list[float | None]``, as TRL calls it: plain or
#: asynchronous, ``None`` for a completion that it does not score.
RewardFunction = Callable[..., Sequence[float | None] | Awaitable[Sequence[float | None]]]


class Reward(ABC):
    """A reward function that declares its columns, models and fingerprint.

    Attributes:
        __name__: unique to the options, as TRL needs for its metrics.
        columns: the data set's columns that it reads; others have no effect.
        requires: the required ones among ``columns``.
        models: names of the language models that it uses.
    """

    columns: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    __name__: str

    def __init__(
        self, kind: str, options: Mapping[str, Any], defaults: Mapping[str, Any], name: str | None
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise InputError(f"name = {name!r}: must be a text that is not empty")
        self._options = {"reward": kind, **options}
        unusual = any(options.get(key) != value for key, value in defaults.items())
        self.__name__ = name or (f"{kind}_{_digest(self._options)[:6]}" if unusual else kind)

    @property
    def fingerprint(self) -> str | None:
        """Hash of all inputs besides texts and columns, used as a cache key.

        ``None`` if unknown: such rewards are not cached on disk.
        """
        sources = self._sources()
        if sources is None:
            return None
        return "sha256:" + _digest({**self._options, "sources": sources, "version": __version__})

    @property
    def correctness(self) -> Reward | None:
        """The reward that is 1 for correct completions, else 0, if this one judges correctness."""
        return None

    def _sources(self) -> dict[str, Any] | None:
        """Contents that options refer to: files, versions of libraries. ``None``: unknown."""
        return {}

    @abstractmethod
    def _score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> Sequence[float | None]:
        """One number per completion; lengths and columns are validated already."""

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One reward per completion; ``None`` is never returned.

        Raises:
            InputError: the lengths differ, a column is missing or unusable, or a text is
                neither a string nor a conversation.
            WorkError: a reward is not finite.
        """
        check_lengths(prompts, completions)
        read = {}
        for column in self.columns:
            values = columns.get(column)
            if values is None:
                if column in self.requires:
                    raise InputError(f"reward {self.__name__!r} needs the column {column!r}")
                continue
            if len(values) != len(completions):
                raise InputError(
                    f"column {column!r} has {len(values)} values: must be {len(completions)}, "
                    "one per completion"
                )
            read[column] = values
        return check_scores(self._score(prompts, completions, read), prompts, self.__name__)

    def __repr__(self) -> str:
        return f"<reward {self.__name__!r}>"


def called(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Any],
) -> Sequence[float | None]:
    """The scores that ``function`` returns, called by keyword as TRL calls it.

    Functions whose parameters are positional only, or of which no signature is known, are
    given prompts and completions by position. Coroutines are awaited.

    Args:
        function: a function, an object with ``__call__`` or ``functools.partial``.
        prompts: n.
        completions: n.
        columns: by name, n values each: of those given, the ones that :func:`columns_read`
            selects.

    Example:
        >>> called(lambda completions, **_: [len(c) for c in completions], ["?"], ["abc"], {})
        [3]
        >>> called(lambda asked, said, /: [len(c) for c in said], ["?"], ["abc"], {})
        [3]
    """
    given: dict[str, Any] = {"prompts": prompts, "completions": completions}
    parameters = _parameters(function) or []
    kinds = {p.kind for p in parameters}
    names = {p.name for p in _named(parameters)}
    anything = inspect.Parameter.VAR_KEYWORD in kinds
    by_position = not parameters or inspect.Parameter.POSITIONAL_ONLY in kinds
    if inspect.Parameter.VAR_POSITIONAL in kinds and not anything:
        by_position = by_position or "completions" not in names
    if by_position:
        scores = function(prompts, completions, **columns)
    else:
        extras = {name: value for name, value in given.items() if anything or name in names}
        scores = function(**extras, **columns)
    found: Sequence[float | None] = awaited(scores)
    return found


def columns_read(name: str, function: RewardFunction, given: Collection[str]) -> list[str]:
    """The columns among ``given`` that ``function`` takes, sorted.

    Args:
        name: of the reward, for the error.
        function: as for :func:`called`.
        given: names of available columns.

    Raises:
        InputError: a required column is not available.
    """
    accepted, required = columns_of(function)
    for column in sorted(required - set(given)):
        raise InputError(
            f"reward {name!r} needs the column {column!r}; given: "
            f"{', '.join(sorted(given)) or 'none'}"
        )
    return sorted(given if accepted is None else accepted & set(given))


def columns_of(function: RewardFunction) -> tuple[set[str] | None, set[str]]:
    """The columns that ``function`` takes (``None``: any), and those of them that it needs."""
    said = getattr(function, "columns", None)
    if isinstance(said, tuple):
        return set(said), set(getattr(function, "requires", ()))
    parameters = _parameters(function)
    if parameters is None:
        return None, set()
    named = [p for p in _named(parameters) if p.name not in ("prompts", "completions")]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    required = {p.name for p in named if p.default is p.empty}
    return (None if anything else {p.name for p in named}), required


def _parameters(function: RewardFunction) -> list[inspect.Parameter] | None:
    """The parameters of ``function``; ``None`` for a compiled callable without a signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # compiled: the call itself will tell
        return None


def _named(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def check_lengths(prompts: Sequence[Any], completions: Sequence[Any]) -> None:
    """Raise :class:`InputError` unless there is one prompt per completion."""
    for name, values in (("prompts", prompts), ("completions", completions)):
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InputError(f"{name} is of type {type(values).__name__}: must be a list")
    if len(prompts) != len(completions):
        raise InputError(
            f"completions: has {len(completions)} entries, must have {len(prompts)}, one per prompt"
        )


def check_scores(values: object, prompts: Sequence[Any], name: str) -> list[float | None]:
    """Return ``values`` as finite floats, one per prompt; ``None`` (no score) stays.

    Raises:
        WorkError: not a list of numbers, too many or too few, or one that is not
            finite: its index, its prompt and the value are named.
    """
    items: Any = values
    if hasattr(values, "tolist"):  # arrays and tensors
        items = values.tolist()
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise WorkError(
            f"reward {name!r} returned {one_line(repr(values), 60)}: must be a list of numbers"
        )
    if len(items) != len(prompts):
        raise WorkError(
            f"reward {name!r} returned {len(items)} scores for {len(prompts)} completions: "
            "must be one each"
        )
    scores: list[float | None] = []
    for index, item in enumerate(items):
        if item is None:
            scores.append(None)
            continue
        try:
            score = float(item)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if isinstance(item, str) or not math.isfinite(score):
            raise WorkError(
                f"reward {name!r} of completion {index}, prompt {shown(prompts[index])}, is "
                f"{one_line(repr(item), 40)}: must be a finite number, or None for no score"
            )
        scores.append(score)
    return scores


def check_sign(sign: object) -> int:
    """Return 1 or -1, or raise :class:`InputError`."""
    if isinstance(sign, bool) or sign not in (1, -1):
        raise InputError(f"sign = {sign!r}: must be 1 (more is better) or -1 (less is better)")
    return 1 if sign == 1 else -1


def check_column(value: object, *, name: str) -> str:
    """Return the name of a column, or raise :class:`InputError`."""
    if not isinstance(value, str) or not value or value in ("prompts", "completions"):
        raise InputError(f"{name} = {value!r}: must be the name of a column")
    return value


def texts_of(completions: Sequence[Any]) -> list[str]:
    """The text of each completion; an error names its index."""
    return [completion_text(item, f"completion {index}") for index, item in enumerate(completions)]


def _digest(identity: Mapping[str, Any]) -> str:
    written = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()
