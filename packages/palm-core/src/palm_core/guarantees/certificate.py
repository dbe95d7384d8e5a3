"""Certificates: upper bounds on opt from answers and claimed slack, gaps at every weight."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palm_core.errors import InputError
from palm_core.geometry.envelope import envelope_values
from palm_core.geometry.exact import (
    TINY,
    UNIT,
    Values,
    dot,
    raised,
    rounded_up,
    rounding_error,
    tolerance,
)
from palm_core.geometry.linear_programs import inverted
from palm_core.geometry.polyhedron import Hull
from palm_core.guarantees.losses import Pair
from palm_core.guarantees.subdivision import Sandwich, Subdivision
from palm_core.model.policy import PolicySet
from palm_core.model.results import Certificate
from palm_core.validation import check_choice, check_number, check_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

# Smaller weights are zero up to rounding.
_DUST = 2.0**-52


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy of an (ε_o, δ_o)-oracle: J_w(answer) ≥ opt(w) − ε_o·max(opt(w), 0) − δ_o.

    For opt(w) ≥ 0 this is the paper's definition (3.1 and footnote 3). For
    opt(w) < 0 that definition would require more than opt; ε_o is then ignored.

    Args:
        epsilon: ε_o in [0, 1).
        delta: δ_o ≥ 0, in units of reward.
        error: e ≥ 0: every evaluated J_w(π) is within e of the true one.
        claimed: whether the oracle claims it; otherwise it is an assumption.

    Raises:
        InputError: a value outside its interval.
    """

    epsilon: float = 0.0
    delta: float = 0.0
    error: float = 0.0
    claimed: bool = True

    @classmethod
    def of(cls, epsilon: float | None, delta: float | None, error: float) -> Accuracy:
        """An accuracy from claims or ``None``; without both, exact answers are assumed."""
        return cls(
            epsilon=0.0 if epsilon is None else epsilon,
            delta=0.0 if delta is None else delta,
            error=error,
            claimed=(epsilon, delta) != (None, None),
        )

    def __post_init__(self) -> None:
        check_number(self.epsilon, name="oracle_epsilon", least=0.0, most=1.0)
        if self.epsilon == 1:
            raise InputError("oracle_epsilon = 1: must be in [0, 1)")
        check_number(self.delta, name="oracle_delta", least=0.0)
        check_number(self.error, name="evaluation_error", least=0.0)

    def bounds(self, values: Array) -> Array:
        """o: upper bounds on opt, given evaluated ``values`` of answers.

        With x = J + e + δ_o it is x/(1 − ε_o) where x ≥ 0 and x where x < 0. Rounded up.
        """
        top = values + (self.error + self.delta)
        found = top + np.maximum(top, 0.0) * (self.epsilon / (1.0 - self.epsilon))
        if not (self.error or self.delta or self.epsilon):
            return np.asarray(found)
        size = np.abs(values) + self.error + self.delta + np.abs(found)
        return np.asarray(found + 16 * UNIT / (1.0 - self.epsilon) * size)

    def exact_bound(self, value: Fraction) -> Fraction:
        """The bound for one value in rational arithmetic."""
        top = value + tolerance(self.error) + tolerance(self.delta)
        return top / (1 - tolerance(self.epsilon)) if top > 0 else top

    def slack(self, optima: Array) -> Array:
        """The gap that may be left where the oracle was asked and opt is ``optima``."""
        return np.asarray(self.epsilon * np.maximum(optima, 0.0) + self.delta + 2 * self.error)

    def sentence(self, refuted_by: float | None = None) -> str | None:
        """The condition as a sentence; ``None`` if exactness is claimed and not refuted."""
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
    """Answers of an oracle: weights asked, policies evaluated, bounds on opt at these weights.

    Args:
        accuracy: of the oracle.
        weights: (k, d) from :func:`clean_weights`.
        policies: all m policies evaluated; ``None`` for none so far.
        answers: (k,) index of the answer at each weight; ``None`` if unknown: the best
            policy there is then taken as the answer.
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
        # At most the best value there, whichever policy was the answer.
        self._top: Array = envelope_values(raised(values), weights) if len(values) else self.best
        if answers is not None:
            self.own = (weights * values[answers]).sum(axis=1)
            self._size = (weights * np.abs(values[answers])).sum(axis=1)
        self._numbers: Values | None = None

    def tell(self, weights: Array, policies: PolicySet) -> None:
        """Add (n, d) weights and the n policies that answered them."""
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
        """(k,) canonical order of the rows of ``weights``: each vertex first, then sorted."""
        # Of several answers at a vertex the one with the lowest bound on opt.
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
        """The condition of the bounds."""
        return self.accuracy.sentence(self.slack if self.refuted else None)


def clean_weights(weights: ArrayLike, n_objectives: int) -> Array:
    """Validate weights (k, d); entries below 2^−52 become zero, so that vertices are recognised."""
    rows = check_weights(weights, n_objectives)
    rows[rows < _DUST] = 0.0
    alone = (rows > 0).sum(axis=1) == 1
    rows[alone] = rows[alone] > 0
    return rows


Method = Literal["auto", "corners", "subdivision"]
_METHODS = ("auto", "corners", "subdivision")
#: Limit of "auto" on corner weights and pieces of U; beyond it "subdivision" is used.
MOST_VERTICES = 250_000
# Number of corners evaluated in rational arithmetic.
_MOST_EXACT = 1000
# Rewards whose largest is below 2 to this power are scaled, to avoid denormal products.
_LEAST_EXPONENT = -900
# Pieces above a bound by more than this share of the largest have missed it.
_HIDDEN = 1e-9
# Orders and points tried, and how far a point has to be from all ridges, in shares of corners.
_TRIES = 20
_CLEAR = 1e-6
# More than a few roundings.
_UP = 1.0 + 16 * UNIT
#: Linear programs for each of the two gaps in the subdivision.
MOST_PROGRAMS = 1000


def certify(
    policies: PolicySet,
    weights: ArrayLike,
    *,
    portfolio: ArrayLike | None = None,
    oracle_epsilon: float | None = None,
    oracle_delta: float | None = None,
    evaluation_error: float = 0.0,
    answers: ArrayLike | None = None,
    method: Method = "auto",
) -> Certificate:
    """Certify an upper bound on the gap of a portfolio to the best of all policies at every weight.

    With J_k the value of the answer at w_k (without ``answers``: of the best evaluated
    policy there) and x = J_k + δ_o, opt(w_k) ≤ o_k = x/(1 − ε_o) if x ≥ 0, else x. U is
    the lower convex hull of the points (w_k, o_k), L = max over the portfolio, and

        δ = sup_w U(w) − L(w),    ε = sup_w 1 − L(w)/U(w) where L ≥ 0 throughout.

    Both are the least bounds implied by the answers, rounded up. If L < 0 somewhere, opt
    may be ≤ 0 there, and ε = ∞ unless δ = 0.

    If another policy beats one of ``answers`` by more than the oracle claims, the claim
    is refuted: J_k is then that of the best evaluated policy, the certificate is
    conditional on that one being within (ε_o, δ_o), as ``conditional_on`` says.

    Args:
        policies: every policy that was evaluated, m of them.
        weights: (k, d) the weights the oracle was asked for, every vertex of the simplex
            among them; entries below 2^−52 are zero.
        portfolio: indices of the chosen policies; ``None`` means all.
        oracle_epsilon: ε_o of the oracle's claim, in [0, 1); ``None`` for no claim.
        oracle_delta: δ_o of the oracle's claim, in units of reward; ``None`` for no claim.
            Without both the certificate is conditional on exact answers.
        evaluation_error: bound on the error of every evaluated J_w(π), in units of reward.
        answers: (k,) index of the policy that was the answer at each weight.
        method: "corners" evaluates all corner weights of L, "subdivision" divides the
            simplex by branch and bound; "auto" takes corners up to 250 000 of them and
            of pieces of U.

    Raises:
        InputError: a vertex that is missing, by name; indices or numbers out of range.

    Example:
        >>> from palm_core import PolicySet
        >>> policies = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
        >>> certify(policies, [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], oracle_epsilon=0)
        Certificate(epsilon=0.147, delta=0.121, conditional_on=None)
        >>> certify(policies, [[1.0, 0.0], [0.0, 1.0]], portfolio=[0, 1], oracle_epsilon=0)
        Certificate(epsilon=0.5, delta=0.5, conditional_on=None)
    """
    check_choice(method, _METHODS, name="method")
    accuracy = Accuracy.of(oracle_epsilon, oracle_delta, evaluation_error)
    power = _power_of_two(policies, accuracy)
    if power:
        larger = certify(
            PolicySet(
                np.ldexp(policies.rewards, power),
                np.ldexp(policies.regularizer, power),
                objectives=policies.objectives,
            ),
            weights,
            portfolio=portfolio,
            oracle_epsilon=oracle_epsilon,
            oracle_delta=None if oracle_delta is None else math.ldexp(oracle_delta, power),
            evaluation_error=math.ldexp(evaluation_error, power),
            answers=answers,
            method=method,
        )
        slack = larger.measured_slack
        return replace(
            larger,
            delta=rounded_up(Fraction(larger.delta) / 2**power),
            measured_slack=None if slack is None else math.ldexp(slack, -power),
        )
    rows = clean_weights(weights, policies.n_objectives)
    chosen = _indices(portfolio, policies.n_policies, "portfolio")
    given = None if answers is None else _indices(answers, policies.n_policies, "answers")
    if given is not None and len(given) != len(rows):
        raise InputError(f"answers: has {len(given)} entries, must have {len(rows)}, as weights")
    known = Answers(accuracy, rows, policies, given)
    if known.missing:
        name = policies.objectives[known.missing[0]]
        raise InputError(
            f"weights: the vertex with weight 1 on {name!r} is missing; a certificate needs "
            "the answers at all vertices of the simplex"
        )
    most = {"auto": MOST_VERTICES, "corners": math.inf, "subdivision": 0}[method]
    model: Sandwich | Subdivision | None = sandwich(known, chosen, most)
    model = subdivision(known, chosen) if model is None else model
    return certificate(known, chosen, model, MOST_PROGRAMS)


def _power_of_two(policies: PolicySet, accuracy: Accuracy) -> int:
    """The exponent of the power of two by which rewards are scaled to avoid denormal products."""
    sizes = [np.abs(policies.rewards).max(), np.abs(policies.regularizer).max()]
    largest = max(*map(float, sizes), accuracy.delta, accuracy.error)
    exponent = math.frexp(largest)[1]
    scales = policies.exact is None and largest > 0 and exponent < _LEAST_EXPONENT
    return -exponent if scales else 0


def sandwich(known: Answers, chosen: Places, most: float) -> Sandwich | None:
    """The model of all corner weights of ``chosen`` (p,); ``None`` if more than ``most``."""
    d, order = known.weights.shape[1], known.order
    # In canonical order without duplicates, so that the input order does not matter.
    _, first = np.unique(known.values[chosen], axis=0, return_index=True)
    chosen = chosen[first]
    weights, bounds = known.weights[order], known.bounds[order]
    values = known.values[chosen] - known.accuracy.error
    model = Sandwich(bounds[:d], values[0])
    model.asked, model.policies = order.tolist(), chosen.tolist()
    for row, bound in zip(weights[d:], bounds[d:], strict=True):
        if model.n_vertices > most:
            return None
        model.add_bound(row, float(bound))
    for policy in values[1:]:
        if model.n_vertices > most:
            return None
        model.add_policy(policy)
    return model if model.n_vertices <= most else None


def subdivision(known: Answers, chosen: Places) -> Subdivision:
    """The model for too many corner weights: branch and bound."""
    order = known.order
    values = known.values[chosen] - known.accuracy.error
    return Subdivision(known.weights[order], known.bounds[order], values)


def upper_pieces(known: Answers, most: int) -> Array | None:
    """The pieces z (p, d) of U(w) = max_j w·z_j ≥ opt(w), from the answers of an oracle.

    Each piece belongs to d of the weights asked, at which z·w_k ≥ o_k (rounded up), so that it
    is at least the mixture of their bounds throughout the simplex that they span. That these
    simplices cover Δ is verified: a ridge that belongs to an odd number of them lies in a face
    of Δ, so all points that are in no ridge are in as many of them, modulo 2; and one point
    is in an odd number.

    Args:
        known: with all vertices of the simplex.
        most: ``None`` is returned for more pieces than this.

    Returns:
        Array (p, d), or ``None`` where it is too large or rounding leaves a doubt.
    """
    d, order = known.weights.shape[1], known.order
    weights, bounds = known.weights[order], known.bounds[order]
    scale = 2.0 ** np.ceil(np.log2(np.abs(bounds[:d]).max() or 1.0))
    # Rounding may hide a weight from the hull; in another order it is seen.
    for attempt in range(_TRIES):
        further = np.arange(d, len(weights))
        if attempt:
            np.random.default_rng(attempt).shuffle(further)
        hull = Hull(bounds[:d] / scale)
        for place in further:
            hull.add(weights[place], float(bounds[place] / scale))
            if len(hull.places) > most:
                return None
        vertices = hull.vertices[hull.places, :d]
        if (vertices @ weights.T - bounds / scale).max() <= _HIDDEN:
            break
    else:
        return None
    members = hull.members[hull.places]
    # The first places of the hull are the vertices, then the weights as they were added.
    places = np.concatenate([np.arange(d), further])[members]
    asked, tops = weights[places], bounds[places]
    if not _cover_the_simplex(asked):
        return None
    pieces = vertices * scale
    heights = np.einsum("pkd,pd->pk", asked, pieces)
    size = np.einsum("pkd,pd->pk", asked, np.abs(pieces)) + np.abs(tops) + TINY
    short = (tops - heights + rounding_error(d) * size).max(axis=1, keepdims=True)
    return np.asarray(np.nextafter(pieces + np.maximum(short, 0.0), np.inf))


def _cover_the_simplex(corners: Array) -> bool:
    """Whether simplices with corners (p, d, d) cover Δ: see :func:`upper_pieces`."""
    p, d, _ = corners.shape
    ridges: Counter[tuple[bytes, ...]] = Counter()
    inner: dict[tuple[bytes, ...], bool] = {}
    for piece in corners:
        names = [row.tobytes() for row in piece]
        for left_out in range(d):
            ridge = tuple(sorted(names[:left_out] + names[left_out + 1 :]))
            ridges[ridge] += 1
            inner[ridge] = bool((np.delete(piece, left_out, axis=0) > 0).any(axis=0).all())
    if any(count % 2 and inner[ridge] for ridge, count in ridges.items()):
        return False
    random = np.random.default_rng(0)
    for _ in range(_TRIES):
        point = random.dirichlet(np.ones(d))
        try:
            shares = np.linalg.solve(
                np.swapaxes(corners, 1, 2), np.broadcast_to(point[:, np.newaxis], (p, d, 1))
            )[..., 0]
        except np.linalg.LinAlgError:  # a flat simplex: not verified
            return False
        least = shares.min(axis=1)
        if (np.abs(least) > _CLEAR).all():
            return bool((least > 0).sum() % 2)
    return False


def certificate(
    known: Answers, chosen: Places, model: Sandwich | Subdivision, programs: int
) -> Certificate:
    """The certificate of the policies ``chosen`` from ``model``.

    A subdivision solves up to ``programs`` linear programs for each gap.
    """
    if isinstance(model, Sandwich):
        return _from_corners(known, chosen, model)
    return _from_subdivision(known, chosen, model, programs)


def _from_corners(known: Answers, chosen: Places, model: Sandwich) -> Certificate:
    corners, upper, lower = model.corners, model.upper, model.least_lower
    corner = _Corner(known, model)
    delta, worst = _largest(upper - lower, corner.loss)
    below = _below_zero(known, chosen) if delta > 0 else None
    if below is None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shares = np.where(upper > 0, np.minimum((upper - lower) / upper * _UP, 1.0), 0.0)
        epsilon, place = _largest(shares, corner.share)
        weights, note = corners[place], ""
    else:
        epsilon, weights, note = math.inf, below, _BELOW_ZERO
    return Certificate(
        epsilon=epsilon,
        delta=delta,
        epsilon_weights=weights,
        delta_weights=corners[worst],
        method="corners",
        exact=True,
        note=note,
        **_summary(known),
    )


class _Corner:
    """U and L at corner weights, in rational arithmetic."""

    def __init__(self, known: Answers, model: Sandwich) -> None:
        self.known, self.model = known, model
        self._bounds: dict[tuple[int, int], Fraction] = {}

    def loss(self, place: int) -> Fraction | None:
        """Upper bound on U − L; ``None`` where rounding selected the wrong members."""
        found = [self._heights(place, each) for each in range(self._n_readings)]
        return None if None in found else max(max(u - low, Fraction(0)) for u, low in found)

    def share(self, place: int) -> Fraction | None:
        """Upper bound on 1 − L/U, 0 where U ≤ 0 ≤ L; or ``None``."""
        found = [self._heights(place, each) for each in range(self._n_readings)]
        if None in found:
            return None
        return max(max(1 - low / u, Fraction(0)) if u > 0 else Fraction(0) for u, low in found)

    @property
    def _n_readings(self) -> int:
        return len(self.known.numbers.readings)

    def _heights(self, place: int, reading: int) -> Any:
        """U and L at the exact intersection of a corner's members."""
        known, model, d = self.known, self.model, self.known.weights.shape[1]
        members, piece = (numbers.tolist() for numbers in model.meeting(place))
        exact = known.numbers.readings[reading]
        policies = [exact(model.policies[number - d]) for number in members if number >= d]
        first = policies[0]
        rows = [[a - b for a, b in zip(row, first, strict=True)] for row in policies[1:]]
        rows += [[Fraction(int(i == face)) for i in range(d)] for face in members if face < d]
        rows.append([Fraction(1)] * d)
        inverse = inverted(rows)
        if inverse is None:
            return None
        weights = inverse[:, -1]
        asked = [model.asked[number] for number in piece]
        columns = [[Fraction(value) for value in known.weights[row].tolist()] for row in asked]
        inverse = inverted([list(row) for row in zip(*columns, strict=True)])
        if inverse is None or min(weights) < 0:
            return None
        # As in ``mixture_bounds``: λ ≥ 0, and the rest at vertices.
        shares = [
            Fraction(0)
            if share < 0 or any(w == 0 < value for w, value in zip(weights, column, strict=True))
            else share
            for share, column in zip(inverse @ weights, columns, strict=True)
        ]
        point = [dot(shares, row) for row in zip(*columns, strict=True)]
        scale = min([Fraction(1), *(w / x for w, x in zip(weights, point, strict=True) if x > 0)])
        rest = [w - scale * x for w, x in zip(weights, point, strict=True)]
        upper = scale * dot(shares, [self._bound(row, reading) for row in asked])
        if any(rest):
            upper += dot(rest, [self._bound(row, reading) for row in model.asked[:d]])
        return upper, dot(weights, first) - tolerance(known.accuracy.error)

    def _bound(self, row: int, reading: int) -> Fraction:
        key = row, reading
        if key not in self._bounds:
            self._bounds[key] = self.known.exact_bound(row, reading)
        return self._bounds[key]


