from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import (
    InputError,
    PolicySet,
    WorkError,
    corner_weights,
    sample_weights,
    serving_intervals,
    serving_shares,
)
from palm_core.geometry import envelope
from palm_core.geometry.envelope import envelope_values, segments
from palm_core.plugin import drop_dominated


def integers(d: int, most: int = 7) -> st.SearchStrategy[np.ndarray]:
    """Vertex values with many ties, equal policies and collinear ones."""
    return st.integers(1, most).flatmap(
        lambda m: arrays(np.float64, (m, d), elements=st.integers(-3, 4).map(float))
    )


def made(m: int, d: int, seed: int, kind: str = "front") -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "front":
        return np.sqrt(sample_weights(m, d, seed=seed))
    if kind == "signed":
        return rng.normal(size=(m, d))
    # Objectives in units that differ by 10^6 up and down.
    return rng.uniform(1, 2, (m, d)) * 10.0 ** rng.integers(-6, 7, d)


def brute_corners(values: np.ndarray) -> np.ndarray:
    """Corners from every choice of d constraints that hold with equality."""
    m, d = values.shape
    rows = np.concatenate([np.column_stack([values, -np.ones(m)]), np.eye(d, d + 1)])
    found = []
    for chosen in itertools.combinations(range(m + d), d):
        system = np.vstack([rows[list(chosen)], np.append(np.ones(d), 0.0)])
        if abs(np.linalg.det(system)) < 1e-10:
            continue
        point = np.linalg.solve(system, np.append(np.zeros(d), 1.0))
        weights, height = point[:d], point[d]
        if (weights >= -1e-12).all() and height >= (values @ weights).max() - 1e-12:
            found.append(weights)
    return np.array(found)


def same_points(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-8) -> bool:
    distance = np.abs(a[:, None, :] - b[None, :, :]).max(axis=2)
    return bool(
        (distance.min(axis=0) < tolerance).all() and (distance.min(axis=1) < tolerance).all()
    )


# --- two objectives -------------------------------------------------------------------


@given(integers(2, 12), st.integers(0, 2**16))
@example(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), 0)
@example(np.array([[1.0, 1.0], [1.0, 1.0]]), 0)
def test_segments_are_where_policies_are_best(values: np.ndarray, seed: int) -> None:
    best, ends = segments(values)
    assert len(set(best.tolist())) == len(best) == len(ends) - 1
    np.testing.assert_array_equal(ends[0], [1, 0])
    np.testing.assert_array_equal(ends[-1], [0, 1])
    assert (np.diff(ends[:, 0]) < 0).all()
    for index, begin, end in zip(best, ends[:-1], ends[1:], strict=True):
        for share in (0.0, 0.3, 1.0):
            weights = begin * (1 - share) + end * share
            assert values[index] @ weights >= (values @ weights).max() - 1e-12
        # Of equal policies the first serves.
        assert index == np.argmax((values == values[index]).all(axis=1))


