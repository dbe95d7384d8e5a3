"""What a portfolio loses against all candidates: exact suprema over the simplex.

The paper (section 4, appendix B.2) estimates ε(P) and δ(P) at sampled weights. For
finitely many candidates they are exact: on a cell of the portfolio's envelope L
the functions opt − L and (1−ε)·opt − L are convex, hence largest at a corner weight;
or, candidate by candidate, they are the optima of linear programs. Proofs in
docs/explanation/guarantees.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from palm_core import _programs, _searches
from palm_core._pair import TOLERANCE, Pair
from palm_core.envelope import corner_weights, vertex_values
from palm_core.errors import InputError, WorkError
from palm_core.simplex import check_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import PolicySet

    Array = NDArray[np.float64]

Method = Literal["auto", "corners", "programs"]
_METHODS = ("auto", "corners", "programs")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    """Exact gaps of a portfolio, and the weights that attain them.

    Args:
        epsilon: least ε ≥ 0 with L(w) ≥ opt(w) − ε·max(opt(w), 0) for all w.
        delta: sup_w opt(w) − L(w), in units of reward.
        epsilon_weights: (d,) a weight vector at which no smaller ε would do.
        delta_weights: (d,) a weight vector at which opt − L = delta.
        note: why ``epsilon`` is above 1, else empty.
    """

    epsilon: float
    delta: float
    epsilon_weights: NDArray[np.float64]
    delta_weights: NDArray[np.float64]
    note: str = ""


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

    Nothing is rounded: scaling all rewards scales δ and leaves ε. A loss below
    2^−48 of the rewards' size at w is rounding and counts as none.

    Args:
        portfolio: P, or its rewards (p, d).
        candidates: C, or their rewards (c, d); need not contain P.
        method: "corners" enumerates the corner weights of L, "programs" solves a
            linear program per candidate that may matter (exact to 1e-9 of the
            rewards' scale, proven by duality); "auto" takes corners where they
            are few. d = 2 is always done by sorting, in O(n log n).

    Raises:
        InputError: different numbers of objectives, or an unknown method.
        WorkError: a solver failed.

    Example:
        >>> found = gaps([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]])
        >>> round(found.epsilon, 6), round(found.delta, 6), found.delta_weights
        (0.333333, 0.25, array([0.5, 0.5]))
    """
    pair = Pair.of(portfolio, candidates)
    check_method(method)
    additive, ratio = _suprema(pair, method)
    delta = pair.at(additive[np.newaxis])[2][0]
    epsilon = np.inf if ratio.infinite else _ratios(pair, ratio.weights[np.newaxis])[0]
    note = ""
    if epsilon > 1:
        note = (
            "opt ≤ 0 at epsilon_weights, and the portfolio is below it: no ε is enough"
            if np.isinf(epsilon)
            else "opt > 0 at epsilon_weights, and the portfolio is below 0"
        )
    return Gaps(
        epsilon=float(epsilon),
        delta=float(delta),
        epsilon_weights=ratio.weights,
        delta_weights=additive,
        note=note,
    )


def gaps_without(
    portfolio: PolicySet | ArrayLike, candidates: PolicySet | ArrayLike
) -> tuple[Gaps | None, ...]:
    """The gaps that remain without each policy of the portfolio: what each one adds.

    Returns:
        One per policy: the gaps of the others against ``candidates`` and the
        whole portfolio; ``None`` if there are no others.

    Raises:
        InputError, WorkError: as :func:`gaps`.
    """
    values = vertex_values(portfolio)
    everyone = np.concatenate([vertex_values(candidates), values])
    if len(values) == 1:
        return (None,)
    return tuple(gaps(np.delete(values, place, axis=0), everyone) for place in range(len(values)))


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
        Array (n,).

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
    check_method(method)
    weights = _decisive_weights(pair, shares, method)
    if weights is not None:
        opt, _, loss = pair.at(weights)
        return np.array([(loss - share * np.maximum(opt, 0)).max(initial=0.0) for share in shares])
    return np.array([_searches.largest_loss(pair, share)[0] for share in shares])


