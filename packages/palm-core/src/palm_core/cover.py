"""Which policy serves which weight: Algorithm 1, PRUNE, steps 2 to 4 (greedy).

One bit per policy and weight; the k × m matrix of values is never built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from palm_core._exact import (
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
from palm_core.envelope import envelope_values
from palm_core.errors import InputError
from palm_core.simplex import check_number, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core._exact import Row, Values
    from palm_core._kernels import Groups
    from palm_core.policies import PolicySet

# Sorting a weight costs about as much as trying it on this many policies.
_WORTH_SORTING = 1024
# Fewer pairs than this are done before Numba has been imported.
_FEW_PAIRS = 1 << 16
# Fewer multiplications than this are done before threads have been started.
_WORTH_A_THREAD = 1 << 22


@dataclass(frozen=True, eq=False, kw_only=True)
class Best:
    """The best value at each of k weights, and who attains it.

    Attributes:
        values: (k,) opt_w = max_π J_w(π) over the policies evaluated.
        indices: (k,) the policy that attains it, the lowest index of several.
        rounding: (k,) how far the computed value may be from the exact one
            (:func:`palm_core._exact.rounding_error` of Σ_i w_i·|u_i| of that policy).
    """

    values: NDArray[np.float64]
    indices: NDArray[np.int64]
    rounding: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Cover:
    """Which of m policies cover which of k weights, one bit each.

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
        """How many weights have opt_w < 0, where only α' counts."""
        return int(np.count_nonzero(self.best.values < 0))

    def counts(self) -> NDArray[np.int64]:
        """(m,) how many weights each policy covers."""
        from palm_core import _kernels

        counts = np.empty(self.n_policies, np.int64)
        everything = np.full(self.bits.shape[1], ~np.uint64(0))
        _kernels.in_parallel(
            lambda first, last: _kernels.count_rows(self.bits, everything, first, last, counts),
            self.n_policies,
            grain=_grain(self.bits.shape[1]),
        )
        return counts

    def counts_at_most_one(self) -> bool:
        """Whether no policy covers two of the weights: then each needs a policy of its own."""
        return bool((np.bitwise_count(self.bits).sum(axis=1) <= 1).all())

    def row(self, index: int) -> NDArray[np.bool_]:
        """(k,) which weights policy ``index`` covers."""
        return _unpacked(self.bits[index], self.n_weights)

    def matrix(self) -> NDArray[np.bool_]:
        """(m, k) all rows, a byte per pair: for small sets only."""
        return _unpacked(self.bits, self.n_weights)


def best_policies(policies: PolicySet, weights: ArrayLike) -> Best:
    """opt_w = max_π J_w(π) and the policy that attains it, for k weights.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.

    Returns:
        :class:`Best` with arrays (k,). Of several policies with the same
        computed value the one with the lowest index is named. J_w(π) is computed as
        ((w_1·u_1 + w_2·u_2) + w_3·u_3) + … in float64 on vertex values u,
        whatever the sizes, the machine and the number of threads.

    Raises:
        InputError: weights that are not on the simplex of d objectives.

    Example:
        >>> from palm_core import PolicySet
        >>> two = PolicySet([[1.0, 0.0], [0.0, 1.0]])
        >>> best_policies(two, [[0.75, 0.25], [0.5, 0.5]]).indices
        array([0, 0])
    """
    return _best(policies.vertex_values, check_weights(weights, policies.n_objectives))