@given(integers(2, 30), st.integers(0, 2**16))
def test_looked_up_values_are_the_maximum(values: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = np.concatenate([sample_weights(40, 2, seed=rng), segments(values)[1]])
    expected = (weights @ values.T).max(axis=1)
    np.testing.assert_allclose(envelope_values(values, weights), expected, atol=1e-14)


def test_values_far_out_at_a_vertex_are_looked_up_exactly() -> None:
    # Breakpoints at w_2 = 10^-20 and so on: far below the resolution of w_1.
    steps = 10.0 ** -np.arange(2, 40, 2)
    values = np.column_stack([-np.cumsum(steps[::-1]), np.arange(float(len(steps)))])
    ends = segments(values)[1]
    np.testing.assert_allclose(
        envelope_values(values, ends), (ends @ values.T).max(axis=1), rtol=1e-12
    )
    assert len(ends) == len(steps) + 1


def test_intervals_of_a_hundred_thousand_policies() -> None:
    angles = np.linspace(0, np.pi / 2, 100_000)
    intervals = serving_intervals(np.column_stack([np.sin(angles), np.cos(angles)]))
    served = ~np.isnan(intervals[:, 0])
    assert served.mean() > 0.99
    assert intervals[served, 0].min() == 0
    assert intervals[served, 1].max() == 1
    assert np.diff(intervals[served], axis=1).sum() == pytest.approx(1, abs=1e-9)


def test_intervals_need_two_objectives() -> None:
    with pytest.raises(InputError, match="3 objectives, must have 2"):
        serving_intervals(np.eye(3))


# --- corners --------------------------------------------------------------------------


@given(
    st.integers(2, 4),
    st.integers(1, 5),
    st.integers(0, 2**16),
    st.sampled_from(["front", "signed"]),
)
def test_corners_are_all_corners(d: int, m: int, seed: int, kind: str) -> None:
    values = made(m, d, seed, kind)
    assert same_points(corner_weights(values), brute_corners(values))


@given(st.integers(2, 4).flatmap(lambda d: integers(d, 5)))
def test_convex_minus_envelope_is_largest_at_a_corner(values: np.ndarray) -> None:
    # Where equal or collinear policies meet, corners of no cell are corners to the
    # brute force; what counts is what is attained.
    corners, brute = corner_weights(values), brute_corners(values)
    assert (corners >= 0).all()
    np.testing.assert_allclose(corners.sum(axis=1), 1, atol=1e-15)
    for direction in np.random.default_rng(0).normal(size=(20, values.shape[1])):
        found, exact = (
            (points @ direction - (points @ values.T).max(axis=1)).max()
            for points in (corners, brute)
        )
        assert found == pytest.approx(exact, abs=1e-9)


@given(st.integers(3, 5), st.integers(2, 6), st.integers(0, 2**16))
def test_corners_do_not_depend_on_units(d: int, m: int, seed: int) -> None:
    values = made(m, d, seed)
    units = 10.0 ** np.random.default_rng(seed).integers(-6, 7, d)
    scaled = corner_weights(values * units) * units
    scaled /= scaled.sum(axis=1, keepdims=True)
    assert same_points(scaled, corner_weights(values), 1e-7)


def test_corners_off_the_envelope_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_CORNER_TOLERANCE", -1.0)
    with pytest.raises(WorkError, match="qhull's are not on the envelope"):
        corner_weights(made(4, 3, 0))


@given(st.integers(2, 4).flatmap(lambda d: integers(d, 12)))
def test_only_dominated_policies_are_dropped(values: np.ndarray) -> None:
    kept = drop_dominated(values)
    expected = [
        j
        for j, row in enumerate(values)
        if not any(
            (other >= row).all() and ((other > row).any() or i < j)
            for i, other in enumerate(values)
        )
    ]
    assert kept.tolist() == expected


def test_the_search_for_dominated_policies_may_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    values = made(50, 3, 1)
    monkeypatch.setattr(envelope, "_MOST_PIVOTS", 5)
    kept = drop_dominated(np.concatenate([values, values]))
    assert len(set(kept.tolist())) == len(kept) >= 50
    assert {tuple(row) for row in values} == {tuple(np.tile(values, (2, 1))[i]) for i in kept}


# --- shares ---------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(0, 2**16), st.sampled_from(["front", "signed"]))
def test_areas_are_the_frequencies(m: int, seed: int, kind: str) -> None:
    values = made(m, 3, seed, kind)
    shares = serving_shares(values)
    best = np.argmax(sample_weights(20_000, 3, seed=seed) @ values.T, axis=1)
    counts = np.bincount(best, minlength=m) / 20_000
    # Five standard errors of a frequency, and of none.
    np.testing.assert_allclose(shares, counts, atol=5 * 0.5 / np.sqrt(20_000))
    assert shares.sum() == pytest.approx(1, abs=1e-12)


def test_areas_of_degenerate_cells() -> None:
    values = [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(serving_shares(values), [1 / 3, 1 / 3, 0, 0, 1 / 3], atol=1e-15)
    # The kernel of a triangle: a policy that is best in the middle only.
    shares = serving_shares([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.25, 0.25], atol=1e-12)


@given(integers(2, 8))
def test_lengths_are_the_intervals(values: np.ndarray) -> None:
    intervals = np.nan_to_num(serving_intervals(values))
    np.testing.assert_allclose(serving_shares(values), np.diff(intervals, axis=1)[:, 0])


def test_sampled_shares_say_how() -> None:
    values = made(6, 4, 3)
    shares = serving_shares(PolicySet(values), n_samples=5000, seed=7)
    best = np.argmax(sample_weights(5000, 4, seed=7) @ values.T, axis=1)
    np.testing.assert_array_equal(shares, np.bincount(best, minlength=6) / 5000)
    with pytest.raises(InputError, match="n_samples"):
        serving_shares(values, n_samples=0)
