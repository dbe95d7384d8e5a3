"""Conformance tests for oracles.

One line in a test::

    from palm_core.testing import check_conformance

    def test_my_oracle():
        check_conformance(lambda: MyOracle(...))

or one test per rule::

    from palm_core.testing import OracleConformance

    class TestMyOracle(OracleConformance):
        def make_oracle(self):
            return MyOracle(...)

A run relies on these rules: answers in the order of the weights, with ids and
values that depend on the weight alone and not on its batch, so that a resumed,
re-ordered or distributed run gives the same answers as an uninterrupted one, and as
near to the optimum as the oracle claims. That answers arrive one by one *while*
others are computed cannot be observed and is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from palm_core.errors import InputError, OracleAnswerError
from palm_core.oracles.protocol import Claims, Oracle, check_answer, check_oracle, claims
from palm_core.validation import check_number, check_weights, error_reason
from palm_core.weights.simplex import sample_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import ArrayLike, NDArray

    from palm_core.model.policy import Policy


@dataclass
class Batch:
    """One call of ``solve``: weights, answers and exception."""

    asked: NDArray[np.float64]
    given: NDArray[np.float64]  # the array passed to the oracle, after the call
    stream: Any = None
    answers: list[Any] = field(default_factory=list)
    # the numbers in each answer at the moment it was yielded
    at_once: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    error: Exception | None = None
    too_many: bool = False


class Trial:
    """A trial of an oracle: its answers to the same weights in different batches and orders."""

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
        """The oracle under test."""
        return self.make_oracle()

    @cached_property
    def objectives(self) -> tuple[str, ...]:
        """The objectives under test."""
        try:
            return check_oracle(self.oracle)
        except InputError as error:
            broken("attributes", str(error), error)

    @cached_property
    def claims(self) -> Claims:
        """The claims under test."""
        try:
            return claims(self.oracle)
        except InputError as error:
            broken("claims", str(error), error)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(k, d) weights of the trial; the last row repeats the first."""
        d = len(self.objectives)
        if self.asked_for is None:
            centre = np.full((1, d), 1.0 / d)
            rows = np.vstack([np.eye(d), centre, sample_weights(3, d, seed=0)])
        else:
            rows = check_weights(self.asked_for, d)
        return np.vstack([rows, rows[:1]])

    def run(self, oracle: Oracle, weights: NDArray[np.float64]) -> Batch:
        """Ask ``oracle`` for ``weights``; exceptions are recorded, not raised."""
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
        except Exception as error:  # noqa: BLE001  # reported by the rule for the batch
            batch.error = error
        return batch

    @cached_property
    def first(self) -> Batch:
        """The first batch asked of the oracle."""
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
        """Answers to the same weights asked in reverse, in the weights' order."""
        return self.again("batches", self.weights[::-1])[::-1]

    @cached_property
    def alone(self) -> list[Policy]:
        """Answers to each weight asked in a separate batch."""
        return [self.again("batches", row[np.newaxis])[0] for row in self.weights]

    def again(
        self, rule: str, weights: NDArray[np.float64], oracle: Oracle | None = None
    ) -> list[Policy]:
        """Validated answers of a later batch; errors break ``rule``."""
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
        """Fail for answers that differ from the first batch's."""
        for row, one, other in zip(self.weights, self.policies, others, strict=True):
            difference = self.difference(one, other)
            if one.id != other.id:
                difference = f"id {one.id!r}, then {other.id!r}"
            if difference:
                broken(rule, f"at {shown(row)} {how} gives another answer: {difference}")

    def difference(self, one: Policy, other: Policy) -> str:
        """The difference of two policies beyond the tolerance, or empty."""
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
    """``solve`` returns an iterator, which may be closed before its end."""
    stream = trial.first.stream
    if trial.first.error is not None:
        return  # reported by the next rule
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
            "iterator",
            f"left after one answer and asked anew, it raised {error_reason(error)}",
            error,
        )


def rows(trial: Trial) -> None:
    """There is one answer for each row of the weights."""
    batch = trial.first
    if batch.error is not None or batch.too_many or len(batch.answers) != len(batch.asked):
        broken("rows", count(batch), batch.error)


