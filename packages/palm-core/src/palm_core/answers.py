"""What an oracle answered and what it claims: upper bounds of opt at the weights asked."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from palm_core._exact import UNIT, Values, dot, raised, rounding_error, tolerance
from palm_core.envelope import envelope_values
from palm_core.errors import InputError
from palm_core.simplex import check_number, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import PolicySet

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

# A smaller share of an objective is what rounding leaves of none.
_DUST = 2.0**-52


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An (ε_o, δ_o)-oracle: J_w(answer) ≥ opt(w) − ε_o·max(opt(w), 0) − δ_o.

    For opt(w) ≥ 0 this is the paper's definition (3.1 and footnote 3). For
    opt(w) < 0 that definition would ask for more than opt; ε_o then counts for nothing.

    Args:
        epsilon: ε_o in [0, 1).
        delta: δ_o ≥ 0, in units of reward.
        error: e ≥ 0: every evaluated J_w(π) is within e of the true one.
        claimed: it is the oracle's claim; otherwise it is assumed for want of one.

    Raises:
        InputError: a value outside its interval.
    """

    epsilon: float = 0.0
    delta: float = 0.0
    error: float = 0.0
    claimed: bool = True

    @classmethod
    def of(cls, epsilon: float | None, delta: float | None, error: float) -> Accuracy:
        """An accuracy of which ``None`` says nothing; exact answers are assumed if both do."""
        return cls(
            epsilon=0.0 if epsilon is None else epsilon,
            delta=0.0 if delta is None else delta,
            error=error,
            claimed=(epsilon, delta) != (None, None),
        )

    def __post_init__(self) -> None:
        check_number(self.epsilon, name="oracle_epsilon", least=0.0, most=1.0)
        if self.epsilon == 1:
            raise InputError("oracle_epsilon = 1: must be below 1, else the oracle claims nothing")
        check_number(self.delta, name="oracle_delta", least=0.0)
        check_number(self.error, name="evaluation_error", least=0.0)

    def bounds(self, values: Array) -> Array:
        """o: the largest opt for which evaluated ``values`` of answers are good enough.

        With x = J + e + δ_o it is x/(1 − ε_o) where x ≥ 0 and x where x < 0. Rounded up.
        """
        top = values + (self.error + self.delta)
        found = top + np.maximum(top, 0.0) * (self.epsilon / (1.0 - self.epsilon))
        if not (self.error or self.delta or self.epsilon):
            return np.asarray(found)
        size = np.abs(values) + self.error + self.delta + np.abs(found)
        return np.asarray(found + 16 * UNIT / (1.0 - self.epsilon) * size)

    def exact_bound(self, value: Fraction) -> Fraction:
        """The same of one value, in rational arithmetic."""
        top = value + tolerance(self.error) + tolerance(self.delta)
        return top / (1 - tolerance(self.epsilon)) if top > 0 else top

    def slack(self, optima: Array) -> Array:
        """The gap that may be left where the oracle was asked and opt is ``optima``."""
        return np.asarray(self.epsilon * np.maximum(optima, 0.0) + self.delta + 2 * self.error)

    def sentence(self, refuted_by: float | None = None) -> str | None:
        """What rests on it, in words; ``None`` if exactness is claimed and nothing refutes it."""
        exact = not (self.epsilon or self.delta)
        pair = f"within ({self.epsilon:g}, {self.delta:g}) of the best"
        parts = []
        if refuted_by is not None:
            parts.append(
                f"the best policy found at each weight asked being {'the best' if exact else pair} "
                f"there (the oracle's own answers are not: up to {refuted_by:.3g} worse)"
            )
        elif not exact:
            parts.append(f"the oracle being {pair}")
        elif not self.claimed:
            parts.append("the oracle's answers being the best at their weights (it claims nothing)")
        if self.error:
            parts.append(f"evaluations being within {self.error:g}")
        return " and ".join(parts) or None