def _largest(most: Array, exact: Callable[[int], Fraction | None]) -> tuple[float, int]:
    """The maximum, rounded up, of values with upper bounds ``most`` (c,), and its index.

    Exact values are computed by descending bounds until no other can be larger.
    """
    order = np.argsort(-most, kind="stable").tolist()
    reached, place = Fraction(-1), order[0]
    for corner in order[:_MOST_EXACT]:
        if most[corner] <= reached:
            return rounded_up(reached), place
        value = exact(corner)
        value = Fraction(float(most[corner])) if value is None else value
        if value > reached:
            reached, place = value, corner
    left = max((float(most[corner]) for corner in order[_MOST_EXACT:][:1]), default=-1.0)
    return max(rounded_up(reached), left), place


def _from_subdivision(
    known: Answers, chosen: Places, model: Subdivision, programs: int
) -> Certificate:
    additive = model.search(ratio=False, budget=programs)
    below = _below_zero(known, chosen) if additive.bound > 0 else None
    if below is not None:
        epsilon, weights, note, exact = math.inf, below, _BELOW_ZERO, True
    else:
        share = model.search(ratio=True, budget=programs)
        epsilon, weights, note, exact = share.bound, share.weights, "", share.exact
    return Certificate(
        epsilon=epsilon,
        delta=additive.bound,
        epsilon_weights=weights,
        delta_weights=additive.weights,
        method="subdivision",
        exact=exact and additive.exact,
        note=note,
        **_summary(known),
    )