def cover_weights(
    policies: PolicySet,
    weights: ArrayLike,
    *,
    mu: float,
    alpha: float = 0.0,
    best: Best | None = None,
) -> Cover:
    """Which policies cover which weights (paper, Algorithm 1, PRUNE, step 3).

    π covers w if J_w(π) ≥ opt_w − μ'·max(opt_w, 0) − α' − tol. Where opt_w ≥ 0
    this is the paper's J_w(π) ≥ (1 − μ')·opt_w − α'; where opt_w < 0 a share of
    it would demand more than the optimum, so only α' counts there.

    tol bounds the rounding of the two values compared, by their own operands
    Σ_i w_i·|u_i|, and nothing else: whatever covers w in exact arithmetic does so
    here, and rescaling all rewards together with α' changes nothing. Who is not
    certain to cover a weight is told apart by :func:`proven`.

    The policy that is best at w always covers w.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.
        mu: μ' in [0, 1].
        alpha: α' ≥ 0, in units of reward.
        best: opt_w at ``weights`` if known already, for example for another μ',
            or from a larger set of policies.

    Returns:
        :class:`Cover`, m·⌈k/64⌉·8 bytes.

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
    return Cover(bits=bits, n_weights=len(rows), best=best, mu=mu, alpha=alpha)


def proven(
    cover: Cover, policies: PolicySet, weights: NDArray[np.float64], chosen: ArrayLike
) -> Cover | None:
    """``None`` if ``chosen`` cover all ``weights`` (k, d) in exact arithmetic; else a better cover.

    A cover is a superset of the exact one. Where it holds a weight that none of ``chosen``
    covers exactly, that weight is decided for every policy. A smallest cover of either is
    a lower bound for the exact one; finitely often repeated, it is the exact one's.
    """
    u, rows = policies.vertex_values, np.asarray(chosen)
    error = rounding_error(policies.n_objectives)
    certain = (weights @ u[rows].T - error * (weights @ np.abs(u[rows]).T)).max(axis=1)

    def unsure(top: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Places at which ``chosen`` may not cover, if opt is at most ``top`` there."""
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
    """Which policies cover one weight vector, in exact arithmetic.

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


def greedy(cover: Cover) -> NDArray[np.int64]:
    """Greedy set cover: again and again the policy that covers most of what is left.

    Paper, appendix B.1; within a factor ln k + 1 of the smallest cover (Chvátal,
    1979).

    Returns:
        Indices of policies in the order of their choice; of equally good ones
        the lowest index.

    Raises:
        InputError: a weight that no policy covers (possible only where
            ``cover.best`` came from other policies).

    Example:
        >>> from palm_core import PolicySet
        >>> three = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
        >>> greedy(cover_weights(three, [[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]], mu=0.0))
        array([2, 0])
    """
    from palm_core import _kernels

    uncovered = np.zeros(cover.bits.shape[1] * 8, np.uint8)
    packed = np.packbits(np.ones(cover.n_weights, np.uint8), bitorder="little")
    uncovered[: packed.size] = packed
    left = uncovered.view("<u8").astype(np.uint64, copy=False)
    chosen = np.empty(cover.n_policies, np.int64)
    n_chosen = _kernels.greedy_cover(cover.bits, left, cover.counts(), chosen)
    missed = _unpacked(left, cover.n_weights)
    if missed.any():
        raise InputError(f"cover: weight {int(np.argmax(missed))} is covered by no policy")
    return chosen[:n_chosen].copy()


def _best(u: NDArray[np.float64], rows: NDArray[np.float64]) -> Best:
    if len(rows) * len(u) <= _FEW_PAIRS:
        values, indices = _best_of_few(u, rows)
    else:
        values, indices = _best_of_many(u, rows)
    size = (rows * np.abs(u[indices])).sum(axis=1)
    return Best(values=values, indices=indices, rounding=rounding_error(u.shape[1]) * size)


def _unpacked(bits: NDArray[np.uint64], k: int) -> NDArray[np.bool_]:
    as_bytes = np.ascontiguousarray(bits).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=k, bitorder="little").view(np.bool_)


def _best_of_few(
    u: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Plain NumPy, bit for bit what the kernel computes."""
    values = rows[:, :1] * u[:, 0]
    for i in range(1, u.shape[1]):
        values += rows[:, i : i + 1] * u[:, i]
    indices = values.argmax(axis=1)
    return values[np.arange(len(rows)), indices], indices.astype(np.int64, copy=False)


