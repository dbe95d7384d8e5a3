"""Regions of the simplex that policies serve: corner weights, intervals, shares, polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError
from palm_core.geometry.envelope import _BLOCK, corners_and_members, drop_dominated, segments
from palm_core.model.policy import PolicySet, vertex_values
from palm_core.validation import check_count
from palm_core.weights.simplex import sample_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Members = NDArray[np.intp]


def corner_weights(policies: PolicySet | ArrayLike) -> NDArray[np.float64]:
    """All corner weights of the envelope: the vertices of its cells.

    Objectives are scaled to a common spread before the geometry is computed and
    weights scaled back after it, so units do not matter and nothing is rounded.

    Args:
        policies: m policies in d objectives, or their rewards (m, d).

    Returns:
        Array (v, d) of weights, every vertex of the simplex among them; for
        d = 2 in order from (1, 0) to (0, 1). For d ≥ 3 a corner at which more
        than d cells meet may be listed several times. v grows like m^⌊d/2⌋.

    Raises:
        InputError: rewards that are not numbers of shape (m, d).
        WorkError: qhull did not find corners that lie on the envelope.

    Example:
        >>> corner_weights([[1, 0], [0, 1]])
        array([[1. , 0. ],
               [0.5, 0.5],
               [0. , 1. ]])
    """
    return corners_and_members(vertex_values(policies))[0]


def serving_intervals(policies: PolicySet | ArrayLike) -> NDArray[np.float64]:
    """For d = 2, the interval of w_1 on which each policy is the best of the set.

    Returns:
        Array (m, 2): the ends of the interval of w_1; NaN for a policy that is
        the best on no interval of positive length. Of equal policies the first
        serves. The intervals cover [0, 1] and touch at their ends.

    Raises:
        InputError: another number of objectives than two.

    Example:
        >>> serving_intervals([[1, 0], [0, 1], [0.2, 0.2]])
        array([[0.5, 1. ],
               [0. , 0.5],
               [nan, nan]])
    """
    values = vertex_values(policies)
    if values.shape[1] != 2:
        raise InputError(f"policies: have {values.shape[1]} objectives, must have 2 for intervals")
    best, ends = segments(values)
    intervals = np.full((len(values), 2), np.nan)
    intervals[best, 0], intervals[best, 1] = ends[1:, 0], ends[:-1, 0]
    return intervals


def serving_shares(
    policies: PolicySet | ArrayLike, *, n_samples: int = 100_000, seed: int = 0
) -> NDArray[np.float64]:
    """The share of the simplex (by volume) at which each policy is the best of the set.

    Exact for d = 2 (lengths) and d = 3 (areas of polygons); for d ≥ 4 the
    frequency among ``n_samples`` weights drawn uniformly with ``seed``, whose
    standard error is at most 0.5/√n_samples (0.16 % by default).

    Returns:
        Array (m,) that adds to one. Of equal policies the first serves.

    Raises:
        InputError: ``n_samples`` below 1, or rewards that are not (m, d).

    Example:
        >>> serving_shares([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.1, 0.1, 0.1]]).round(6)
        array([0.333333, 0.333333, 0.333333, 0.      ])
    """
    values = vertex_values(policies)
    n_samples = check_count(n_samples, name="n_samples", least=1)
    m, d = values.shape
    shares = np.zeros(m)
    if d == 2:
        best, ends = segments(values)
        shares[best] = ends[:-1, 0] - ends[1:, 0]
    elif d == 3:
        useful = drop_dominated(values)
        areas = [_cell_area(values[useful], place) for place in range(len(useful))]
        shares[useful] = np.array(areas) / sum(areas)
    else:
        rows = max(1, _BLOCK // m)
        weights = sample_weights(n_samples, d, seed=seed)
        for start in range(0, n_samples, rows):
            best = np.argmax(weights[start : start + rows] @ values.T, axis=1)
            shares += np.bincount(best, minlength=m)
        shares /= n_samples
    return shares


def _cell_area(values: NDArray[np.float64], place: int) -> float:
    """Area in (w_1, w_2) of the cell of one policy: the triangle, cut by its rivals."""
    cell, gains = np.eye(3), values - values[place]
    # Terminates: each rival cuts at most once. The deepest cut first leaves few that cut at all.
    while (heights := cell @ gains.T).max() > 0:  # a rival is better where this is positive
        rival = int(heights.max(axis=0).argmax())
        gains[rival] = 0.0
        height, parts = heights[:, rival].tolist(), []
        for here, a in enumerate(height):
            there = (here + 1) % len(height)
            b = height[there]
            if a <= 0:
                parts.append(cell[here])
            if min(a, b) < 0 < max(a, b):
                parts.append((cell[here] * b - cell[there] * a) / (b - a))
        if len(parts) < 3:
            return 0.0
        cell = np.array(parts)
    x, y = cell[:, 0], cell[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
