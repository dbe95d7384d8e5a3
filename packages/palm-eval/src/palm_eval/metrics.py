"""Metrics of a portfolio: sampled gaps, usage and perplexity, expected utility, hypervolume.

Sampled gaps (paper, section 4): the gaps ε(P) and δ(P) are suprema over the simplex,
estimated as maxima over a finite set V of weights: 15, 100 and 200 draws from Dirichlet(1)
in its experiments (appendices B.2 and B.3). :func:`palm_core.gaps` gives the suprema
themselves; a sampled gap is never above them.

Usage (paper, section 4): each weight vector goes to its best policy; the shares of the
policies are a distribution, its perplexity exp(entropy) the effective number of policies in
use. A perplexity near the portfolio's size means balanced use.

Utility is linear: a user with weights w gets L(w) = max_{π∈P} J_w(π). Expected utility
and maximum utility loss: Zintgraf et al., "Quality assessment of MORL algorithms: a
utility-based approach" (BNAIC 2015). Hypervolume: Zitzler and Thiele, IEEE Trans.
Evol. Comput. 3(4), 1999.

Units. Weights refer to the space of a policy set. The paper scales each
objective's r_i − f to [0, 1] over the policies (section 4; for KL-regularised rewards
appendix B.2): ``Normalization.fit(candidates, "minmax", over="all candidates")`` of
palm-core, and its ``apply`` on the portfolio *and* on the candidates, so that both
are in the same units. Scaled over a portfolio alone, metrics of two portfolios cannot
be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from palm_core import (
    InputError,
    PolicySet,
    WorkError,
    check_weights,
    corner_weights,
    gaps,
    sample_weights,
    serving_shares,
)
from palm_core.plugin import check_choice, check_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

# A loss below this share of the rewards' size at w is rounding, as in palm_core.gaps.
_ROUNDING = 2.0**-48
# Maximum entries of an array (sets × weights × policies).
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
    chosen, every = vertex_values(portfolio), vertex_values(candidates)
    if chosen.shape[1] != every.shape[1]:
        raise InputError(
            f"portfolio: has {chosen.shape[1]} objectives, must have {every.shape[1]} as candidates"
        )
    rows = check_weights(weights, chosen.shape[1])
    if not len(rows):
        raise InputError("weights: at least one is needed, got none")
    ratio, loss = _losses(chosen, every, rows)
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

    The corner weights of L are at crossings of two policies of the portfolio and at both
    ends; there opt − L is largest, and 1 − L/opt too, where L > 0. For one set of
    candidates use :func:`palm_core.gaps`, in any d.

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
    """(ε, δ) for many sets of candidates near the measured one at once, in any d.

    opt − L, and 1 − L/opt where L > 0, are largest at corner weights of L
    (:func:`palm_core.corner_weights`). Each corner of the measured portfolio is recomputed
    in every set: as the weights of the same face at which the same policies are equally
    good. So the gaps are exact for the measured set; for others they are lower bounds, not
    tight only where other policies meet than in the measured set. ``weights`` are added.

    Args:
        values: (…, m, d) vertex values r − f of m candidates.
        portfolio: indices of the portfolio among the m.
        measured: (m, d) the set whose corners are tracked.
        weights: V (k, d), may be empty.

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
    """The face of a corner, and as many policies that meet there, if there are that many."""
    face = np.flatnonzero(corner > _ON_FACE)
    values = ours @ corner
    order = np.argsort(-values, kind="stable")
    equal = values[order] >= values.max() - _ON_FACE * np.abs(ours).max()
    return face, order[equal][: len(face)]


