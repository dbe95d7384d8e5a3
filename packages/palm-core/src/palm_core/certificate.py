"""A guarantee for every weight against every policy, from the oracle calls made.

opt(w) = sup_π J_w(π) is convex. With opt(w_k) ≤ o_k at the weights asked, the vertices
of the simplex among them, opt lies below the lower convex hull U of the points
(w_k, o_k); the portfolio has L(w) = max_π J_w(π). Hence sup_w U − L bounds what the
portfolio loses to the best policy of the whole class, wherever that may be. No bound
on rewards, no sign and no smoothness is assumed; only what the oracle claims. Proofs
in docs/explanation/certificates.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palm_core._exact import UNIT, Values, dot, rounded_up, tolerance
from palm_core._pair import Pair
from palm_core._programs import inverted
from palm_core.answers import Accuracy, Answers, clean_weights
from palm_core.errors import InputError
from palm_core.policies import PolicySet
from palm_core.sandwich import Sandwich
from palm_core.subdivision import Subdivision
from palm_core.text import at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

Method = Literal["auto", "corners", "subdivision"]
_METHODS = ("auto", "corners", "subdivision")
#: Corner weights and pieces of U that "auto" holds at once; with more, it divides simplices.
MOST_VERTICES = 250_000
# Corners that are looked at in rational arithmetic.
_MOST_EXACT = 1000
# Rewards whose largest is below 2 to that power are scaled: their products are denormal.
_LEAST_EXPONENT = -900
# More than a few roundings.
_UP = 1.0 + 16 * UNIT
#: Linear programs for each of the two gaps where simplices are divided.
MOST_PROGRAMS = 1000


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate:
    """L(w) ≥ opt(w) − ε·max(opt(w), 0) and L(w) ≥ opt(w) − δ at every w of the simplex.

    opt is the supremum over the whole policy class, not over evaluated policies.

    Args:
        epsilon: ε, the certified multiplicative gap; ∞ where ``note`` says why.
        delta: δ, the certified additive gap, in units of reward.
        epsilon_weights: (d,) where the multiplicative gap may be largest.
        delta_weights: (d,) where the additive gap may be largest.
        conditional_on: what it rests on beyond the evaluated rewards, in words; ``None``
            for an oracle that claims to be exact and that no answer speaks against.
        measured_slack: max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], how far an answer is
            behind another policy at its own weight; ``None`` if it is not known which
            policy answered which weight.
        refuted: the measured slack is more than the oracle claims, or, where it claims
            nothing, more than 0.
        n_weights: how many weights the oracle was asked for.
        method: "corners" or "subdivision".
        exact: no smaller pair follows from these answers, but for rounding, which beside much
            larger numbers may be more than last bits; otherwise a budget was spent.
        note: why ``epsilon`` is infinite, else empty.
    """

    epsilon: float
    delta: float
    epsilon_weights: NDArray[np.float64]
    delta_weights: NDArray[np.float64]
    conditional_on: str | None = None
    measured_slack: float | None = None
    refuted: bool = False
    n_weights: int
    method: str
    exact: bool
    note: str = ""

    def __repr__(self) -> str:
        return (
            f"Certificate(epsilon={at_most(self.epsilon)}, delta={at_most(self.delta)}, "
            f"conditional_on={self.conditional_on!r})"
        )

    def __str__(self) -> str:
        share = "ε unbounded" if self.note else f"ε {at_most(self.epsilon, percent=True)} %"
        line = f"certified {share}  δ {at_most(self.delta)}"
        if not self.note and self.epsilon >= 1:
            line += "  (100 % promises nothing: only δ does)"
        if self.conditional_on is not None:
            line += f"  conditional on {self.conditional_on}"
            if self.measured_slack is not None and not self.refuted:
                line += f" (measured so far: {at_most(self.measured_slack)})"
        return line + (f"  ({self.note})" if self.note else "")


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
    """Bound the gap of a portfolio to the best policy there is, at every weight.

    With J_k the value of the answer at w_k (without ``answers``: of the best evaluated
    policy there) and x = J_k + δ_o, opt(w_k) ≤ o_k = x/(1 − ε_o) if x ≥ 0, else x. U is
    the lower convex hull of the points (w_k, o_k), L = max over the portfolio, and

        δ = sup_w U(w) − L(w),    ε = sup_w 1 − L(w)/U(w) where L ≥ 0 throughout.

    Both are the least that follow from the answers, rounded up. If L < 0 somewhere, opt
    may be ≤ 0 there, and ε = ∞ unless δ = 0.

    If another policy beats one of ``answers`` by more than the oracle claims, the claim
    is refuted: J_k is then that of the best evaluated policy, the certificate is
    conditional on that one being within (ε_o, δ_o), and says so.

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
        method: "corners" looks at all corner weights of L, "subdivision" divides the
            simplex by branch and bound; "auto" takes corners while there are at most
            250 000 of them and of pieces of U.

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
    if method not in _METHODS:
        raise InputError(f"method = {method!r}: must be one of {', '.join(_METHODS)}")
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
        raise InputError(f"answers: {len(given)} given for {len(rows)} weights")
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
    """What to scale rewards by whose products would be rounded as denormal numbers are."""
    sizes = [np.abs(policies.rewards).max(), np.abs(policies.regularizer).max()]
    largest = max(*map(float, sizes), accuracy.delta, accuracy.error)
    exponent = math.frexp(largest)[1]
    scales = policies.exact is None and largest > 0 and exponent < _LEAST_EXPONENT
    return -exponent if scales else 0


def sandwich(known: Answers, chosen: Places, most: float) -> Sandwich | None:
    """All corner weights of the policies ``chosen`` (p,); ``None`` if more than ``most``."""
    d, order = known.weights.shape[1], known.order
    # In an order of their own, equal ones once, so that no other order can matter.
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
    """The model for corner weights that are too many."""
    order = known.order
    values = known.values[chosen] - known.accuracy.error
    return Subdivision(known.weights[order], known.bounds[order], values)


def certificate(
    known: Answers, chosen: Places, model: Sandwich | Subdivision, programs: int
) -> Certificate:
    """What ``model`` proves of the policies ``chosen``.

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
        """U − L, at most; ``None`` where rounding has led astray."""
        found = [self._heights(place, each) for each in range(self._n_readings)]
        return None if None in found else max(max(u - low, Fraction(0)) for u, low in found)

    def share(self, place: int) -> Fraction | None:
        """1 − L/U, at most, 0 where U ≤ 0 ≤ L; or ``None``."""
        found = [self._heights(place, each) for each in range(self._n_readings)]
        if None in found:
            return None
        return max(max(1 - low / u, Fraction(0)) if u > 0 else Fraction(0) for u, low in found)

    @property
    def _n_readings(self) -> int:
        return len(self.known.numbers.readings)

    def _heights(self, place: int, reading: int) -> Any:
        """U and L where the members of a corner meet in truth."""
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
        # As in :func:`palm_core.sandwich.mixture_bounds`: λ ≥ 0, and the rest at vertices.
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
    """The largest of values that are at most ``most`` (c,), rounded up, and its place.

    Exact from the highest on until what is left cannot be larger.
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
    """Weights (d,) at which the portfolio may be below zero; ``None`` if it is nowhere."""
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
        raise InputError(f"{name}: index {array[outside][0]} of {m} policies, counted from 0")
    return array.astype(np.intp)
