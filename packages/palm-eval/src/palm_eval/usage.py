"""Who serves whom: the policy usage distribution of a portfolio, and its perplexity.

Paper, section 4: each weight vector goes to its best policy; the shares of the policies
are a distribution, its perplexity exp(entropy) the effective number of policies in use.
A perplexity near the portfolio's size means balanced use. As for the gaps, weights
speak of the units that the policies are in (see :mod:`palm_eval.metrics`): normalise
over all candidates first, as the paper does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core import InputError, PolicySet, check_weights, sample_weights, serving_shares
from palm_core.simplex import check_count
from palm_eval.metrics import vertex_values

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

# Numbers held at once.
_BLOCK = 4_000_000
# What rounding may leave of a distribution's sum.
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
    # Equal rows may differ in the last bit of a matrix product: the first stands for all.
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
    # Rounding must not make it more than the policies in use, or less than one.
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
    step = max(1, _BLOCK // (len(chosen) * len(rows)))
    for start in range(0, len(sets), step):
        reached = sets[start : start + step] @ rows.T  # (sets, policies, weights)
        best = reached.argmax(axis=1)
        shares = (best[:, np.newaxis] == np.arange(len(chosen))[:, np.newaxis]).mean(axis=2)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        block = found[start : start + step]
        block[:, 0] = np.exp(-(shares * logs).sum(axis=1))
        block[:, 1] = reached.max(axis=1).mean(axis=1)
    return found.reshape(*stack.shape[:-2], 2)