def unchanged(trial: Trial) -> None:
    """The oracle does not modify the weights passed to it."""
    if not np.array_equal(trial.first.given, trial.first.asked):
        index = int(np.argmax((trial.first.given != trial.first.asked).any(axis=1)))
        broken(
            "unchanged",
            f"row {index} of the weights was {shown(trial.first.asked[index])}, after solve it is "
            f"{shown(trial.first.given[index])}",
        )


def kept(trial: Trial) -> None:
    """An answer does not change after it is yielded: no buffer is reused."""
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
    """Copies of the numeric values in an answer."""
    found = {}
    for name in ("weights", "rewards", "regularizer"):
        with suppress(TypeError, ValueError):  # the rule about numbers reports it
            found[name] = np.array(getattr(answer, name, None), dtype=np.float64)
    return found


def count(batch: Batch) -> str:
    """Describe the number of answers of a batch, and its exception."""
    text = f"the oracle answered {len(batch.answers)} of {len(batch.asked)} weights"
    if batch.too_many:
        return f"{text} and then another one"
    if batch.error is not None:
        return f"{text} and raised {error_reason(batch.error)}"
    return f"{text} and stopped"


def shown(numbers: ArrayLike) -> str:
    """Format numbers with six digits."""
    return "(" + ", ".join(f"{number:.6g}" for number in np.ravel(numbers)) + ")"


def attributes(trial: Trial) -> None:
    """``objectives`` are distinct names and ``solve`` is a method."""
    mine, other = trial.objectives, tuple(trial.make_oracle().objectives)
    if mine != other:
        broken("attributes", f"objectives are {mine}, those of an equal oracle {other}")


def claimed(trial: Trial) -> None:
    """Claimed slack and bounds are numbers in their ranges."""
    _ = trial.claims


def fingerprint(trial: Trial) -> str | None:
    """``fingerprint`` is a text that equal oracles share."""
    text = getattr(trial.oracle, "fingerprint", None)
    if text is None:
        return "the oracle has none"
    if not isinstance(text, str) or not text:
        broken("fingerprint", f"{text!r}: must be a text")
    other = getattr(trial.make_oracle(), "fingerprint", None)
    if other != text:
        broken("fingerprint", f"{text!r}, of an equal oracle {other!r}")
    return None


def prompts(trial: Trial) -> str | None:
    """Values per prompt average to the policy's own, over the same number of prompts."""
    counts = set()
    for policy, row in zip(trial.policies, trial.weights, strict=True):
        for name, mean, single in (
            ("rewards", policy.rewards, policy.prompt_rewards),
            ("regularizer", policy.regularizer, policy.prompt_regularizer),
        ):
            if single is None:
                continue
            counts.add(len(single))
            if len(single) == 0 or not trial.equal(mean, single.mean(axis=0)):
                broken(
                    "prompts",
                    f"at {shown(row)} {name} {shown(np.atleast_1d(mean))} is not the mean "
                    f"of its {len(single)} values per prompt",
                )
    if len(counts) > 1:
        broken("prompts", f"answers have {sorted(counts)} prompts, must be the same for all")
    return None if counts else "no answer has values per prompt"


def deterministic(trial: Trial) -> None:
    """The oracle and an equal one give the same answers to the same weights."""
    first, last = trial.policies[0], trial.policies[-1]
    difference = trial.difference(first, last)
    if difference:
        broken(
            "deterministic",
            f"{shown(trial.weights[0])} twice in one batch has two answers: {difference}",
        )
    again = trial.again("deterministic", trial.weights)
    trial.compare("deterministic", "the same batch again", again)
    other = trial.again("deterministic", trial.weights, trial.make_oracle())
    trial.compare("deterministic", "an equal oracle", other)


def ids(trial: Trial) -> None:
    """An id identifies one policy, in all batches."""
    seen: dict[str, tuple[Policy, NDArray[np.float64]]] = {}
    for answered in (trial.policies, trial.reversed, trial.alone):
        for policy, row in zip(answered, trial.weights, strict=True):
            known, where = seen.setdefault(policy.id, (policy, row))
            difference = trial.difference(known, policy)
            # Two answers to one weight are reported by the next rule.
            if difference and not np.array_equal(where, row):
                broken(
                    "ids",
                    f"{policy.id!r} names two policies, at {shown(where)} and {shown(row)}: "
                    f"{difference}; palm_core.plugin.weight_id makes a name out of a weight",
                )


