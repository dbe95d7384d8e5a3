"""What a portfolio loses against all candidates, at sampled weights as the paper does.

Paper, section 4: the gaps ε(P) and δ(P) are suprema over the simplex, estimated as
maxima over a finite set V of weights: 15, 100 and 200 draws from Dirichlet(1) in its
experiments (appendices B.2 and B.3). :func:`palm_core.gaps` gives the suprema
themselves; a sampled gap is never above them.

Units. Weights speak of the space that a policy set is in. The paper scales each
objective's r_i − f to [0, 1] over the policies (section 4; for KL-regularised rewards
appendix B.2): ``Normalization.fit(candidates, "minmax", over="all candidates")`` of
palm-core, and its ``apply`` on the portfolio *and* on the candidates, so that both
stand in the same units. Scaled over a portfolio alone, gaps of two portfolios cannot
be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_core import InputError, PolicySet, check_weights, corner_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

# A loss below this share of the rewards' size at w is rounding, as in palm_core.gaps.
_ROUNDING = 2.0**-48
# Entries of the largest array (sets × weights × policies) held at once.
_BLOCK = 4_000_000
# Below this share a weight is 0, and two values are equal.
_ON_FACE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledGaps:
    """Gaps over finitely many weights, and where they are attained.

    Args:
        epsilon: max over V of 1 − L/opt; ∞ where L < opt ≤ 0 somewhere in V.
        delta: max over V of opt − L, in units of reward.
        epsilon_weights: (d,) the first weights of V that attain ``epsilon``.
        delta_weights: (d,) the first weights of V that attain ``delta``.
        n_weights: |V|.
    """

    epsilon: float
    delta: float
    epsilon_weights: NDArray[np.float64]
    delta_weights: NDArray[np.float64]
    n_weights: int


def vertex_values(policies: PolicySet | ArrayLike) -> Array:
    """(m, d) r(π) − f(π)·1 of a policy set, or of rewards (m, d) with f = 0."""
    return (policies if isinstance(policies, PolicySet) else PolicySet(policies)).vertex_values


def sampled_gaps(
    portfolio: PolicySet | ArrayLike, candidates: PolicySet | ArrayLike, weights: ArrayLike
) -> SampledGaps:
    """ε(P) and δ(P) with the supremum over Δ_d replaced by the maximum over V (section 4).

    With L(w) = max_{π∈P} J_w(π) and opt(w) = max_{π∈P∪C} J_w(π), a member of the portfolio
    being a candidate too,

        ε = max_{w∈V} 1 − L(w)/opt(w),    δ = max_{w∈V} opt(w) − L(w).

    Where opt(w) ≤ 0 no multiplicative gap is defined: such a w counts 0 if L(w) = opt(w)
    and ∞ otherwise, as in :func:`palm_core.gaps`, whose values are upper bounds of these.

    Args:
        portfolio: P, or its rewards (p, d).
        candidates: C, or their rewards (c, d), in the units of the portfolio.
        weights: V (k, d); the paper's is ``palm_core.sample_weights(k, d, seed=…)``.

    Raises:
        InputError: different numbers of objectives, or weights off the simplex.

    Example:
        >>> found = sampled_gaps([[1, 0], [0, 1]], [[0.8, 0.7]], [[0.75, 0.25], [0.5, 0.5]])
        >>> round(found.epsilon, 6), round(found.delta, 6), found.delta_weights
        (0.333333, 0.25, array([0.5, 0.5]))
    """
    ours, theirs = vertex_values(portfolio), vertex_values(candidates)
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(
            f"portfolio: {ours.shape[1]} objectives, the candidates have {theirs.shape[1]}"
        )
    rows = check_weights(weights, ours.shape[1])
    if not len(rows):
        raise InputError("weights: at least one is needed, got none")
    ratio, loss = _losses(ours, theirs, rows)
    return SampledGaps(
        epsilon=float(ratio.max()),
        delta=float(loss.max()),
        epsilon_weights=rows[np.argmax(ratio)],
        delta_weights=rows[np.argmax(loss)],
        n_weights=len(rows),
    )


def sampled_gap_pairs(values: ArrayLike, portfolio: ArrayLike, weights: ArrayLike) -> Array:
    """(ε, δ) of :func:`sampled_gaps` for many sets of candidates at once.

    For :func:`palm_eval.intervals.bootstrap` with ``vectorized=True``.

    Args:
        values: (…, m, d) vertex values r − f of m candidates.
        portfolio: indices of the portfolio among the m.
        weights: V (k, d).

    Returns:
        Array (…, 2).

    Raises:
        InputError: weights off the simplex.
    """
    stack = np.asarray(values, dtype=np.float64)
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    rows = check_weights(weights, stack.shape[-1])

    def pairs(part: Array) -> Array:
        ratio, loss = _losses(part[:, chosen], part, rows)
        return np.stack([ratio.max(axis=-1), loss.max(axis=-1)], axis=-1)

    return _in_parts(pairs, stack, len(rows))


def exact_gap_pairs(values: ArrayLike, portfolio: ArrayLike) -> Array:
    """The exact (ε, δ) over the whole simplex for many sets of candidates at once; d = 2.

    Where two policies of the portfolio cross, and at both ends, lie all corner weights
    of L, at which opt − L is largest; and 1 − L/opt too, where L > 0. One set of
    candidates is :func:`palm_core.gaps`' affair, in any d.

    Args:
        values: (…, m, 2) vertex values r − f of m candidates.
        portfolio: indices of p policies among the m; time and memory grow like p²·m.

    Returns:
        Array (…, 2); ε is NaN where the portfolio is not above 0 at every weight.

    Raises:
        InputError: another number of objectives than two.
    """
    stack = np.asarray(values, dtype=np.float64)
    if stack.shape[-1] != 2:
        raise InputError(f"values: {stack.shape[-1]} objectives, must be 2")
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    one, other = np.triu_indices(len(chosen), k=1)

    def pairs(part: Array) -> Array:
        ours = part[:, chosen]
        apart = ours[:, one] - ours[:, other]
        # Zero at w_1·a + (1 − w_1)·b = 0; pairs that do not cross give an end.
        with np.errstate(divide="ignore", invalid="ignore"):
            first = apart[..., 1] / (apart[..., 1] - apart[..., 0])
        first = np.where((first >= 0) & (first <= 1), first, 0.0)
        first = np.concatenate([np.broadcast_to([0.0, 1.0], (len(part), 2)), first], axis=-1)
        rows = np.stack([first, 1 - first], axis=-1)
        ratio, loss = _losses(ours, part, rows)
        below = (rows @ np.swapaxes(ours, -1, -2)).max(axis=-1).min(axis=-1) <= 0
        epsilon = np.where(below, np.nan, ratio.max(axis=-1))
        return np.stack([epsilon, loss.max(axis=-1)], axis=-1)

    return _in_parts(pairs, stack, len(one) + 2)


def tracked_gap_pairs(
    values: ArrayLike, portfolio: ArrayLike, measured: ArrayLike, weights: ArrayLike
) -> Array:
    """The (ε, δ) for many sets of candidates near the measured one at once, in any d.

    opt − L, and 1 − L/opt where L > 0, are largest at corner weights of L
    (:func:`palm_core.corner_weights`). Each corner of the measured portfolio is found again
    in every set: as the weights of the same face at which the same policies are equally
    good. So the gaps are exact for the measured set; for others they are lower bounds, and
    low only where other policies meet than in the measured set. ``weights`` are added.

    Args:
        values: (…, m, d) vertex values r − f of m candidates.
        portfolio: indices of the portfolio among the m.
        measured: (m, d) the set whose corners are followed.
        weights: V (k, d), may be none.

    Returns:
        Array (…, 2).

    Raises:
        InputError: weights off the simplex.
    """
    stack = np.asarray(values, dtype=np.float64)
    d = stack.shape[-1]
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    rows = np.asarray(weights, dtype=np.float64).reshape(-1, d)
    rows = check_weights(rows, d) if len(rows) else rows
    ours_measured = np.asarray(measured, dtype=np.float64)[chosen]
    corners = corner_weights(ours_measured)
    met = [_met(ours_measured, corner) for corner in corners]

    def pairs(part: Array) -> Array:
        ours = part[:, chosen]
        followed = [_follow(ours, *each) for each in zip(corners, met, strict=True)]
        fixed = np.broadcast_to(rows, (len(part), *rows.shape))
        ratio, loss = _losses(ours, part, np.concatenate([fixed, np.stack(followed, 1)], axis=1))
        return np.stack([ratio.max(axis=-1), loss.max(axis=-1)], axis=-1)

    return _in_parts(pairs, stack, len(rows) + len(corners))


def _met(ours: Array, corner: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The face that a corner lies on, and as many policies that meet there, if so many do."""
    face = np.flatnonzero(corner > _ON_FACE)
    values = ours @ corner
    order = np.argsort(-values, kind="stable")
    equal = values[order] >= values.max() - _ON_FACE * np.abs(ours).max()
    return face, order[equal][: len(face)]


