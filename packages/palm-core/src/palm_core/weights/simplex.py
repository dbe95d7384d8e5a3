"""Weight vectors: points of the probability simplex Δ_d, one per row.

Paper, section 3.1: a preference is a weight vector w ∈ ℝ^d with w ≥ 0 and
Σ_i w_i = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core.validation import check_count, check_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sample_weights(
    n_weights: int, n_objectives: int, *, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """Draw ``n_weights`` weight vectors from Dirichlet(1, …, 1), uniform on Δ_d.

    This is how the paper samples its evaluation set V (appendix B.2, B.3).

    Returns:
        Array (n_weights, n_objectives).

    Raises:
        InputError: fewer than 1 weight or 2 objectives.
    """
    k = check_count(n_weights, name="n_weights", least=1)
    d = check_count(n_objectives, name="n_objectives", least=2)
    return check_weights(np.random.default_rng(seed).dirichlet(np.ones(d), size=k))


def uniform_lattice(n_objectives: int, resolution: int) -> NDArray[np.float64]:
    """All weight vectors whose entries are multiples of 1/``resolution``.

    The uniform baseline of the paper (appendix B.4.1) draws from this lattice;
    it has C(m + d − 1, d − 1) points for resolution m, in lexicographic order.

    Raises:
        InputError: fewer than 2 objectives or a resolution below 1.

    Example:
        >>> uniform_lattice(2, 2)
        array([[0. , 1. ],
               [0.5, 0.5],
               [1. , 0. ]])
    """
    d = check_count(n_objectives, name="n_objectives", least=2)
    m = check_count(resolution, name="resolution", least=1)
    parts = np.zeros((1, 0), dtype=np.int64)
    for _ in range(d - 1):
        room = m - parts.sum(axis=1)
        repeats = room + 1
        new = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        parts = np.column_stack([np.repeat(parts, repeats, axis=0), new])
    return check_weights(np.column_stack([parts, m - parts.sum(axis=1)]) / m)
