"""Rewards as TRL calls them: of the original prompts, columns and texts, by objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError, PalmError, WorkError
from palm_core.text import one_line
from palm_eval.rewards.base import called, check_scores, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from palm_eval.language.prompt_files import Prompts
    from palm_eval.language.texts import Responder
    from palm_eval.rewards.base import RewardFunction

#: The column of the training set that says which prompt a row is.
ROW = "row"
# Besides the columns, what TRL offers to reward functions; not known when measuring.
_OFFERED = ("trainer_state", "log_extra", "log_metric")


def reward_functions(
    functions: Mapping[str, RewardFunction], prompts: Prompts, responder: Responder
) -> list[Callable[..., list[float | None]]]:
    """One function for each objective, for TRL, with the objective as its ``__name__``.

    It gives the objective's own function what measuring gives it: prompts and columns as
    they stand in the file, the responses' texts, ``completion_ids`` with the token that ends
    a response; and ``trainer_state`` where it takes that. ``None`` (no score) is left to TRL.

    Args:
        functions: by objective.
        prompts: those trained on, by the numbers in the column :data:`ROW`.
        responder: reads responses.

    Raises:
        InputError: when called, a column that a function needs is missing.
        WorkError: when called, a function fails, or what it returns is not one finite number or
            ``None`` for each response. Both name objective and step.
    """
    return [
        _named(objective, _Rewarding(objective, function, prompts, responder))
        for objective, function in functions.items()
    ]


class _Rewarding:
    def __init__(
        self, objective: str, function: RewardFunction, prompts: Prompts, responder: Responder
    ) -> None:
        self._objective, self._function = objective, function
        self._prompts, self._responder = prompts, responder
        self._taken, self._required = columns_of(function)

    def __call__(self, given: Mapping[str, Any]) -> list[float | None]:
        state = given["trainer_state"]
        try:
            return self._rewards(given)
        except PalmError as error:
            raise type(error)(self._line(state.global_step, str(error))) from error
        except Exception as error:
            told = one_line(f"{type(error).__name__}: {error}", 300)
            raise WorkError(self._line(state.global_step, f"failed: {told}")) from error

    def _rewards(self, given: Mapping[str, Any]) -> list[float | None]:
        rows: Sequence[int] = given[ROW]
        asked = self._prompts.chosen(rows)
        prompts = list(asked.texts)
        completion_ids = [list(ids) for ids in given["completion_ids"]]
        columns: dict[str, Any] = {name: list(values) for name, values in asked.columns.items()}
        columns["completion_ids"] = completion_ids
        columns |= {name: given[name] for name in _OFFERED if name in given}
        for column in sorted(self._required - set(columns)):
            known = ", ".join(sorted(set(columns) - set(_OFFERED)))
            raise InputError(f"needs the column {column!r}; given: {known}")
        if self._taken is not None:
            columns = {name: columns[name] for name in columns if name in self._taken}
        texts = [self._responder.text(ids) for ids in completion_ids]
        scores = called(self._function, prompts, texts, columns)
        return check_scores(scores, prompts, self._objective)

    def _line(self, done: int, told: str) -> str:
        return f"rewards.{self._objective}, step {done + 1}: {told}"


def _named(objective: str, rewarding: _Rewarding) -> Callable[..., list[float | None]]:
    def reward(**given: Any) -> list[float | None]:
        return rewarding(given)

    reward.__name__ = reward.__qualname__ = objective
    return reward