def violations(
    portfolio: PolicySet | ArrayLike,
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float = 0.0,
    delta: float = 0.0,
    method: Method = "auto",
) -> NDArray[np.float64]:
    """Weights at which the portfolio is not within (ε, δ) of all candidates.

    Those decisive weights (corner weights of L, or one maximiser per candidate)
    at which L(w) < opt(w) − ε·max(opt(w), 0) − δ by more than the tolerance: 1e-12
    of the objectives' spread at w, or where linear programs are needed (many corners,
    or d ≥ 3 and ε > 0 where opt changes its sign) 1e-9 of the largest spread.

    Returns:
        Array (v, d), the worst first; empty if and only if the portfolio is
        within (ε, δ) at every weight, up to that tolerance.

    Raises:
        InputError: ε outside [0, 1] or δ < 0; otherwise as :func:`gaps`.

    Example:
        >>> violations([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]], epsilon=0.1)
        array([[0.5, 0.5]])
    """
    epsilon = check_number(epsilon, name="epsilon", least=0.0, most=1.0)
    delta = check_number(delta, name="delta", least=0.0)
    check_method(method)
    pair = Pair.of(portfolio, candidates)
    return find_violations(pair, epsilon, delta, method=method)


def find_violations(
    pair: Pair,
    epsilon: float,
    delta: float,
    *,
    method: Method = "auto",
    relative: float = TOLERANCE,
) -> NDArray[np.float64]:
    """:func:`violations` of a pair by more than ``relative``, or what programs can tell."""
    weights = _decisive_weights(pair, [epsilon], method)
    if weights is None:
        weights = _searches.all_losses(pair, epsilon, delta)
        relative = max(relative, _programs.AGREEMENT)
    opt, _, loss = pair.at(weights)
    excess = loss - epsilon * np.maximum(opt, 0) - delta - pair.slack(weights, relative)
    order = np.argsort(-excess, kind="stable")
    weights = weights[order[: int((excess > 0).sum())]]
    # Weights that agree to 12 digits are the same corner, met from several cells.
    _, first = np.unique(np.round(weights, 12), axis=0, return_index=True)
    return weights[np.sort(first)]


def check_method(method: str) -> None:
    """Refuse an unknown method."""
    if method not in _METHODS:
        raise InputError(f"method = {method!r}: must be one of {', '.join(_METHODS)}")


def uses_corners(pair: Pair, method: Method) -> bool:
    """Whether to enumerate corners; in doubt try, programs are as exact."""
    if pair.n_objectives == 2:
        return True
    if method != "auto":
        return method == "corners"
    if not pair.few_corners():
        return False
    try:
        return len(pair.corners) > 0
    except WorkError:
        return False


def _ratios(pair: Pair, weights: Array) -> Array:
    """The least ε ≥ 0 that is enough at each of ``weights``."""
    opt, _, loss = pair.at(weights)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(loss > 0, np.where(opt > 0, loss / opt, np.inf), 0.0)


def _suprema(pair: Pair, method: Method) -> tuple[Array, _searches.Attained]:
    """Weights that attain δ, and those that attain ε."""
    if uses_corners(pair, method):
        try:
            return _by_corners(pair)
        except WorkError:
            if method == "corners":
                raise
    return _searches.largest_loss(pair)[1], _searches.largest_ratio(pair)


def _by_corners(pair: Pair) -> tuple[Array, _searches.Attained]:
    corners = pair.corners
    _, best, loss = pair.at(corners)
    additive = corners[np.argmax(loss)]
    if pair.n_objectives == 2:
        ends = pair.segment_ends()
        return additive, _searches.Attained(ends[np.argmax(_ratios(pair, ends))])
    if (best < 0).any():
        # A zero policy beside the portfolio: together these are the corners of the
        # cells where L ≥ 0, and of those where L ≤ 0.
        zero = np.zeros((1, pair.n_objectives))
        corners = np.concatenate([corners, corner_weights(np.concatenate([pair.portfolio, zero]))])
        _, best, loss = pair.at(corners)
        loss[best > pair.slack(corners, 0.0)] = 0.0
        if loss.any():
            negative = _searches.below_zero(pair, corners[np.argmax(loss)])
            if negative is not None:
                return additive, negative
    return additive, _searches.Attained(corners[np.argmax(_searches.shares(pair, corners))])


def _decisive_weights(pair: Pair, epsilons: list[float], method: Method) -> Array | None:
    """Weights that decide every (ε, δ), or ``None`` where only programs do.

    opt − ε·max(opt, 0) is convex where opt keeps its sign; where it changes sign
    the function has a concave kink, which for d = 2 is where opt = 0.
    """
    if pair.n_objectives == 2:
        return np.concatenate([pair.corners, pair.opt_zeros()])
    if uses_corners(pair, method) and (max(epsilons) == 0 or pair.opt_keeps_sign()):
        return pair.corners
    return None
