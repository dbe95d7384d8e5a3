"""Adaptive grids: ask where the certified gap is largest, until it is below the target.

Optimistic linear support (Roijers et al. 2015) carried over to J_w(π) = w·r(π) − f(π)
and to oracles with a claimed slack: ask at the vertices of the simplex, then at the
corner weight of L with the largest gap U − L or 1 − L/U. Where opt is smooth that
gap is of second order in the spacing: about (C/ε)^((d−1)/2) calls. Termination is
proven in docs/explanation/certificates.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError
from palm_core.guarantees.certificate import (
    MOST_VERTICES,
    Accuracy,
    Answers,
    certificate,
    clean_weights,
    sandwich,
    subdivision,
)
from palm_core.guarantees.subdivision import Sandwich
from palm_core.model.policy import PolicySet
from palm_core.validation import check_count, check_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.guarantees.subdivision import Subdivision
    from palm_core.model.results import Certificate, Stopped

    Array = NDArray[np.float64]


# Tolerance to match an answer to its request after weights were converted to text.
_SAME = 1e-9
# A gap within this of the gap that the oracle's slack allows is attributed to the slack.
_ABOVE_SLACK = 1.1
# A corner on a face of the simplex comes before others, unless its gap is that much
# smaller: bounds on a face bound opt inside, not the other way round.
_FACES_FIRST = 1.6
# Splits aim at gaps of this share of the target, as a safety margin.
_ROOM = 0.9
# Linear programs per weight in the subdivision.
_PROGRAMS = 300


class AdaptiveGrid:
    """Adaptive choice of weights for an oracle, with a certificate after each answer.

    Answers may arrive in any order and for weights that were never requested: all are used.
    The same answers in the same order lead to the same weights.

    Args:
        n_objectives: d.
        target_epsilon: stop at this certified multiplicative gap.
        target_delta: stop at this certified additive gap; not both. With neither, the
            additive gap decreases until the caller stops.
        oracle_epsilon: ε_o of the oracle's claim, in [0, 1); ``None`` for no claim.
        oracle_delta: δ_o of the oracle's claim, in units of reward; ``None`` for no claim.
        evaluation_error: bound on the error of every evaluated J_w(π).

    Raises:
        InputError: both targets, or a number outside its interval.

    Example:
        >>> from palm_core.oracles.tabular import TabularOracle
        >>> oracle = TabularOracle([[[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]]], beta=0.1)
        >>> grid = AdaptiveGrid(2, target_epsilon=0.02)
        >>> while not grid.stopped:
        ...     weights = grid.ask()
        ...     for policy in oracle.solve(weights):
        ...         grid.tell(policy.weights, policy.rewards, policy.regularizer)
        >>> grid.stopped, grid.n_answers, grid.certificate.epsilon <= 0.02
        ('target', 9, True)
    """

    def __init__(
        self,
        n_objectives: int,
        *,
        target_epsilon: float | None = None,
        target_delta: float | None = None,
        oracle_epsilon: float | None = None,
        oracle_delta: float | None = None,
        evaluation_error: float = 0.0,
    ) -> None:
        self.d = check_count(n_objectives, name="n_objectives", least=2)
        if target_epsilon is not None and target_delta is not None:
            raise InputError("target_epsilon and target_delta exclude each other: keep one of them")
        if target_epsilon is not None:
            check_number(target_epsilon, name="target_epsilon", least=0.0, most=1.0)
        if target_delta is not None:
            check_number(target_delta, name="target_delta", least=0.0)
        self.ratio = target_epsilon is not None
        self.target = float(target_epsilon or target_delta or 0.0)
        accuracy = Accuracy.of(oracle_epsilon, oracle_delta, evaluation_error)
        nothing = np.zeros((0, self.d))
        self._known = Answers(accuracy, nothing, None, np.zeros(0, dtype=np.intp))
        self._pending: Array = nothing
        self._given_up: Array = nothing
        self._model: Sandwich | Subdivision | None = None
        self._certificate: Certificate | None = None

    @property
    def n_answers(self) -> int:
        """The number of answers so far."""
        return len(self._known.weights)

    @property
    def pending(self) -> NDArray[np.float64]:
        """(n, d) weights requested and not yet answered."""
        return self._pending.copy()

    @property
    def certificate(self) -> Certificate | None:
        """The certificate of all policies so far; ``None`` until all vertices are answered."""
        if self._certificate is None and self._model is not None:
            everyone = np.arange(len(self._known.values))
            self._certificate = certificate(self._known, everyone, self._model, _PROGRAMS)
        return self._certificate

    @property
    def stopped(self) -> Stopped | None:
        """The stopping reason: "target", "slack", "failures", "negative"; ``None`` while running.

        "target": the target is reached, or only rounding is left at every corner weight.

        "slack": there is no weight whose answer must lower the gap, given the slack that the
        oracle claims; "failures": such weights were given up; "negative": the target is a
        share of the best (``target_epsilon``) where the best is below 0, so that no answer
        can help: use ``target_delta``. ``None`` while there is a weight to ask or a pending
        answer.
        """
        if self._model is None:
            waiting = len(self._pending) or len(self._vertices_left)
            return None if waiting else "failures"
        if self._gap <= self.target:
            return "target"
        if self.ratio and math.isinf(self._gap) and bool((self._known.bounds < 0).any()):
            return "negative"
        if len(self._pending) or self._choose(self._model, self._asked) is not None:
            return None
        if len(self._given_up) and self._choose(self._model, self._known.weights) is not None:
            return "failures"
        return self._nothing_to_ask(self._model)

    def _nothing_to_ask(self, model: Sandwich | Subdivision) -> Stopped:
        """The stopping reason when no weight is left."""
        if math.isinf(self._gap):
            return "negative"
        if isinstance(model, Sandwich):
            gaps = model.shares if self.ratio else model.loss
            # Only rounding is left: no float64 weight is nearer to a corner.
            if (gaps <= self.target).all():
                return "target"
        return "slack"

    @property
    def expected_calls(self) -> int | None:
        """A rough estimate of the remaining calls; ``None`` if there is none.

        From the gap after n calls, assumed to decrease like n^(−2/(d−1)).
        """
        gap = self._gap
        if gap <= self.target:
            return 0
        if self.n_answers <= self.d or self.target == 0 or math.isinf(gap):
            return None
        grown = self.n_answers * float((gap / self.target) ** ((self.d - 1) / 2))
        return max(1, math.ceil(grown - self.n_answers))

    def ask(self, n: int = 1) -> NDArray[np.float64]:
        """Choose up to ``n`` weights to ask next; pending until :meth:`tell` or :meth:`forget`.

        The vertices first, then where the certified gap is largest. For each pending weight
        an answer halfway between L and U is assumed.

        Returns:
            Array (k, d), k ≤ n; empty if the next weight depends on a pending answer,
            or if :attr:`stopped`.

        Raises:
            InputError: ``n`` below 1.
        """
        n = check_count(n, name="n", least=1)
        asked = self._asked
        chosen = np.zeros((0, self.d))
        if self._model is None:
            chosen = self._vertices_left[:n]
        elif self.stopped is None:
            model = self._imagine(self._model, self._pending)
            while len(chosen) < n:
                best = self._choose(model, np.concatenate([asked, chosen]))
                if best is None:
                    break
                chosen = np.concatenate([chosen, best[np.newaxis]])
                if len(chosen) < n:
                    model = self._imagine(model, chosen[-1:])
        self._pending = np.concatenate([self._pending, chosen])
        return chosen

    def tell(
        self, weights: ArrayLike, rewards: ArrayLike, regularizer: ArrayLike | None = None
    ) -> None:
        """Add answers.

        Args:
            weights: (d,) or (k, d) the weights that were asked.
            rewards: (d,) or (k, d) rewards r of the policies returned.
            regularizer: () or (k,) regulariser f of the policies; ``None`` means zero.

        Raises:
            InputError: shapes that do not match, values that are not rewards or weights.
        """
        rows = clean_weights(weights, self.d)
        answered: list[Any] = [rewards, regularizer]
        if np.ndim(weights) == 1:
            answered = [None if item is None else [item] for item in answered]
        policies = PolicySet(*answered)
        if policies.rewards.shape != rows.shape:
            raise InputError(
                f"rewards: must have shape {rows.shape}, one row per weight vector, "
                f"have {policies.rewards.shape}"
            )
        self.forget(rows)
        known, values = self._known, policies.vertex_values
        risen = known.refuted
        known.tell(rows, policies)
        self._certificate = None
        if known.missing:
            return
        # Bounds from the best policy found increase with every better one, and a new answer at a
        # vertex may change its bound: rebuild.
        again = (rows == 1.0).any() or risen or known.refuted
        everyone = np.arange(len(known.values))
        if isinstance(self._model, Sandwich) and not again:
            self._model.asked += range(len(known.weights) - len(rows), len(known.weights))
            self._model.policies += range(len(known.values) - len(values), len(known.values))
            for row, bound, policy in zip(
                rows, known.bounds[-len(rows) :], values - known.accuracy.error, strict=True
            ):
                self._model.add_bound(row, float(bound))
                self._model.add_policy(policy)
            small = self._model.n_vertices <= MOST_VERTICES
            model = self._model if small else None
        else:
            model = sandwich(known, everyone, MOST_VERTICES)
        self._model = subdivision(known, everyone) if model is None else model

    def forget(self, weights: ArrayLike) -> None:
        """Remove ``weights`` (d,) or (k, d) from the pending ones: these calls failed.

        Raises:
            InputError: weights that are not on the simplex.
        """
        for row in clean_weights(weights, self.d):
            near = np.flatnonzero((np.abs(self._pending - row) <= _SAME).all(axis=1))
            self._pending = np.delete(self._pending, near[:1], axis=0)

    def give_up(self, weights: ArrayLike) -> None:
        """Never ask at ``weights`` (d,) or (k, d) again: the oracle fails there.

        Raises:
            InputError: weights that are not on the simplex.
        """
        self.forget(weights)
        self._given_up = np.concatenate([self._given_up, clean_weights(weights, self.d)])

    @property
    def _asked(self) -> Array:
        return np.concatenate([self._known.weights, self._pending, self._given_up])

    @property
    def _vertices_left(self) -> Array:
        return np.asarray(np.eye(self.d)[~(self._asked == 1.0).any(axis=0)])

    @property
    def _gap(self) -> float:
        found = self.certificate
        if found is None:
            return math.inf
        return found.epsilon if self.ratio else found.delta

    def _imagine(self, model: Sandwich | Subdivision, weights: Array) -> Sandwich | Subdivision:
        """A copy of ``model`` with the expected answers at ``weights`` (n, d)."""
        if not len(weights):
            return model
        model = model.copy()
        accuracy = self._known.accuracy
        for row in weights:
            upper, values = model.expected(row)
            bound = float(accuracy.bounds(row @ values + accuracy.error))
            model.add_bound(row, min(bound, upper))
            model.add_policy(values)
        return model

    def _choose(self, model: Sandwich | Subdivision, asked: Array) -> Array | None:
        """The next weights (d,), or ``None`` if no answer is certain to lower the gap."""
        if isinstance(model, Sandwich):
            corners, upper, loss, shares = model.corners, model.upper, model.loss, model.shares
        else:
            corners, upper, loss, shares = model.worst(ratio=self.ratio, budget=_PROGRAMS)
        gaps = shares if self.ratio else loss
        # The gap that the oracle's slack allows at weights already asked.
        slack = _ABOVE_SLACK * self._known.accuracy.slack(upper)
        open_ = (gaps > self.target) & (loss > slack)
        faces = _FACES_FIRST ** (corners == 0).sum(axis=1)
        while open_.any():
            # Among infinite gaps the largest loss.
            score = np.where(open_, gaps * faces, -1.0)
            place = int(np.argmax(np.where(score == score.max(), loss, -1.0)))
            weights = corners[place]
            if isinstance(model, Sandwich) and gaps[place] < math.inf:
                left = slack[place] / loss[place] * gaps[place]
                limit = max(self.target, float(left))
                weights = _beside(weights, model.anchor(place), float(gaps[place]), limit)
            if (np.abs(asked - weights).max(axis=1) > _SAME).all():
                return np.asarray(weights)
            open_[place] = False
        return None


def _beside(corner: Array, anchor: Array, gap: float, limit: float) -> Array:
    """The corner, or a point nearer to an asked weight that reaches gaps of ``limit`` sooner.

    Gaps decrease with the square of the spacing, so the corner is amid some √(gap/limit)
    steps. Bisection takes a power of two of them; where n is odd, (n − 1)/n of the way
    from the asked weight to the corner leaves integral numbers of steps on both sides.
    """
    steps = math.ceil(math.sqrt(gap / (_ROOM * limit))) if limit > 0 else 0
    if steps % 2 == 0 or steps == 1:
        return corner
    return np.asarray(anchor + (corner - anchor) * ((steps - 1) / steps))
