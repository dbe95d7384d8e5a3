"""Exact gaps of a portfolio against all candidates: suprema over the simplex.

The paper (section 4, appendix B.2) estimates ε(P) and δ(P) at sampled weights. For
finitely many candidates they are exact: candidate by candidate they are the optima of
linear programs (:mod:`palm_core.geometry.linear_programs`). On a cell of the envelope L the
functions opt − L and (1−ε)·opt − L are convex, hence largest at a corner weight; mixtures of
the policies that meet there bound each candidate, so that few programs are solved. Proofs in
docs/explanation/guarantees.md.
"""

from __future__ import annotations

import math
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from palm_core.geometry.exact import count, floats, nearest, rounded_up, tolerance
from palm_core.guarantees.losses import Pair, joined
from palm_core.model.results import Gaps
from palm_core.validation import check_choice, check_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from palm_core.geometry.exact import Row
    from palm_core.geometry.linear_programs import Program, Solution
    from palm_core.model.policy import PolicySet

    Array = NDArray[np.float64]

Method = Literal["auto", "corners", "programs"]
_METHODS = ("auto", "corners", "programs")
# Number of rivals solved exactly; further ones equal to 1e-12 are bounded.
_MOST_SOLVED, _CLOSE = 8, 1e-12


def gaps(
    portfolio: PolicySet | ArrayLike,
    candidates: PolicySet | ArrayLike,
    *,
    method: Method = "auto",
) -> Gaps:
    """The exact multiplicative and additive gap of a portfolio over the whole simplex.

    With L(w) = max_{π∈P} J_w(π) and opt(w) = max_{π∈P∪C} J_w(π), a portfolio member
    being a candidate too,

        δ = sup_w opt(w) − L(w),
        ε = inf{ε ≥ 0 : L(w) ≥ opt(w) − ε·max(opt(w), 0) for every w in Δ_d},

    that is ε = sup_w 1 − L/opt where opt > 0 throughout. Both are attained. Where
    opt(w) ≤ 0 a multiplicative gap means nothing (paper, Definition 3.1): such a w
    costs nothing if L(w) = opt(w) (this includes 0/0), else ε = ∞. Where
    L(w) < 0 < opt(w), ε > 1. In both cases ``note`` says so. δ needs no sign.

    Both are exact for the numbers given (:mod:`palm_core.geometry.exact`), rounded up to the next
    float64 number; where more than a few candidates attain them, up to 1e-14 of the
    operands. Scaling all rewards by a power of two scales δ and leaves ε.

    Args:
        portfolio: P, or its rewards (p, d).
        candidates: C, or their rewards (c, d); need not contain P.
        method: first bounds of candidates: "corners", the corner weights of L, or
            "programs", a linear program per relevant candidate; "auto" takes corners where
            they are few. The result is the same.

    Raises:
        InputError: different numbers of objectives, or an unknown method.
        WorkError: a solver failed.

    Example:
        >>> found = gaps([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]])
        >>> round(found.epsilon, 6), round(found.delta, 6), found.delta_weights
        (0.333333, 0.25, array([0.5, 0.5]))
    """
    pair = Pair.of(portfolio, candidates)
    return gaps_of(pair, method=method)


def gaps_of(pair: Pair, *, method: Method = "auto") -> Gaps:
    """:func:`gaps` of a pair."""
    check_choice(method, _METHODS, name="method")
    additive = _largest(pair, method)
    ratio = _largest_share(pair, method)
    epsilon, note = ratio.value, ""
    if epsilon > 1:
        note = (
            "opt ≤ 0 at epsilon_weights, and the portfolio is below it: no ε is enough"
            if math.isinf(epsilon)
            else "opt > 0 at epsilon_weights, and the portfolio is below 0"
        )
    return Gaps(
        epsilon=epsilon,
        delta=additive.value,
        epsilon_weights=ratio.weights,
        delta_weights=additive.weights,
        note=note,
    )