def _follow(ours: Array, corner: Array, met: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
    """(n, d) where the policies that meet at ``corner`` meet in each set (n, p, d).

    The corner itself where they do not meet in one point, or it is a vertex.
    """
    face, policies = met
    found = np.tile(corner, (len(ours), 1))
    if len(face) == 1 or len(policies) < len(face):
        return found
    # (u_1 − u_j)·w = 0 for all that meet, and Σ w = 1.
    there = ours[:, policies][:, :, face]
    apart = there[:, :1] - there[:, 1:]
    size = np.abs(apart).max(axis=(1, 2), keepdims=True)
    apart = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0)
    system = np.concatenate([apart, np.ones((len(ours), 1, len(face)))], axis=1)
    firm = np.abs(np.linalg.det(system)) > _ON_FACE
    right = np.zeros((int(firm.sum()), len(face), 1))
    right[:, -1] = 1.0
    moved = np.maximum(np.linalg.solve(system[firm], right)[..., 0], 0.0)
    found[np.ix_(firm, face)] = moved / moved.sum(axis=1, keepdims=True)
    return found


def _in_parts(pairs: Callable[[Array], Array], stack: Array, n_weights: int) -> Array:
    """``pairs`` of sets (…, m, d), few enough at a time for their values at all weights."""
    flat = stack.reshape(-1, *stack.shape[-2:])
    rows = max(1, _BLOCK // (n_weights * flat.shape[1]))
    parts = [pairs(flat[start : start + rows]) for start in range(0, len(flat), rows)]
    return np.concatenate(parts).reshape(*stack.shape[:-2], 2)


def _losses(ours: Array, theirs: Array, weights: Array) -> tuple[Array, Array]:
    """1 − L/opt and opt − L, both (…, k), for (…, p, d) and (…, c, d) at (…, k, d)."""
    top = ours.max(axis=-2, keepdims=True)
    highest = np.maximum(top, theirs.max(axis=-2, keepdims=True))
    # The member whose worst shortfall is least bounds the loss; hopeless policies do not.
    worst = (highest - ours).max(axis=-1, keepdims=True)
    floor = np.take_along_axis(ours, np.argmin(worst, axis=-2)[..., np.newaxis], axis=-2)
    size = (np.abs(highest) + (highest - floor))[..., 0, :]
    across = np.swapaxes(weights, -1, -2)
    rounding = _ROUNDING * (size[..., np.newaxis, :] @ across)[..., 0, :]
    # One vector subtracted from all changes no difference, and keeps its digits.
    best = ((ours - top) @ across).max(axis=-2)
    loss = ((theirs - top) @ across).max(axis=-2) - best
    # Also where the portfolio is above all others: a member is a candidate too.
    loss[loss <= rounding] = 0.0
    opt = (theirs @ across).max(axis=-2)
    opt[np.abs(opt) <= rounding] = 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(loss > 0, np.where(opt > 0, loss / opt, np.inf), 0.0)
    return ratio, loss
