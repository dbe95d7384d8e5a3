"""The upper envelope L(w) = max w·u of vertex values: segments, corner weights, dominance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import WorkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Members = NDArray[np.intp]

# Tolerance of the height of qhull's corners above the envelope, values scaled to [0, 1].
_CORNER_TOLERANCE = 1e-9
# Coordinates below this are zero up to rounding: the point lies on a face of the simplex.
_FACE = 1e-14
# Number of pivots after which the search for dominated policies stops.
_MOST_PIVOTS = 2000
# Entries of the largest matrix (weights × policies) in memory.
_BLOCK = 4_000_000


def envelope_values(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """L(w) = max_j w·u_j for ``values`` (m, d) at ``weights`` (k, d); array (k,).

    For d = 2 by binary search of each weight's segment, O((m + k) log m).
    """
    if values.shape[1] == 2 and len(values) > 8:
        best, ends = segments(values)
        with np.errstate(divide="ignore", over="ignore"):
            place = np.searchsorted(ends[1:-1, 1] / ends[1:-1, 0], weights[:, 1] / weights[:, 0])
        # The neighbours too: next to a corner, rounding may select the adjacent segment.
        near = np.clip(place[:, np.newaxis] + np.array([-1, 0, 1]), 0, len(best) - 1)
        return np.asarray((values[best[near]] * weights[:, np.newaxis, :]).sum(axis=2).max(axis=1))
    rows = max(1, _BLOCK // len(values))
    parts = [
        (weights[start : start + rows] @ values.T).max(axis=1)
        for start in range(0, len(weights), rows)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def drop_dominated(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the rows of ``values`` (m, d) that no other row dominates.

    Of equal rows the first remains. L is unchanged, and so is the smallest portfolio:
    whatever a dominated policy covers, its dominating policy covers. For d ≥ 3 the
    search stops after 2000 policies; then some dominated ones may remain.
    """
    if values.shape[1] == 2:
        return np.sort(_stairs(values))
    order = np.argsort(-values.sum(axis=1), kind="stable")
    rest = values[order]
    kept: list[int] = []
    while len(order) and len(kept) < _MOST_PIVOTS:
        kept.append(int(order[0]))
        stays = (rest > rest[0]).any(axis=1)
        order, rest = order[stays], rest[stays]
    return np.sort(np.concatenate([np.array(kept, dtype=np.intp), order]))


def _stairs(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """For d = 2 the policies that are not dominated, by descending u_1."""
    order = np.lexsort((-values[:, 1], -values[:, 0]))
    height = values[order, 1]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(height)[:-1]])
    return np.asarray(order[height > before])


def segments(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The envelope for d = 2, from w = (1, 0) to (0, 1), in O(m log m).

    Args:
        values: (m, 2) vertex values.

    Returns:
        Indices (s,) of the policies that are best on a segment of positive
        length (of equal ones the first), and the weights (s + 1, 2) at which
        the segments begin and end, the vertices included.
    """
    stairs = _stairs(values)
    hull: list[int] = [int(stairs[0])]
    # Ratio w_1 / w_2 of the corner between hull[i] and hull[i + 1]: must decrease.
    ratios: list[float] = []
    first, second = values[:, 0].tolist(), values[:, 1].tolist()
    for index in stairs[1:].tolist():
        while True:
            last = hull[-1]
            ratio = (second[index] - second[last]) / (first[last] - first[index])
            if not ratios or ratio < ratios[-1]:
                break
            hull.pop()
            ratios.pop()
        hull.append(index)
        ratios.append(ratio)
    best = values[hull]
    gain = best[1:, 1] - best[:-1, 1]
    cost = best[:-1, 0] - best[1:, 0]
    inner = np.column_stack([gain, cost]) / (gain + cost)[:, np.newaxis]
    return np.array(hull, dtype=np.intp), np.vstack([[1.0, 0.0], inner, [0.0, 1.0]])


def corners_and_members(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], Members]:
    """:func:`corner_weights` of vertex values (m, d), and the policies and faces that meet there.

    Returns:
        The weights (v, d), and ``members`` (v, d): for each corner d policies that are
        best there, or faces w_i = 0, numbered m + i. In float64: where more than d
        meet, or rounding decides, they may be wrong.
    """
    m, d = values.shape
    if d == 2:
        best, ends = segments(values)
        line = np.concatenate([[m + 1], best, [m]])
        return ends, np.column_stack([line[:-1], line[1:]])
    useful = drop_dominated(values)
    values = values[useful]
    low = values.min(axis=0)
    spread = values.max(axis=0) - low
    spread[spread == 0] = 1.0
    corners, members = _corners((values - low) / spread)
    names = np.concatenate([useful, m + np.arange(d)])
    # w_i ∝ corner_i / spread_i, with separate exponents: units may differ by 10^600.
    mantissa, exponent = np.frexp(spread)
    nearest = np.where(corners > 0, exponent, np.iinfo(np.int32).max).min(axis=1, keepdims=True)
    corners = np.ldexp(corners / mantissa, np.minimum(nearest - exponent, 0))
    return np.asarray(corners / corners.sum(axis=1, keepdims=True)), names[members]


def _corners(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], Members]:
    """Vertices of {(w, t): t ≥ w·u_j for all j} for ``values`` in [0, 1], by qhull."""
    from scipy.spatial import HalfspaceIntersection, QhullError

    m, d = values.shape
    highest = 2.0
    # Unknowns w_1 … w_{d−1}, t with w_d = 1 − Σ w_i; rows a·x + b ≤ 0.
    halfspaces = np.zeros((m + d + 1, d + 1))
    halfspaces[:m, : d - 1] = values[:, :-1] - values[:, -1:]
    halfspaces[:m, d - 1] = -1.0
    halfspaces[:m, d] = values[:, -1]
    halfspaces[m : m + d - 1, : d - 1] = -np.eye(d - 1)
    halfspaces[m + d - 1, : d - 1] = 1.0
    halfspaces[m + d - 1, d] = -1.0
    # The upper bound on t closes the polytope; its vertices lie above those of Δ_d.
    halfspaces[m + d, d - 1 :] = [1.0, -highest]
    inside = np.full(d, 1.0 / d)
    inside[-1] = (values.mean(axis=1).max() + highest) / 2
    try:
        found = HalfspaceIntersection(halfspaces, inside)
    except QhullError as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkError(f"corner weights of {m} policies in {d} objectives: {reason}") from error
    points = found.intersections
    weights = np.column_stack([points[:, :-1], 1.0 - points[:, :-1].sum(axis=1)])
    weights[weights < _FACE] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    under_lid = points[:, -1] < highest - 0.5
    off = np.abs(points[:, -1] - envelope_values(values, weights))[under_lid]
    if not np.isfinite(points).all() or off.max(initial=0.0) > _CORNER_TOLERANCE:
        raise WorkError(
            f"corner weights of {m} policies in {d} objectives: qhull's are not on the envelope"
        )
    members = np.array([facet[:d] for facet in found.dual_facets], dtype=np.intp)[under_lid]
    # The vertices of the simplex: all other faces, and a policy that is best there.
    others = np.array([[m + i for i in range(d) if i != place] for place in range(d)])
    best = values.argmax(axis=0)[:, np.newaxis]
    vertices = np.column_stack([others, best]).astype(np.intp, copy=False)
    return np.vstack([np.eye(d), weights[under_lid]]), np.vstack([vertices, members])
