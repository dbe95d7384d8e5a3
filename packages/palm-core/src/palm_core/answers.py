"""What an oracle answered and what it claims: upper bounds of opt at the weights asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_core.envelope import envelope_values
from palm_core.errors import InputError
from palm_core.sandwich import ROUNDING
from palm_core.simplex import check_number, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

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

        With x = J + e + δ_o it is x/(1 − ε_o) where x ≥ 0 and x where x < 0.
        """
        top = values + (self.error + self.delta)
        return np.asarray(top + np.maximum(top, 0.0) * (self.epsilon / (1.0 - self.epsilon)))

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
        values: (m, d) vertex values of all policies evaluated.
        answers: (k,) which policy answered which weight; ``None`` if that is not
            known: the best one there then stands for the answer.
    """

    def __init__(
        self, accuracy: Accuracy, weights: Array, values: Array, answers: Places | None
    ) -> None:
        self.accuracy = accuracy
        self.weights = weights
        self.values = values
        self.known = answers is not None
        self.best: Array = envelope_values(values, weights) if len(values) else np.zeros(0)
        self.own: Array = self.best
        self._size: Array = np.abs(self.best)
        if answers is not None:
            self.own = (weights * values[answers]).sum(axis=1)
            self._size = (weights * np.abs(values[answers])).sum(axis=1)

    def tell(self, weights: Array, values: Array) -> None:
        """Take in (n, d) further weights and the policies (n, d) that answered them."""
        best = np.maximum(self.best, (self.weights @ values.T).max(axis=1))
        everyone = np.concatenate([self.values, values])
        self.best = np.concatenate([best, (weights @ everyone.T).max(axis=1)])
        self.own = np.concatenate([self.own, (weights * values).sum(axis=1)])
        self.weights = np.concatenate([self.weights, weights])
        self.values = everyone
        self._size = np.concatenate([self._size, (weights * np.abs(values)).sum(axis=1)])

    @property
    def missing(self) -> list[int]:
        """The objectives whose vertex e_i is not among the weights."""
        return np.flatnonzero(~(self.weights == 1.0).any(axis=0)).tolist()

    @property
    def order(self) -> Places:
        """(k,) the rows of ``weights``, one of each vertex e_1 … e_d first."""
        first = np.argmax(self.weights == 1.0, axis=0)
        rest = np.setdiff1d(np.arange(len(self.weights)), first)
        return np.concatenate([first, rest])

    @property
    def slack(self) -> float | None:
        """max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], or ``None`` if answers are not known."""
        lag = self.best - self.own
        lag = np.where(lag > self._rounding, lag, 0.0)
        return float(lag.max(initial=0.0)) if self.known else None

    @property
    def _rounding(self) -> Array:
        return np.asarray(ROUNDING * (self._size + np.abs(self.best)))

    @property
    def refuted(self) -> bool:
        """Whether another policy beats an answer by more than the oracle claims."""
        least = self.best - self.accuracy.error - self._rounding
        return bool((self.accuracy.bounds(self.own) < least).any())

    @property
    def bounds(self) -> Array:
        """(k,) opt(w_k) ≤ o_k: from the answers, or, if refuted, from the best found there."""
        return self.accuracy.bounds(self.best if self.refuted else self.own)

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