class Answers:
    """Weights asked, policies evaluated, and what follows for opt at these weights.

    Args:
        accuracy: what the oracle claims.
        weights: (k, d) from :func:`clean_weights`.
        policies: all m policies evaluated; ``None`` for none yet.
        answers: (k,) which policy answered which weight; ``None`` if that is not
            known: the best one there then stands for the answer.
    """

    def __init__(
        self, accuracy: Accuracy, weights: Array, policies: PolicySet | None, answers: Places | None
    ) -> None:
        self.accuracy = accuracy
        self.weights = weights
        d = weights.shape[1]
        self.rewards: Array = np.zeros((0, d)) if policies is None else policies.rewards
        self.regularizer: Array = np.zeros(0) if policies is None else policies.regularizer
        self.values: Array = np.zeros((0, d)) if policies is None else policies.vertex_values
        self.answers = answers
        self.known = answers is not None
        values = self.values
        self.best: Array = envelope_values(values, weights) if len(values) else np.zeros(0)
        self.own: Array = self.best
        self._size: Array = np.abs(self.best)
        # The best there at most, whichever it is in truth.
        self._top: Array = envelope_values(raised(values), weights) if len(values) else self.best
        if answers is not None:
            self.own = (weights * values[answers]).sum(axis=1)
            self._size = (weights * np.abs(values[answers])).sum(axis=1)
        self._numbers: Values | None = None

    def tell(self, weights: Array, policies: PolicySet) -> None:
        """Take in (n, d) further weights and the n policies that answered them."""
        assert self.answers is not None
        values = policies.vertex_values
        best = np.maximum(self.best, (self.weights @ values.T).max(axis=1))
        everyone = np.concatenate([self.values, values])
        self.best = np.concatenate([best, (weights @ everyone.T).max(axis=1)])
        top = np.maximum(self._top, (self.weights @ raised(values).T).max(axis=1))
        self._top = np.concatenate([top, (weights @ raised(everyone).T).max(axis=1)])
        self.own = np.concatenate([self.own, (weights * values).sum(axis=1)])
        self.answers = np.append(self.answers, len(self.values) + np.arange(len(values)))
        self.weights = np.concatenate([self.weights, weights])
        self.rewards = np.concatenate([self.rewards, policies.rewards])
        self.regularizer = np.concatenate([self.regularizer, policies.regularizer])
        self.values = everyone
        self._size = np.concatenate([self._size, (weights * np.abs(values)).sum(axis=1)])
        self._numbers = None

    @property
    def numbers(self) -> Values:
        """The policies' values with the exact numbers behind them."""
        if self._numbers is None:
            self._numbers = Values.of(self.rewards, self.regularizer)
        return self._numbers

    def exact_bound(self, index: int, reading: int) -> Fraction:
        """o_k in rational arithmetic, in one reading of the numbers."""
        near = self.weights[index]
        row = tuple(map(Fraction, near.tolist()))
        exact = self.numbers.readings[reading]
        heights = self.values @ near
        error = rounding_error(len(near)) * (np.abs(self.values) @ near)
        places = np.flatnonzero(heights + error >= (heights - error).max())
        best = max(dot(row, exact(int(place))) for place in places)
        if self.answers is None or self.refuted:
            return self.accuracy.exact_bound(best)
        return max(best, self.accuracy.exact_bound(dot(row, exact(int(self.answers[index])))))

    @property
    def missing(self) -> list[int]:
        """The objectives whose vertex e_i is not among the weights."""
        return np.flatnonzero(~(self.weights == 1.0).any(axis=0)).tolist()

    @property
    def order(self) -> Places:
        """(k,) the rows of ``weights``, one of each vertex first, then by weights and bounds."""
        # Of several answers at a vertex the one that bounds opt most.
        bounds = self.bounds
        at_vertices = np.where(self.weights == 1.0, bounds[:, np.newaxis], np.inf)
        first = np.argmin(at_vertices, axis=0)
        rest = np.setdiff1d(np.arange(len(self.weights)), first)
        rest = rest[np.lexsort((bounds[rest], *self.weights[rest].T))]
        return np.concatenate([first, rest])

    @property
    def slack(self) -> float | None:
        """max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], or ``None`` if answers are not known."""
        lag = self.best - self.own
        lag = np.where(lag > self._rounding, lag, 0.0)
        return float(lag.max(initial=0.0)) if self.known else None

    @property
    def _rounding(self) -> Array:
        error = 2 * rounding_error(self.weights.shape[1])
        return np.asarray(error * (self._size + np.abs(self.best)))

    @property
    def refuted(self) -> bool:
        """Whether another policy beats an answer by more than the oracle claims."""
        least = self.best - self.accuracy.error - self._rounding
        return bool((self.accuracy.bounds(self.own) < least).any())

    @property
    def bounds(self) -> Array:
        """(k,) opt(w_k) ≤ o_k: from the answers, or, if refuted, from the best found there."""
        if self.refuted or not self.known:
            return self.accuracy.bounds(self._top)
        own = rounding_error(self.weights.shape[1]) * self._size
        return np.asarray(np.maximum(self.accuracy.bounds(self.own + own), self._top))

    @property
    def sentence(self) -> str | None:
        """What the bounds are conditional on."""
        return self.accuracy.sentence(self.slack if self.refuted else None)


def clean_weights(weights: ArrayLike, n_objectives: int) -> Array:
    """Check weights (k, d); entries below 2^−52 are zero, so that a vertex is a vertex."""
    rows = check_weights(weights, n_objectives)
    rows[rows < _DUST] = 0.0
    alone = (rows > 0).sum(axis=1) == 1
    rows[alone] = rows[alone] > 0
    return rows
