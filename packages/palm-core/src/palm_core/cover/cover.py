"""Cover matrix of policies and weights: Algorithm 1, PRUNE, steps 2 to 4 (greedy).

One bit per policy and weight; the k × m matrix of values is never built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError
from palm_core.geometry.envelope import envelope_values
from palm_core.geometry.exact import (
    TINY,
    UNIT,
    count,
    dot,
    floats,
    nearest,
    raised,
    rounding_error,
    tolerance,
)
from palm_core.model.policy import Best, _best, _grain, _groups, _words
from palm_core.validation import check_number, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.geometry.exact import Row, Values
    from palm_core.model.policy import PolicySet


@dataclass(frozen=True, eq=False, kw_only=True)
class CoverMatrix:
    """Cover matrix of m policies and k weights, one bit each.

    Attributes:
        bits: uint64 (m, ⌈k/64⌉), C-contiguous: bit j of word b says whether the
            policy covers weight 64·b + j; bits beyond k are zero.
        n_weights: k.
        best: opt_w at each weight.
        mu: μ', the multiplicative tolerance.
        alpha: α', the additive tolerance, in units of reward.
    """

    bits: NDArray[np.uint64]
    n_weights: int
    best: Best
    mu: float
    alpha: float

    @property
    def n_policies(self) -> int:
        """m, the number of policies."""
        return int(self.bits.shape[0])

    @property
    def n_negative(self) -> int:
        """The number of weights with opt_w < 0, where only α' counts."""
        return int(np.count_nonzero(self.best.values < 0))

    def counts(self) -> NDArray[np.int64]:
        """(m,) number of weights that each policy covers."""
        from palm_core.geometry import kernels as _kernels

        counts = np.empty(self.n_policies, np.int64)
        everything = np.full(self.bits.shape[1], ~np.uint64(0))
        _kernels.in_parallel(
            lambda first, last: _kernels.count_rows(self.bits, everything, first, last, counts),
            self.n_policies,
            grain=_grain(self.bits.shape[1]),
        )
        return counts

    def counts_at_most_one(self) -> bool:
        """Whether no policy covers two weights, so that each weight needs a separate policy."""
        return bool((np.bitwise_count(self.bits).sum(axis=1) <= 1).all())

    def row(self, index: int) -> NDArray[np.bool_]:
        """(k,) whether policy ``index`` covers each weight."""
        return _unpacked(self.bits[index], self.n_weights)

    def matrix(self) -> NDArray[np.bool_]:
        """(m, k) booleans, a byte per pair: for small sets only."""
        return _unpacked(self.bits, self.n_weights)


def cover_weights(
    policies: PolicySet,
    weights: ArrayLike,
    *,
    mu: float,
    alpha: float = 0.0,
    best: Best | None = None,
) -> CoverMatrix:
    """Compute which policies cover which weights (paper, Algorithm 1, PRUNE, step 3).

    π covers w if J_w(π) ≥ opt_w − μ'·max(opt_w, 0) − α' − tol. Where opt_w ≥ 0
    this is the paper's J_w(π) ≥ (1 − μ')·opt_w − α'; where opt_w < 0 a share of
    it would demand more than the optimum, so only α' counts there.

    tol bounds the rounding of the two values compared, by their own operands
    Σ_i w_i·|u_i|, and nothing else: whatever covers w in exact arithmetic does so
    here, and rescaling all rewards together with α' changes nothing. :func:`proven`
    decides uncertain pairs in exact arithmetic.

    The policy that is best at w always covers w.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.
        mu: μ' in [0, 1].
        alpha: α' ≥ 0, in units of reward.
        best: opt_w at ``weights`` if computed already, for example for another μ',
            or from a larger set of policies.

    Returns:
        :class:`CoverMatrix`, m·⌈k/64⌉·8 bytes.

    Raises:
        InputError: μ' or α' out of range, weights that are not on the simplex
            of d objectives, or ``best`` for another number of weights.

    Example:
        >>> from palm_core import PolicySet
        >>> three = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
        >>> cover_weights(three, [[1.0, 0.0], [0.5, 0.5]], mu=0.1).matrix()
        array([[ True, False],
               [False, False],
               [False,  True]])
    """
    mu = check_number(mu, name="mu", least=0.0, most=1.0)
    alpha = check_number(alpha, name="alpha", least=0.0)
    rows = check_weights(weights, policies.n_objectives)
    if best is None:
        best = _best(policies.vertex_values, rows)
    elif best.values.shape != (len(rows),):
        raise InputError(f"best: holds {best.values.size} weights, must hold {len(rows)}")
    # With α' near the largest number this may be −inf: everything is covered.
    with np.errstate(over="ignore"):
        least = best.values - mu * np.maximum(best.values, 0.0) - alpha - best.rounding
        least -= 4 * UNIT * alpha + TINY
    bits = _cover_bits(policies.vertex_values, rows, least)
    return CoverMatrix(bits=bits, n_weights=len(rows), best=best, mu=mu, alpha=alpha)