def batches(trial: Trial) -> None:
    """The answer depends on its weight alone, not on the batch it was asked in."""
    trial.compare("batches", "asked in reverse order", trial.reversed)
    trial.compare("batches", "asked alone", trial.alone)


def bounds(trial: Trial) -> str | None:
    """No answer exceeds the claimed R_max and f_max."""
    most = trial.claims.reward_bound, trial.claims.regularizer_bound
    if most == (None, None):
        return "the oracle claims none"
    for policy, row in zip(trial.policies, trial.weights, strict=True):
        for name, value, bound in (
            ("reward_bound", float(np.abs(policy.rewards).sum()), most[0]),
            ("regularizer_bound", policy.regularizer, most[1]),
        ):
            if bound is not None and value > bound + trial.tolerance * max(1.0, bound):
                broken("bounds", f"at {shown(row)} {value:.9g} exceeds {name} = {bound:.9g}")
    return None


def optimality(trial: Trial) -> None:
    """No other answer is better at a weight than the claimed slack (0 without a claim) allows."""
    own, best = trial.slack()
    size = np.maximum(1.0, np.maximum(np.abs(own), np.abs(best)))
    allowed = trial.claims.epsilon * np.maximum(best, 0.0) + trial.claims.delta
    excess = best - own - allowed
    worst = int(np.argmax(excess / size))
    if excess[worst] > trial.tolerance * size[worst]:
        claim = f"epsilon = {trial.claims.epsilon:g} and delta = {trial.claims.delta:g}"
        if not trial.claims.slack_claimed:
            claim = "no epsilon and no delta: must claim what its answers may lack (1: nothing)"
        broken(
            "optimality",
            f"at {shown(trial.weights[worst])} the answer has J = {own[worst]:.9g}, another one "
            f"{best[worst]:.9g}; the oracle claims {claim}",
        )


def picklable(trial: Trial) -> None:
    """Oracle and answers can be pickled, for worker processes."""
    # As a process pool does with arguments and results.
    from multiprocessing.reduction import ForkingPickler

    row = trial.weights[:1]
    for name, thing in (("the oracle", trial.oracle), ("its answer", trial.first.answers[:1])):
        try:
            bytes(ForkingPickler.dumps(thing))
        except Exception as error:  # noqa: BLE001  # anything may go wrong in a reducer
            broken("picklable", f"{name} cannot be sent to a worker: {error_reason(error)}", error)
    try:
        copy = ForkingPickler.loads(ForkingPickler.dumps(trial.oracle))
    except Exception as error:  # noqa: BLE001  # likewise
        broken("picklable", f"the oracle does not arrive: {error_reason(error)}", error)
    sent = trial.again("picklable", row, copy)[0]
    difference = trial.difference(trial.policies[0], sent)
    if difference:
        broken("picklable", f"at {shown(row[0])} a copy answers otherwise: {difference}")


RULES: dict[str, Callable[[Trial], str | None]] = {
    "attributes": attributes,
    "claims": claimed,
    "fingerprint": fingerprint,
    "iterator": iterator,
    "rows": rows,
    "unchanged": unchanged,
    "kept": kept,
    "order": order,
    "answers": answers,
    "prompts": prompts,
    "deterministic": deterministic,
    "ids": ids,
    "batches": batches,
    "bounds": bounds,
    "optimality": optimality,
    "picklable": picklable,
}