def _follow(ours: Array, corner: Array, met: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
    """(n, d) where the policies that meet at ``corner`` meet in each set (n, p, d).

    The corner itself if they do not meet in one point, or it is a vertex.
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
    """``pairs`` of sets (…, m, d), in batches that bound the memory for all weights."""
    flat = stack.reshape(-1, *stack.shape[-2:])
    rows = max(1, _BLOCK // (n_weights * flat.shape[1]))
    parts = [pairs(flat[start : start + rows]) for start in range(0, len(flat), rows)]
    return np.concatenate(parts).reshape(*stack.shape[:-2], 2)


def _losses(ours: Array, theirs: Array, weights: Array) -> tuple[Array, Array]:
    """1 − L/opt and opt − L, both (…, k), for (…, p, d) and (…, c, d) at (…, k, d)."""
    top = ours.max(axis=-2, keepdims=True)
    highest = np.maximum(top, theirs.max(axis=-2, keepdims=True))
    # The member with the least worst shortfall bounds the loss, for the scale of rounding.
    worst = (highest - ours).max(axis=-1, keepdims=True)
    floor = np.take_along_axis(ours, np.argmin(worst, axis=-2)[..., np.newaxis], axis=-2)
    size = (np.abs(highest) + (highest - floor))[..., 0, :]
    across = np.swapaxes(weights, -1, -2)
    rounding = _ROUNDING * (size[..., np.newaxis, :] @ across)[..., 0, :]
    # Subtracting one vector from all preserves differences and their precision.
    best = ((ours - top) @ across).max(axis=-2)
    loss = ((theirs - top) @ across).max(axis=-2) - best
    # Also where the portfolio is above all others: a member is a candidate too.
    loss[loss <= rounding] = 0.0
    opt = (theirs @ across).max(axis=-2)
    opt[np.abs(opt) <= rounding] = 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(loss > 0, np.where(opt > 0, loss / opt, np.inf), 0.0)
    return ratio, loss


Method = Literal["auto", "exact", "sampling"]
_METHODS = ("auto", "exact", "sampling")
# "auto" integrates exactly up to that many objectives; corners grow like m^⌊d/2⌋.
_MOST_EXACT = 3


@dataclass(frozen=True, kw_only=True)
class ExpectedUtility:
    """E_w L(w) over uniformly distributed weights.

    Args:
        value: in units of reward.
        standard_error: of the sampling; 0 where the integral is exact.
        method: "exact" or "sampling".
    """

    value: float
    standard_error: float
    method: str


def expected_utility(
    portfolio: PolicySet | ArrayLike,
    *,
    method: Method = "auto",
    n_samples: int = 100_000,
    seed: int | np.random.Generator = 0,
) -> ExpectedUtility:
    """E[max_{π∈P} J_w(π)] for w ~ Dirichlet(1): mean utility if users get their best policy.

    Exactly: L is piecewise linear and convex, so with H ≥ max L the points
    (w, t), L(w) ≤ t ≤ H, are a polytope whose vertices stand over the corner weights of L;
    E L = H − its volume / that of Δ_d, by convex hull.

    Args:
        portfolio: P, or its rewards (m, d).
        method: "exact" for any d in which the corners can be enumerated, "sampling",
            or "auto": exact for d ≤ 3.
        n_samples: weights drawn by "sampling", at least 2.
        seed: of the drawing.

    Raises:
        InputError: an unknown method, fewer than 2 samples, rewards that are not (m, d).
        WorkError: "exact", and the corners or the hull could not be computed.

    Example:
        >>> expected_utility([[1.0, 0.0], [0.0, 1.0]]).value
        0.75
    """
    values = vertex_values(portfolio)
    check_choice(method, _METHODS, name="method")
    n_samples = check_count(n_samples, name="n_samples", least=2)
    if method == "exact" or (method == "auto" and values.shape[1] <= _MOST_EXACT):
        return ExpectedUtility(value=_mean_envelope(values), standard_error=0.0, method="exact")
    utility = np.concatenate(
        [
            (block @ values.T).max(axis=1)
            for block in np.array_split(
                sample_weights(n_samples, values.shape[1], seed=seed),
                max(1, n_samples * len(values) // 4_000_000),
            )
        ]
    )
    error = utility.std(ddof=1) / np.sqrt(n_samples)
    return ExpectedUtility(
        value=float(utility.mean()), standard_error=float(error), method="sampling"
    )


def _mean_envelope(values: Array) -> float:
    low, spread = float(values.min()), float(np.ptp(values))
    if spread == 0:
        return low
    scaled = (values - low) / spread
    corners = corner_weights(scaled)
    d = values.shape[1]
    if d == 2:  # in order along the segment: trapezoids
        height = (corners @ scaled.T).max(axis=1)
        widths = -np.diff(corners[:, 0])
        return low + spread * float(widths @ (height[1:] + height[:-1]) / 2)
    from math import factorial

    from scipy.spatial import ConvexHull, QhullError

    height = (corners @ scaled.T).max(axis=1)
    lid = 2.0
    points = np.column_stack([corners[:, :-1], height])
    above = np.column_stack([np.eye(d)[:, :-1], np.full(d, lid)])
    try:
        volume = ConvexHull(np.concatenate([points, above])).volume
    except QhullError as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkError(f"the integral of {len(values)} policies: {reason}") from error
    return low + spread * float(lid - volume * factorial(d - 1))


def maximum_utility_loss(
    portfolio: PolicySet | ArrayLike, candidates: PolicySet | ArrayLike
) -> float:
    """sup_w [opt(w) − L(w)], exactly: the loss of the worst-served user.

    Zintgraf et al. (2015) define it; the paper's additive gap δ(P) is the same number
    (:func:`palm_core.gaps`).

    Raises:
        InputError: different numbers of objectives.
        WorkError: a solver failed.

    Example:
        >>> round(maximum_utility_loss([[1.0, 0.0], [0.0, 1.0]], [[0.8, 0.7]]), 6)
        0.25
    """
    return gaps(portfolio, candidates).delta


def hypervolume(portfolio: PolicySet | ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by the policies above a reference point, by ``moocore``.

    The points are the vertex values r(π) − f(π)·1; the volume is that of the union of the
    boxes from ``reference`` to each of them. A point that is not above the reference in
    every objective adds nothing.

    Args:
        portfolio: P, or its rewards (m, d).
        reference: (d,) the reference point, in units of each objective.
            For rewards scaled to [0, 1] the origin; there is no default, since two
            hypervolumes with different references cannot be compared.

    Raises:
        InputError: a reference that is not d finite numbers.

    Example:
        >>> hypervolume([[1.0, 0.5], [0.5, 1.0]], [0.0, 0.0])
        0.75
    """
    import moocore

    values = vertex_values(portfolio)
    d = values.shape[1]
    try:
        point = np.array(reference, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"reference: must be {d} numbers: {error}") from error
    if point.shape != (d,) or not np.isfinite(point).all():
        raise InputError(f"reference: must be {d} finite numbers, got {reference!r}")
    return float(moocore.hypervolume(values, ref=point, maximise=True))


# Maximum size of an array.
_USAGE_BLOCK = 4_000_000
# Rounding tolerance of a distribution's sum.
_SUM_TOLERANCE = 1e-6


def usage(
    portfolio: PolicySet | ArrayLike, n: int = 1000, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """The share of n sampled weights that each policy serves (section 4; appendix B.2).

    Weights are drawn from Dirichlet(1), n = 1000 in the paper. Each share has standard
    error √(s(1 − s)/n), at most 0.016 for n = 1000. Of equal policies the first serves;
    so does it at a weight where several are best.

    Returns:
        Array (m,) that adds to one.

    Raises:
        InputError: n below 1, or rewards that are not (m, d).

    Example:
        >>> usage([[1, 0], [0.2, 0.2], [0, 1]], n=4, seed=0)
        array([0.25, 0.  , 0.75])
    """
    n = check_count(n, name="n", least=1)
    d = vertex_values(portfolio).shape[1]
    return usage_at(portfolio, sample_weights(n, d, seed=seed))


def usage_at(portfolio: PolicySet | ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The share of ``weights`` (k, d) that each policy serves: :func:`usage` of a given V.

    Returns:
        Array (m,) that adds to one.

    Raises:
        InputError: weights off the simplex, or rewards that are not (m, d).
    """
    values = vertex_values(portfolio)
    rows = check_weights(weights, values.shape[1])
    # Equal rows may differ in the last bit of a matrix product: use the first for all.
    distinct, first = np.unique(values, axis=0, return_index=True)
    order = np.argsort(first)
    best = np.argmax(rows @ distinct[order].T, axis=1)
    shares = np.zeros(len(values))
    shares[first[order]] = np.bincount(best, minlength=len(order)) / len(rows)
    return shares


def exact_usage(portfolio: PolicySet | ArrayLike) -> NDArray[np.float64]:
    """The share of the simplex, by volume, that each policy serves: ``usage`` for n → ∞.

    Lengths for d = 2, areas for d = 3 (:func:`palm_core.serving_shares`). Of equal
    policies the first serves. Policies that tie elsewhere do so on a set of volume 0,
    which changes no share.

    Returns:
        Array (m,) that adds to one.

    Raises:
        InputError: more than three objectives.

    Example:
        >>> exact_usage([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        array([0.5, 0.5, 0. ])
    """
    values = vertex_values(portfolio)
    if values.shape[1] > 3:
        raise InputError(
            f"portfolio: {values.shape[1]} objectives, volumes are exact for 2 and 3; use usage()"
        )
    return serving_shares(values)


def perplexity(shares: ArrayLike) -> float:
    """exp(−Σ_j s_j log s_j) of a distribution, with 0·log 0 = 0: from 1 to len(shares).

    Raises:
        InputError: not a list of numbers ≥ 0 that add to one within 1e-6.

    Example:
        >>> perplexity([0.5, 0.5, 0.0])
        2.0
    """
    try:
        values = np.array(shares, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"shares: must be numbers: {error}") from error
    if values.ndim != 1 or not values.size:
        raise InputError(f"shares: must have shape (m,) with m ≥ 1, has {values.shape}")
    total = float(values.sum())
    if not ((values >= 0).all() and abs(total - 1) <= _SUM_TOLERANCE):
        raise InputError(f"shares: must not be negative and must add to 1, add to {total:g}")
    used = values[values > 0] / total
    # Clip rounding: between one and the number of policies in use.
    return float(np.clip(np.exp(-(used * np.log(used)).sum()), 1.0, used.size))


def usage_pairs(values: ArrayLike, portfolio: ArrayLike, weights: ArrayLike) -> Array:
    """Perplexity of usage and mean utility over V, for many sets of candidates at once.

    For each set: :func:`perplexity` of :func:`usage_at`, and the mean over V of
    L(w) = max_{π∈P} J_w(π), which is :func:`palm_eval.expected_utility` for |V| → ∞.

    Args:
        values: (…, m, d) vertex values r − f of m candidates.
        portfolio: indices of the portfolio among the m.
        weights: V (k, d).

    Returns:
        Array (…, 2).

    Raises:
        InputError: weights off the simplex.

    Example:
        >>> usage_pairs([[1.0, 0.0], [0.0, 1.0]], [0, 1], [[1.0, 0.0], [0.25, 0.75]])
        array([2.   , 0.875])
    """
    stack = np.asarray(values, dtype=np.float64)
    rows = check_weights(weights, stack.shape[-1])
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    sets = stack.reshape(-1, *stack.shape[-2:])[:, chosen]
    found = np.empty((len(sets), 2))
    step = max(1, _USAGE_BLOCK // (len(chosen) * len(rows)))
    for start in range(0, len(sets), step):
        reached = sets[start : start + step] @ rows.T  # (sets, policies, weights)
        best = reached.argmax(axis=1)
        shares = (best[:, np.newaxis] == np.arange(len(chosen))[:, np.newaxis]).mean(axis=2)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        block = found[start : start + step]
        block[:, 0] = np.exp(-(shares * logs).sum(axis=1))
        block[:, 1] = reached.max(axis=1).mean(axis=1)
    return found.reshape(*stack.shape[:-2], 2)
