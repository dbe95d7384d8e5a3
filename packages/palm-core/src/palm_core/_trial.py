"""Asking an oracle under test the same in many ways, and what one batch must be.

:class:`Trial` keeps every batch, whatever came of it; the functions below it
are the rules that look at the first batch alone. The rules that compare
batches are in :mod:`palm_core._conformance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from palm_core.errors import InputError, OracleAnswerError
from palm_core.oracle import Claims, Oracle, check_answer, check_oracle, claims
from palm_core.simplex import check_number, check_weights, sample_weights
from palm_core.text import reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import Policy


@dataclass
class Batch:
    """One call of ``solve``: what was asked, and all that came of it."""

    asked: NDArray[np.float64]
    given: NDArray[np.float64]  # the array the oracle got, as it left it
    stream: Any = None
    answers: list[Any] = field(default_factory=list)
    # the numbers in each answer at the moment it was yielded
    at_once: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    error: Exception | None = None
    too_many: bool = False


class Trial:
    """The oracle under test, and its answers to the same weights asked in many ways."""

    def __init__(
        self,
        make_oracle: Callable[[], Oracle],
        weights: ArrayLike | None,
        tolerance: float,
    ) -> None:
        self.make_oracle = make_oracle
        self.tolerance = check_number(tolerance, name="tolerance", least=0.0)
        self.asked_for = weights
        self.calls = 0

    @cached_property
    def oracle(self) -> Oracle:
        return self.make_oracle()

    @cached_property
    def objectives(self) -> tuple[str, ...]:
        try:
            return check_oracle(self.oracle)
        except InputError as error:
            broken("attributes", str(error), error)

    @cached_property
    def claims(self) -> Claims:
        try:
            return claims(self.oracle)
        except InputError as error:
            broken("claims", str(error), error)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(k, d) what is asked for; the first row is asked for again as the last."""
        d = len(self.objectives)
        if self.asked_for is None:
            centre = np.full((1, d), 1.0 / d)
            rows = np.vstack([np.eye(d), centre, sample_weights(3, d, seed=0)])
        else:
            rows = check_weights(self.asked_for, d)
        return np.vstack([rows, rows[:1]])

    def run(self, oracle: Oracle, weights: NDArray[np.float64]) -> Batch:
        """Ask ``oracle`` for ``weights``; whatever happens is kept, not raised."""
        batch = Batch(asked=weights, given=weights.copy())
        try:
            batch.stream = oracle.solve(batch.given)
            if isinstance(batch.stream, Iterator):
                for answer in batch.stream:
                    self.calls += 1
                    batch.too_many = len(batch.answers) == len(weights)
                    if batch.too_many:
                        break
                    batch.answers.append(answer)
                    batch.at_once.append(values(answer))
        except Exception as error:  # noqa: BLE001  # reported by the rule that looks at the batch
            batch.error = error
        return batch

    @cached_property
    def first(self) -> Batch:
        """The first batch, before anything else was asked of the oracle."""
        return self.run(self.oracle, self.weights)

    @cached_property
    def policies(self) -> list[Policy]:
        """The checked answers of the first batch, one per weight."""
        for rule in (rows, unchanged, kept, order, answers):
            rule(self)
        return [
            check_answer(answer, row, self.objectives)
            for answer, row in zip(self.first.answers, self.weights, strict=True)
        ]

    @cached_property
    def reversed(self) -> list[Policy]:
        """The same weights asked in reverse; answers in the weights' order."""
        return self.again("batches", self.weights[::-1])[::-1]

    @cached_property
    def alone(self) -> list[Policy]:
        """Each weight asked for in a batch of its own."""
        return [self.again("batches", row[np.newaxis])[0] for row in self.weights]

    def again(
        self, rule: str, weights: NDArray[np.float64], oracle: Oracle | None = None
    ) -> list[Policy]:
        """Checked answers of a later batch; whatever is wrong breaks ``rule``."""
        batch = self.run(self.oracle if oracle is None else oracle, weights)
        if batch.error is not None or batch.too_many or len(batch.answers) != len(weights):
            broken(rule, "asked again, " + count(batch), batch.error)
        try:
            return [
                check_answer(answer, row, self.objectives)
                for answer, row in zip(batch.answers, weights, strict=True)
            ]
        except OracleAnswerError as error:
            broken(rule, f"asked again, {error}", error)

    def compare(self, rule: str, how: str, others: list[Policy]) -> None:
        """Refuse answers that differ from the first batch's."""
        for row, one, other in zip(self.weights, self.policies, others, strict=True):
            difference = self.difference(one, other)
            if one.id != other.id:
                difference = f"id {one.id!r}, then {other.id!r}"
            if difference:
                broken(rule, f"at {shown(row)} {how} gives another answer: {difference}")

    def difference(self, one: Policy, other: Policy) -> str:
        """In what two policies differ by more than the tolerance, or nothing."""
        if not self.equal(one.rewards, other.rewards):
            return f"rewards {shown(one.rewards)}, then {shown(other.rewards)}"
        if not self.equal(one.regularizer, other.regularizer):
            return f"regularizer {one.regularizer:.9g}, then {other.regularizer:.9g}"
        return ""

    def equal(self, one: ArrayLike, other: ArrayLike) -> bool:
        """Whether values agree within the tolerance."""
        a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
        size = np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        return bool((np.abs(a - b) <= self.tolerance * size).all())

    def slack(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(k,) J_w(π_w) and (k,) max_j J_w(π_j) over all answers."""
        values = np.array([policy.rewards - policy.regularizer for policy in self.policies])
        objective = self.weights @ values.T
        return objective.diagonal(), objective.max(axis=1)


def iterator(trial: Trial) -> None:
    """``solve`` returns an iterator, which may be left before its end."""
    stream = trial.first.stream
    if trial.first.error is not None:
        return  # that is for the next rule to tell
    if not isinstance(stream, Iterator):
        broken(
            "iterator",
            f"solve returned a {type(stream).__name__}, must be an iterator: "
            "yield each policy as soon as it is ready",
        )
    try:
        left = trial.oracle.solve(trial.weights.copy())
        next(left, None)
        del left
        next(trial.oracle.solve(trial.weights.copy()), None)
        trial.calls += 2
    except Exception as error:  # noqa: BLE001  # an oracle that raises is a finding
        broken(
            "iterator", f"left after one answer and asked anew, it raised {reason(error)}", error
        )


def rows(trial: Trial) -> None:
    """There is one answer for each row of the weights."""
    batch = trial.first
    if batch.error is not None or batch.too_many or len(batch.answers) != len(batch.asked):
        broken("rows", count(batch), batch.error)


def unchanged(trial: Trial) -> None:
    """The oracle leaves the weights it is given as they are."""
    if not np.array_equal(trial.first.given, trial.first.asked):
        index = int(np.argmax((trial.first.given != trial.first.asked).any(axis=1)))
        broken(
            "unchanged",
            f"row {index} of the weights was {shown(trial.first.asked[index])}, after solve it is "
            f"{shown(trial.first.given[index])}",
        )


def kept(trial: Trial) -> None:
    """An answer stays as it was when it came: no buffer is used twice."""
    for index, (answer, then) in enumerate(
        zip(trial.first.answers, trial.first.at_once, strict=True)
    ):
        for name, now in values(answer).items():
            if name in then and not np.array_equal(now, then[name], equal_nan=True):
                broken(
                    "kept",
                    f"the answer of row {index} came with {name} {shown(then[name])}, "
                    f"after the last answer it has {shown(now)}",
                )


def order(trial: Trial) -> None:
    """Answers come in the order of the weights."""
    for index, found in enumerate(trial.first.at_once):
        said = found.get("weights", np.empty(0))
        meant = [np.array_equal(said, row) for row in trial.weights]
        if any(meant) and not meant[index]:
            broken(
                "order",
                f"row {index} is {shown(trial.weights[index])}, its answer is for "
                f"row {meant.index(True)}, {shown(said)}",
            )


def answers(trial: Trial) -> None:
    """Each answer is a policy of this task: shapes, finite values, JSON info."""
    for index, (answer, row) in enumerate(zip(trial.first.answers, trial.weights, strict=False)):
        try:
            check_answer(answer, row, trial.objectives)
        except OracleAnswerError as error:
            broken("answers", f"row {index}, {shown(row)}: {error}", error)


def broken(rule: str, text: str, cause: Exception | None = None) -> NoReturn:
    """Fail with one line that names the rule."""
    raise AssertionError(f"{rule}: " + " ".join(text.split())) from cause


def values(answer: Any) -> dict[str, NDArray[np.float64]]:
    """Copies of the numbers in an answer, as far as they are numbers."""
    found = {}
    for name in ("weights", "rewards", "regularizer"):
        with suppress(TypeError, ValueError):  # the rule about numbers reports it
            found[name] = np.array(getattr(answer, name, None), dtype=np.float64)
    return found


def count(batch: Batch) -> str:
    """How many answers a batch has, and how it ended."""
    text = f"the oracle answered {len(batch.answers)} of {len(batch.asked)} weights"
    if batch.too_many:
        return f"{text} and then another one"
    if batch.error is not None:
        return f"{text} and raised {reason(batch.error)}"
    return f"{text} and stopped"


def shown(numbers: ArrayLike) -> str:
    """Numbers to six digits."""
    return "(" + ", ".join(f"{number:.6g}" for number in np.ravel(numbers)) + ")"
