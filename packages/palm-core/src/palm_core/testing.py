"""Does an oracle keep its word? A conformance suite for oracle authors.

One line in a test::

    from palm_core.testing import check_conformance

    def test_my_oracle():
        check_conformance(lambda: MyOracle(...))

or one test per rule::

    from palm_core.testing import OracleConformance

    class TestMyOracle(OracleConformance):
        def make_oracle(self):
            return MyOracle(...)

The rules are what a run relies on: answers in the order of the weights, named
and computed by the weight alone and not by the batch it came in, so that a
resumed, re-ordered or distributed run gives the same answer as a straight one,
and as near the optimum as the oracle claims. That answers come one by one
*while* the others are computed cannot be seen from outside and is not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from palm_core._conformance import RULES
from palm_core._trial import Trial
from palm_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from palm_core.oracle import Oracle
    from palm_core.policies import Policy


@dataclass(frozen=True, kw_only=True)
class ConformanceReport:
    """What was checked, and how good the answers were.

    Attributes:
        objectives: the d objectives.
        checked: the rules that hold.
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
        make_oracle: makes the oracle; called several times, and the oracles it
            makes must answer alike.
        weights: (k, d) what to ask for; ``None`` means the vertices, the
            centre and three weights between. Every weight is asked for about
            five times: give few where a call is expensive.
        tolerance: how far values may be apart that should be equal, relative
            to the larger of their size and 1.
        skip: rules to leave out, for instance ``("picklable",)`` for an oracle
            that is never given to worker processes.

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
    """The same rules as one test each, for pytest: subclass as ``Test…``.

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
        if "_trial" not in vars(cls):  # one for all tests of the class
            cls._trial = Trial(self.make_oracle, self.weights, self.tolerance)
        why = _check(cls._trial, rule, _left_out(self.skip))
        if why:
            from unittest import SkipTest  # pytest shows it as a skip

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