def gaps_without(
    portfolio: PolicySet | ArrayLike,
    candidates: PolicySet | ArrayLike,
    *,
    time_limit: float | None = None,
) -> tuple[Gaps | None, ...]:
    """The gaps of the portfolio without each of its policies: the contribution of each.

    Args:
        portfolio: P, or its rewards (p, d).
        candidates: C, or their rewards (c, d).
        time_limit: seconds after which no further policy is started; ``None`` for all.

    Returns:
        One per policy: the gaps of the others against ``candidates`` and the
        whole portfolio; ``None`` if there are no others, or after the time limit.

    Raises:
        InputError, WorkError: as :func:`gaps`.
    """
    sets = Pair.checked(portfolio, candidates)
    p = len(sets[0])
    if p == 1:
        return (None,)
    values, everyone = joined(sets), np.arange(p + len(sets[1]))
    end = math.inf if time_limit is None else time.perf_counter() + time_limit
    return tuple(
        gaps_of(Pair(values, np.delete(everyone[:p], place), everyone))
        if time.perf_counter() < end
        else None
        for place in range(p)
    )


def gap_frontier(
    portfolio: PolicySet | ArrayLike,
    candidates: PolicySet | ArrayLike,
    epsilons: ArrayLike,
    *,
    method: Method = "auto",
) -> NDArray[np.float64]:
    """δ(ε): the least additive term that makes each ε a guarantee at every weight.

    δ(ε) = sup_w [opt(w) − ε·max(opt(w), 0) − L(w)]⁺, falling in ε from the δ of
    :func:`gaps`; it is 0 from its ε on.

    Args:
        portfolio: P, or its rewards (p, d).
        candidates: C, or their rewards (c, d).
        epsilons: (n,) values in [0, 1].
        method: as for :func:`gaps`.

    Returns:
        Array (n,), rounded up as :func:`gaps`.

    Raises:
        InputError: an ε outside [0, 1]; otherwise as :func:`gaps`.

    Example:
        >>> gap_frontier([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]], [0.0, 0.2, 0.4])
        array([0.25, 0.1 , 0.  ])
    """
    shares = [
        check_number(float(value), name="epsilons", least=0.0, most=1.0)
        for value in np.atleast_1d(np.asarray(epsilons, dtype=np.float64))
    ]
    pair = Pair.of(portfolio, candidates)
    check_choice(method, _METHODS, name="method")
    return np.array([_largest(pair, method, share).value for share in shares])


def violations(
    portfolio: PolicySet | ArrayLike,
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float = 0.0,
    delta: float = 0.0,
    method: Method = "auto",
) -> NDArray[np.float64]:
    """Weights at which the portfolio is not within (ε, δ) of all candidates.

    The weights among the corner weights of L, or one maximiser per candidate,
    at which L(w) < opt(w) − ε·max(opt(w), 0) − δ in exact arithmetic.

    Returns:
        Array (v, d), worst first; empty if and only if the portfolio is
        within (ε, δ) at every weight. A tolerance that is met exactly counts as met.

    Raises:
        InputError: ε outside [0, 1] or δ < 0; otherwise as :func:`gaps`.

    Example:
        >>> violations([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]], epsilon=0.1)
        array([[0.5, 0.5]])
    """
    epsilon = check_number(epsilon, name="epsilon", least=0.0, most=1.0)
    delta = check_number(delta, name="delta", least=0.0)
    check_choice(method, _METHODS, name="method")
    found = find_violations(Pair.of(portfolio, candidates), epsilon, delta, method=method)
    return np.concatenate([found.certain, *(floats(row)[np.newaxis] for row in found.exact)])


class Violations(NamedTuple):
    """Violated weights: (v, d) where float64 is certain, rationals elsewhere."""

    certain: Array
    exact: list[Row]

    def __len__(self) -> int:
        return len(self.certain) + len(self.exact)