def proven(
    cover: CoverMatrix, policies: PolicySet, weights: NDArray[np.float64], chosen: ArrayLike
) -> CoverMatrix | None:
    """``None`` if ``chosen`` cover all ``weights`` (k, d) in exact arithmetic; else a better cover.

    A cover is a superset of the exact one. Where it holds a weight that none of ``chosen``
    covers exactly, that weight is decided for every policy. A smallest cover of either is
    a lower bound for the exact one; finitely often repeated, it is the exact one's.
    """
    u, rows = policies.vertex_values, np.asarray(chosen)
    error = rounding_error(policies.n_objectives)
    certain = (weights @ u[rows].T - error * (weights @ np.abs(u[rows]).T)).max(axis=1)

    def unsure(top: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Indices of weights that ``chosen`` may not cover, if opt is at most ``top`` there."""
        with np.errstate(over="ignore"):
            most = top - cover.mu * np.maximum(top, 0.0) - cover.alpha * (1.0 - 4 * UNIT)
            most += error * np.abs(top) + TINY
        return np.asarray(places[certain[places] < most])

    # opt is at most that much above the best computed value, whichever policy attains it.
    top = cover.best.values + error * (weights @ np.abs(u).max(axis=0))
    open_ = unsure(top, np.arange(cover.n_weights))
    if len(open_):
        open_ = unsure(envelope_values(raised(u), weights[open_]), open_)
    count(cover.n_weights, len(open_))
    if not len(open_):
        return None
    values = policies.values()
    allowed = tolerance(cover.mu), tolerance(cover.alpha)
    bits = None
    for place in open_.tolist():
        row = tuple(map(Fraction, weights[place].tolist()))
        if covering(values, row, *allowed, among=rows).any():
            continue
        if bits is None:
            bits = cover.bits.copy()
        holds = np.flatnonzero(_unpacked(bits[:, place // 64 : place // 64 + 1], 64)[:, place % 64])
        wrong = holds[~covering(values, row, *allowed, among=holds)]
        bits[wrong, place // 64] &= ~(np.uint64(1) << np.uint64(place % 64))
    return None if bits is None else replace(cover, bits=bits)


def covering(
    values: Values,
    weights: Row,
    epsilon: Fraction,
    delta: Fraction,
    *,
    among: NDArray[np.intp] | None = None,
) -> NDArray[np.bool_]:
    """Decide in exact arithmetic which policies cover one weight vector.

    Args:
        values: m policies; opt is the best of them.
        weights: d rationals.
        epsilon: multiplicative tolerance.
        delta: additive tolerance.
        among: (n,) the policies of interest; ``None`` means all.

    Returns:
        Booleans (n,). A tolerance that is met in one of the readings is met.
    """
    near = floats(weights)
    places = np.arange(len(values.floats)) if among is None else np.asarray(among)
    height = values.floats @ near
    error = rounding_error(len(near)) * (np.abs(values.floats) @ near) + TINY
    best = np.flatnonzero(height + error >= (height - error).max())
    delta *= sum(weights, Fraction(0))

    def least(opt: Fraction) -> Fraction:
        return opt - epsilon * max(opt, Fraction(0)) - delta

    ends = [
        nearest(least(Fraction(end))) for end in ((height - error).max(), (height + error).max())
    ]
    slack = 2 * UNIT * max(map(abs, ends)) + TINY
    found = (height - error)[places] >= ends[1] + slack
    open_ = np.flatnonzero(~found & ((height + error)[places] >= ends[0] - slack))
    for reading in values.readings:
        if not len(open_):
            break
        level = least(max(dot(weights, reading(int(place))) for place in best))
        met = [dot(weights, reading(int(places[place]))) >= level for place in open_]
        found[open_] = met
        open_ = open_[~np.array(met)]
    return np.asarray(found)


def greedy(cover: CoverMatrix) -> NDArray[np.int64]:
    """Greedy set cover: repeatedly choose the policy that covers most uncovered weights.

    Paper, appendix B.1; within a factor ln k + 1 of the smallest cover (Chvátal,
    1979).

    Returns:
        Indices of policies in the order of their choice; ties: lowest index.

    Raises:
        InputError: a weight that no policy covers (possible only where
            ``cover.best`` came from other policies).

    Example:
        >>> from palm_core import PolicySet
        >>> three = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
        >>> greedy(cover_weights(three, [[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]], mu=0.0))
        array([2, 0])
    """
    from palm_core.geometry import kernels as _kernels

    uncovered = np.zeros(cover.bits.shape[1] * 8, np.uint8)
    packed = np.packbits(np.ones(cover.n_weights, np.uint8), bitorder="little")
    uncovered[: packed.size] = packed
    left = uncovered.view("<u8").astype(np.uint64, copy=False)
    chosen = np.empty(cover.n_policies, np.int64)
    n_chosen = _kernels.greedy_cover(cover.bits, left, cover.counts(), chosen)
    missed = _unpacked(left, cover.n_weights)
    if missed.any():
        raise InputError(f"cover: no policy covers weight vector {int(np.argmax(missed))}")
    return chosen[:n_chosen].copy()


def _unpacked(bits: NDArray[np.uint64], k: int) -> NDArray[np.bool_]:
    as_bytes = np.ascontiguousarray(bits).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=k, bitorder="little").view(np.bool_)


def _cover_bits(
    u: NDArray[np.float64], rows: NDArray[np.float64], least: NDArray[np.float64]
) -> NDArray[np.uint64]:
    from palm_core.geometry import kernels as _kernels

    # w·(u + τ|u|) = J_w + τ·w·|u|: the policy's own rounding. Adding is monotone, so
    # whatever reaches a threshold without it also reaches it with it.
    groups = _groups(raised(u))
    words = _words(np.column_stack([rows, least]))
    # No value reaches an infinite threshold: the padding bits stay zero.
    words[-1, -1, len(rows) - _kernels.WORD * (len(words) - 1) :] = np.inf
    bits = np.zeros((len(u), len(words)), np.uint64)
    kernel = _kernels.cover_words(u.shape[1])
    _kernels.in_parallel(
        lambda first, last: kernel(groups, words, first, last, bits),
        len(groups.bounds),
        grain=_grain(_kernels.GROUP * rows.size),
    )
    return bits