def _best_of_many(
    u: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from palm_core import _kernels

    groups = _groups(u)
    along = _along_a_curve(rows) if len(u) >= _WORTH_SORTING else np.arange(len(rows))
    words = _words(rows[along])
    best = np.empty((len(words), _kernels.WORD)), np.empty((len(words), _kernels.WORD), np.int64)
    kernel = _kernels.best_words(u.shape[1])
    _kernels.in_parallel(
        lambda first, last: kernel(groups, words, first, last, best),
        len(words),
        grain=max(8, _grain(u.size * _kernels.WORD)),
    )
    values, indices = np.empty(len(rows)), np.empty(len(rows), np.int64)
    values[along] = best[0].reshape(-1)[: len(rows)]
    indices[along] = best[1].reshape(-1)[: len(rows)]
    return values, indices


def _cover_bits(
    u: NDArray[np.float64], rows: NDArray[np.float64], least: NDArray[np.float64]
) -> NDArray[np.uint64]:
    from palm_core import _kernels

    # w·(u + τ|u|) = J_w + τ·w·|u|: the policy's own rounding. Adding is monotone, so
    # nothing that reaches a threshold without it fails to reach it with it.
    groups = _groups(raised(u))
    words = _words(np.column_stack([rows, least]))
    # No value reaches an infinite threshold: the padding's bits stay zero.
    words[-1, -1, len(rows) - _kernels.WORD * (len(words) - 1) :] = np.inf
    bits = np.zeros((len(u), len(words)), np.uint64)
    kernel = _kernels.cover_words(u.shape[1])
    _kernels.in_parallel(
        lambda first, last: kernel(groups, words, first, last, bits),
        len(groups.bounds),
        grain=_grain(_kernels.GROUP * rows.size),
    )
    return bits


def _grain(operations: int) -> int:
    """How many items, of so many operations each, are worth a thread."""
    return -(-_WORTH_A_THREAD // max(operations, 1))


def _groups(u: NDArray[np.float64]) -> Groups:
    from palm_core._kernels import GROUP, Groups

    order = _along_a_curve(u)
    # The kernels take two policies at a time; doing one twice changes nothing.
    if len(order) % 2:
        order = np.append(order, order[-1])
    # Ascending within each group, so that of two equal values the first is the lowest.
    whole = len(order) // GROUP * GROUP
    order[:whole].reshape(-1, GROUP).sort(axis=1)
    order[whole:].sort()
    starts = np.arange(0, len(order), GROUP)
    sorted_u = np.ascontiguousarray(u[order])
    return Groups(sorted_u, order, np.maximum.reduceat(sorted_u, starts, axis=0), order[starts])


def _words(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(words, d, 64): the weights in words of 64, objectives apart, padded by zeros."""
    from palm_core._kernels import WORD

    k, d = rows.shape
    n_words = -(-k // WORD)
    if k % WORD:
        rows = np.concatenate([rows, np.zeros((n_words * WORD - k, d))])
    return np.ascontiguousarray(rows.reshape(n_words, WORD, d).transpose(0, 2, 1))


def _along_a_curve(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of the points (n, d) in which neighbours are close: Morton (1966).

    Each coordinate is scaled to its range and cut to a few bits, about 24 in
    all, and the bits of all coordinates are interleaved.
    """
    used = points[:, :32]
    d = used.shape[1]
    n_bits = max(1, 24 // d)
    low = used.min(axis=0)
    # Halves, because the difference of two numbers may be too large.
    spread = used.max(axis=0) / 2 - low / 2
    spread[spread == 0] = 1.0
    cells = ((used / 2 - low / 2) / spread * (2**n_bits - 1)).astype(np.uint32)
    key = np.zeros(len(points), np.uint32)
    for bit in range(n_bits):
        digits = (cells >> bit) & 1
        for i in range(d):
            key |= digits[:, i] << (bit * d + i)
    return np.argsort(key, kind="stable").astype(np.int64, copy=False)