def find_violations(
    pair: Pair,
    epsilon: float,
    delta: float,
    *,
    method: Method = "auto",
    deadline: float = math.inf,
) -> Violations:
    """:func:`violations` of a pair; empty only if there are none.

    Raises:
        TimeoutError: ``deadline`` (as ``time.perf_counter``) passed before it was decided.
    """
    d, n_rivals = pair.n_objectives, len(pair.rivals.floats)
    nothing = np.zeros((0, d))
    if not n_rivals:
        return Violations(nothing, [])
    corners = None if method == "programs" else pair.corners
    at = np.eye(d) if corners is None else corners[0]
    if corners is not None:
        excess = pair.excess(at, epsilon, delta)
        count(len(at))
        order = np.argsort(-excess, kind="stable")
        certain = _distinct(at[order[: int((excess > 0).sum())]])
        if len(certain):
            return Violations(certain, [])
    allowed = (tolerance(epsilon), tolerance(delta))
    bounds = _first_bounds(pair, 1.0 - epsilon, corners is not None)
    met = math.nextafter(float(allowed[1]), -1.0) if delta else 0.0
    violated: list[Array] = []
    exact: list[Row] = []
    count(n_rivals)
    while bounds[place := int(np.argmax(bounds))] > met:
        if time.perf_counter() > deadline:
            raise TimeoutError
        program = pair.program(place, shared=epsilon > 0)
        near = program.near(1.0 - epsilon)
        bounds[place] = -np.inf
        if near is not None:
            mixture = pair.mixture(near[0])
            if pair.excess(near[1][np.newaxis], epsilon, delta)[0] > 0:
                violated.append(near[1])
                continue
            tight = pair.bounds(mixture, factor=1.0 - epsilon)
            if epsilon:
                tight = np.minimum(tight, pair.bounds(mixture, factor=1.0))
            np.minimum(bounds, tight, out=bounds)
            if tight[place] <= met:
                continue
        count(0, 1)
        weights = _beyond(program, pair, *allowed)
        if weights is not None:
            exact.append(weights)
    return Violations(_distinct(np.array(violated)) if violated else nothing, exact)


def _beyond(program: Program, pair: Pair, epsilon: Fraction, delta: Fraction) -> Row | None:
    """Weights at which a candidate is beyond the tolerance, in every reading; or ``None``."""
    weights = None
    for reading in range(pair.n_readings):
        found = program.loss(reading, epsilon)
        if found.value is not None and found.value <= delta:
            return None
        weights = found.weights
    return weights


class Largest(NamedTuple):
    """A supremum, rounded up, and weights (d,) that attain it."""

    value: float
    weights: Array


def _largest(pair: Pair, method: Method, epsilon: float = 0.0) -> Largest:
    """sup_w [opt − ε·max(opt, 0) − L]⁺."""
    corners = method != "programs" and pair.corners is not None
    bounds = _first_bounds(pair, 1.0 - epsilon, corners)
    share = tolerance(epsilon)

    def near(program: Program) -> Array | None:
        found = program.near(1.0 - epsilon)
        if found is None:
            return None
        mixture = pair.mixture(found[0])
        tight = pair.bounds(mixture, factor=1.0 - epsilon)
        return np.minimum(tight, pair.bounds(mixture, factor=1.0)) if epsilon else tight

    def solve(place: int, program: Program, reading: int) -> Solution:
        return program.loss(reading, share, pair.basis(place, 1.0 - epsilon, program))

    return _search(pair, bounds, near, solve, shared=epsilon > 0, tight=corners)