@dataclass(frozen=True, kw_only=True)
class ConformanceReport:
    """Report of a conformance test: rules checked and measured slack.

    Attributes:
        objectives: the d objectives.
        checked: the rules that passed.
        skipped: rule → why it was not checked.
        weights: (k, d) the weights that were asked for.
        policies: the k answers.
        calls: oracle calls made, counted by answers.
        measured_epsilon: the largest (max_j J_w(π_j) − J_w(π_w)) / max_j J_w(π_j)
            over the weights where that maximum is positive: the multiplicative
            slack that the oracle has at least.
        measured_delta: the largest max_j J_w(π_j) − J_w(π_w): its additive slack,
            at least.
    """

    objectives: tuple[str, ...]
    checked: tuple[str, ...]
    skipped: Mapping[str, str]
    weights: NDArray[np.float64]
    policies: tuple[Policy, ...]
    calls: int
    measured_epsilon: float
    measured_delta: float

    def __str__(self) -> str:
        left_out = "".join(f"; {rule} skipped: {why}" for rule, why in self.skipped.items())
        return (
            f"{len(self.checked)} rules hold for {len(self.objectives)} objectives, "
            f"{len(self.weights)} weights and {self.calls} oracle calls; measured oracle slack "
            f"ε {self.measured_epsilon:.3g}, δ {self.measured_delta:.3g}{left_out}"
        )


def check_conformance(
    make_oracle: Callable[[], Oracle],
    *,
    weights: ArrayLike | None = None,
    tolerance: float = 1e-9,
    skip: Collection[str] = (),
) -> ConformanceReport:
    """Check an oracle against every rule of the protocol.

    Args:
        make_oracle: factory of the oracle; called several times, and its oracles
            must give the same answers.
        weights: (k, d) weights to ask; ``None`` means the vertices, the centre
            and three weights between. Every weight is asked about five times:
            pass few where a call is expensive.
        tolerance: tolerance of equality, relative to the larger of the values'
            size and 1.
        skip: rules to skip, for instance ``("picklable",)`` for an oracle that
            never runs in worker processes.

    Returns:
        The rules checked and the slack measured.

    Raises:
        AssertionError: a rule is broken; one line with the rule, the weight
            and the values.
        InputError: ``skip`` names no rule, or ``weights`` are not on the simplex.
    """
    left_out = _left_out(skip)
    trial = Trial(make_oracle, weights, tolerance)
    skipped = {rule: why for rule in RULES if (why := _check(trial, rule, left_out))}
    own, best = trial.slack()
    lost, positive = best - own, best > 0
    return ConformanceReport(
        objectives=trial.objectives,
        checked=tuple(rule for rule in RULES if rule not in skipped),
        skipped=skipped,
        weights=trial.weights,
        policies=tuple(trial.policies),
        calls=trial.calls,
        measured_epsilon=float((lost[positive] / best[positive]).max(initial=0.0)),
        measured_delta=float(lost.max()),
    )


class OracleConformance:
    """The conformance rules as one test each, for pytest: subclass as ``Test…``.

    Override :meth:`make_oracle`, and the attributes, which are the arguments of
    :func:`check_conformance`.
    """

    weights: ClassVar[ArrayLike | None] = None
    tolerance: ClassVar[float] = 1e-9
    skip: ClassVar[Collection[str]] = ()

    def make_oracle(self) -> Oracle:
        """Make the oracle to be tested."""
        raise NotImplementedError(f"{type(self).__name__} must define make_oracle()")

    def _check(self, rule: str) -> None:
        cls: Any = type(self)
        if "_trial" not in vars(cls):  # one trial for all tests of the class
            cls._trial = Trial(self.make_oracle, self.weights, self.tolerance)
        why = _check(cls._trial, rule, _left_out(self.skip))
        if why:
            from unittest import SkipTest  # pytest reports a skip

            raise SkipTest(why)


def _left_out(skip: Collection[str]) -> set[str]:
    if not set(skip) <= set(RULES):
        raise InputError(f"skip = {skip!r}: must be names among {', '.join(RULES)}")
    return set(skip)


def _check(trial: Trial, rule: str, left_out: set[str]) -> str | None:
    return "left out" if rule in left_out else RULES[rule](trial)


def _add_test(rule: str) -> None:
    def test(self: OracleConformance) -> None:
        self._check(rule)

    test.__name__ = f"test_{rule}"
    test.__qualname__ = f"{OracleConformance.__qualname__}.{test.__name__}"
    test.__doc__ = RULES[rule].__doc__
    setattr(OracleConformance, test.__name__, test)


for _rule in RULES:
    _add_test(_rule)
