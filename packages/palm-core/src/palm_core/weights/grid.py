"""The grid of weight vectors of Algorithm 1: CONSTRUCTGRID (paper, steps 1 to 6).

On the surface of the unit cube (largest entry 1) the entries are taken from the
geometric ``1dgrid``; dividing by the sum puts the vector on the simplex.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError
from palm_core.validation import check_count, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
MU_HINT = "0.2 means neighbouring weights differ by a factor of 1.2"
ALPHA_HINT = "0.2 means weights below a fifth of the largest are treated alike"

#: Maximum number of values or weights: 2 GB in five objectives.
LARGEST_GRID = 50_000_000


def grid_values(mu: float, alpha: float) -> NDArray[np.float64]:
    """1dgrid = {0} ∪ {α(1+μ)^k : k = 0, …, N−1} ∪ {1}, ascending.

    N = ⌈log_{1+μ}(1/α)⌉: the paper takes the logarithm to be whole, which it
    rarely is. Where α is (1+μ)^−k up to the rounding of that expression, N = k.

    Args:
        mu: μ in (0, 1], the ratio of neighbouring values is at most 1 + μ.
        alpha: α in (0, 1], the smallest positive value.

    Returns:
        Array (n,) with n = N + 2.

    Raises:
        InputError: μ or α out of range, or more than 50 000 000 values.

    Example:
        >>> grid_values(1.0, 0.25)
        array([0.  , 0.25, 0.5 , 1.  ])
    """
    n = _n_values(mu, alpha)
    if n > LARGEST_GRID:
        raise InputError(f"the one-dimensional grid has {spaced(n)} values; raise mu or alpha")
    values = np.empty(n)
    values[0] = 0.0
    # Through the logarithm: 1 + μ itself would round a small μ.
    values[1:-1] = np.exp(math.log(alpha) + math.log1p(mu) * np.arange(n - 2))
    values[1] = alpha
    values[-1] = 1.0
    return values


def grid_size(n_objectives: int, mu: float, alpha: float) -> int:
    """Oracle calls of the paper's grid, |W| = n^d − (n−1)^d, without building it.

    n = |1dgrid| = N + 2. These are the vectors over 1dgrid whose largest entry
    is 1; no two of them have the same direction, so each is one weight.

    This is below the paper's d·n^(d−1). It gives the published oracle calls in
    nine of ten cases (appendix B.5); for the tenth, RLVR-GSM with μ = 8/30 and
    α = 2/10, it gives 17 where the paper prints 13, which no reading of the rule
    yields together with the other nine. The closed form d·(2 + (2/μ)·log(1/α))^(d−1)
    of Theorem 3.4 takes N to be whole: rounded up, |W| can exceed it in corner
    cases (d = 2, μ = 1, α = 0.9: 5 against 4.42).

    Args:
        n_objectives: d ≥ 2.
        mu: μ in (0, 1].
        alpha: α in (0, 1].

    Raises:
        InputError: an argument out of range.

    Example:
        >>> grid_size(3, mu=18 / 30, alpha=3 / 10)
        61
    """
    d = check_count(n_objectives, name="n_objectives", least=2)
    n = _n_values(mu, alpha)
    size: int = n**d - (n - 1) ** d
    return size


def construct_grid(
    n_objectives: int, mu: float, alpha: float, *, limit: int = LARGEST_GRID
) -> NDArray[np.float64]:
    """The weight vectors W ⊂ Δ_d of Algorithm 1, CONSTRUCTGRID.

    For every v ∈ Δ_d some row w has |w_i − v_i| ≤ μ·v_i + d·α for all i (Lemma A.1).

    Rows come in d blocks: block i holds the vectors whose *first* entry 1 on
    the cube is entry i, in lexicographic order, so that every vector occurs
    exactly once, decided on integers. Block i begins with the vertex e_i.

    Args:
        n_objectives: d ≥ 2.
        mu: μ in (0, 1], the multiplicative accuracy.
        alpha: α in (0, 1], the additive accuracy.
        limit: maximum number of weights, checked before memory is allocated.

    Returns:
        Array (k, d), k = :func:`grid_size`, rows on the simplex, all different.

    Raises:
        InputError: an argument out of range, or more than ``limit`` weights.

    Example:
        >>> construct_grid(2, mu=1.0, alpha=0.5)
        array([[1.        , 0.        ],
               [0.66666667, 0.33333333],
               [0.5       , 0.5       ],
               [0.        , 1.        ],
               [0.33333333, 0.66666667]])
    """
    size = grid_size(n_objectives, mu, alpha)
    if size > check_count(limit, name="limit", least=1):
        raise InputError(
            f"the grid has {spaced(size)} weights, must have at most {spaced(limit)}; raise mu or "
            "alpha, or limit"
        )
    values, d = grid_values(mu, alpha), n_objectives
    rows = np.empty((size, d))
    first = 0
    for one in range(d):
        # Entries before the first 1 are below 1, those after it any.
        lengths = [*([len(values) - 1] * one), 1, *([len(values)] * (d - 1 - one))]
        last = first + math.prod(lengths)
        block = rows[first:last].reshape(*lengths, d)
        total = np.zeros(1)
        # The order of the sum decides the last bit, by which a run knows its weights.
        last_two = (d - 1, d - 2) if one == d - 1 else (d - 2, d - 1)
        for i in (*range(d - 2), *last_two):
            entries = values[-1:] if i == one else values[: lengths[i]]
            block[..., i] = entries = entries.reshape(-1, *([1] * (d - 1 - i)))
            total = total + entries
        block *= (1.0 / total)[..., np.newaxis]
        first = last
    return rows


def _n_values(mu: float, alpha: float) -> int:
    """|1dgrid| = N + 2, in integers of any size."""
    mu = check_number(mu, name="mu", above=0.0, most=1.0, hint=MU_HINT)
    alpha = check_number(alpha, name="alpha", above=0.0, most=1.0, hint=ALPHA_HINT)
    if alpha < _TINY:
        raise InputError(
            f"alpha = {alpha!r}: must be at least {_TINY:.3g}, for the precision of float64"
        )
    # Fractions of floats are exact and do not overflow for the tiniest μ.
    step = Fraction(math.log1p(mu))
    exact = Fraction(-math.log(alpha)) / step
    # (1+μ)^−k computed in float64 is off by about k roundings of 1 + μ: the tolerance,
    # at most half a step.
    rounding = min(8 * Fraction(_EPS) * (exact + 1) / step, Fraction(1, 2))
    return math.ceil(exact - rounding) + 2


def spaced(count: int) -> str:
    """Format a count for readers: 2 176 782 336, or about 10^60."""
    if count < 10**18:
        return f"{count:,}".replace(",", " ")
    return f"about 10^{math.floor(math.log10(count))}"