def _largest_share(pair: Pair, method: Method) -> Largest:
    """The least ε ≥ 0 with L ≥ opt − ε·max(opt, 0) everywhere; ∞ if there is none."""
    if not len(pair.rivals.floats):
        return Largest(0.0, np.eye(pair.n_objectives)[0])
    corners = method != "programs" and pair.corners is not None
    if pair.has_no_negative():
        bounds = np.full(len(pair.rivals.floats), 1.0)
        if corners:
            found = pair.at_corners(None)
            assert found is not None
            bounds = pair.share_bounds(found)
        else:
            for single in pair.singles():
                np.minimum(bounds, pair.share_bounds(single), out=bounds)
    else:
        # L < 0 somewhere. Where opt > 0 wherever that is, ε − 1 is the largest −L/opt.
        below = [pair.program(None, shared=True).share(each) for each in range(pair.n_readings)]
        worst = max(below, key=lambda found: math.inf if found.value is None else found.value)
        if worst.value is not None:
            return Largest(rounded_up(1 + worst.value), floats(worst.weights))
        if pair.loses(worst.weights):
            return Largest(math.inf, floats(worst.weights))
        # There opt = L ≤ 0: each candidate whose loss is not certainly zero is decided
        # by a separate program.
        bounds = np.where(_first_bounds(pair, 1.0, corners) > 0, np.inf, 0.0)
        corners = True

    def near(program: Program) -> Array | None:
        found = program.near(None)
        return None if found is None else pair.share_bounds(pair.mixture(found[0]))

    def solve(place: int, program: Program, reading: int) -> Solution:
        return program.share(reading, pair.basis(place, None, program))

    return _search(pair, bounds, near, solve, shared=True, tight=corners)


def _first_bounds(pair: Pair, factor: float, corners: bool) -> Array:
    """(c,) upper bounds on the loss to each rival, without linear programs."""
    bounds = np.full(len(pair.rivals.floats), np.inf)
    if corners:
        for each in {factor, 1.0}:
            found = pair.at_corners(each)
            assert found is not None
            np.minimum(bounds, pair.bounds(found, factor=each), out=bounds)
        return bounds
    for single in pair.singles():
        for each in {factor, 1.0}:
            np.minimum(bounds, pair.bounds(single, factor=each), out=bounds)
    return bounds


def _search(
    pair: Pair,
    bounds: Array,
    near: Callable[[Program], Array | None],
    solve: Callable[[int, Program, int], Solution],
    *,
    shared: bool,
    tight: bool,
) -> Largest:
    """The maximum over the rivals, by descending bounds.

    Args:
        pair: a portfolio and its rivals.
        bounds: (c,) upper bounds, lowered in place.
        near: upper bounds (c,) from a float64 mixture for one rival.
        solve: the exact solution for one rival in one reading.
        shared: whether the programs contain ε.
        tight: whether the bounds already come from such mixtures.
    """
    d, n_rivals = pair.n_objectives, len(bounds)
    reached, attained = Fraction(0), np.eye(d)[0]
    tried = np.full(n_rivals, tight)
    solved = 0
    # Terminates: each rival is solved at most once in float64 and at most once exactly.
    while n_rivals:
        place = int(np.argmax(bounds))
        bound = float(bounds[place])
        if bound <= reached:
            break
        if solved >= _MOST_SOLVED and bound <= nearest(reached) * (1 + _CLOSE):
            return Largest(bound, attained)
        program = pair.program(place, shared=shared)
        if not tried[place]:
            tried[place] = True
            lower = near(program)
            if lower is not None:
                np.minimum(bounds, lower, out=bounds)
            continue
        for reading in range(pair.n_readings):
            found = solve(place, program, reading)
            if found.value is None:
                return Largest(math.inf, floats(found.weights))
            if found.value > reached:
                reached, attained = found.value, floats(found.weights)
        solved += 1
        bounds[place] = -np.inf
    return Largest(rounded_up(reached), attained)


def _distinct(weights: Array) -> Array:
    """Rows (v, d) without duplicates to 12 digits: a corner shared by several cells."""
    _, first = np.unique(np.round(weights, 12), axis=0, return_index=True)
    return weights[np.sort(first)]