def _below_zero(known: Answers, chosen: Places) -> Array | None:
    """Weights (d,) at which the portfolio may be negative; ``None`` if there are none."""
    numbers = known.numbers
    if known.accuracy.error:
        more = np.nextafter(known.regularizer + known.accuracy.error, np.inf)
        numbers = Values.of(known.rewards, more)
    return Pair(numbers, chosen, chosen[:0]).below_zero()


_BELOW_ZERO = (
    "the portfolio is below 0 at epsilon_weights, where the best may be too: no ε is certain; "
    "δ is, and ε would be of rewards scaled to be at least 0 by limits known beforehand"
)


def _summary(known: Answers) -> dict[str, Any]:
    return {
        "conditional_on": known.sentence,
        "measured_slack": known.slack,
        "refuted": known.refuted,
        "n_weights": len(known.weights),
    }


def _indices(given: ArrayLike | None, m: int, name: str) -> Places:
    if given is None:
        return np.arange(m)
    array = np.atleast_1d(np.asarray(given))
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise InputError(f"{name} = {given!r}: must be indices of policies, at least one")
    outside = (array < 0) | (array >= m)
    if outside.any():
        raise InputError(f"{name}: index {array[outside][0]}: must be in [0, {m - 1}]")
    return array.astype(np.intp)
