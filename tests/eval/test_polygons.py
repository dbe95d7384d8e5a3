"""Convex polygons of weights: cut, measured, and the cells that policies serve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palm_core as palm
from palm_core import sample_weights
from palm_eval.plugin import clip, heights, overlap, place, share
from palm_eval.polygons import serving_cells, sides

FEW = settings(max_examples=25)

SEEDS = st.integers(0, 2**16)


def some(seed: int, m: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1.0, (m, d))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25), st.integers(0, 10**6))
def test_cells_tile_the_simplex_as_policies_serve_it(m, seed):
    values = np.abs(np.random.default_rng(seed).normal(size=(m, 3))) + 1e-3
    values /= np.linalg.norm(values, axis=1, keepdims=True)  # near a sphere many serve
    values = np.vstack([values, values[:2]])  # equal policies: the first serves
    cells = serving_cells(values)
    shares = palm.serving_shares(values)
    assert sum(map(share, cells.values())) == pytest.approx(1.0)
    for index, cell in cells.items():
        assert share(cell) == pytest.approx(shares[index], abs=1e-9)
        height = cell @ values.T
        np.testing.assert_allclose(height[:, index], height.max(axis=1), atol=1e-9)
    assert set(cells) == set(np.flatnonzero(shares > 0))


def test_clip_keeps_the_half_plane():
    triangle = np.eye(3)
    kept = clip(triangle, np.array([1.0, -1.0, 0.0]))  # v_1 ≤ v_2
    assert share(kept) == pytest.approx(0.5)
    assert (kept[:, 0] <= kept[:, 1]).all()
    assert len(clip(triangle, np.ones(3))) == 0
    assert share(clip(triangle, -np.ones(3))) == 1.0


def test_polygons():
    triangle = np.eye(3)
    assert share(triangle) == 1
    half = clip(triangle, np.array([1.0, -1.0, 0.0]))  # w_1 ≤ w_2
    assert share(half) == pytest.approx(0.5)
    assert share(clip(half, np.array([-1.0, 1.0, 0.0]))) == 0
    kept = clip(triangle, np.array([-1.0, -1.0, 0.0]))
    assert (kept == triangle).all()
    third = overlap(half, clip(triangle, np.array([0.0, 1.0, -1.0])))
    assert share(third) == pytest.approx(1 / 6)
    cells = [half, clip(triangle, np.array([-1.0, 1.0, 0.0]))]
    assert place(cells, np.array([[0.1, 0.5, 0.4], [0.5, 0.1, 0.4]])).tolist() == [0, 1]
    segment = clip(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([3.0, -1.0]))  # w_1 ≤ 1/4
    assert segment.tolist() == [[0.0, 1.0], [0.25, 0.75]]
    assert share(overlap(segment, np.array([[0.2, 0.8], [1.0, 0.0]]))) == pytest.approx(0.05)


@FEW
@given(SEEDS, st.sampled_from([2, 3]))
def test_a_cut_leaves_two_parts_that_make_up_the_whole(seed, d):
    rng = np.random.default_rng(seed)
    whole = np.eye(d)
    for _ in range(4):
        side = rng.normal(size=d)
        kept, rest = clip(whole, side), clip(whole, -side)
        assert share(kept) + share(rest) == pytest.approx(share(whole), abs=1e-12)
        assert (kept @ side <= 1e-12).all()
        for part in (kept, rest):
            if len(part):
                np.testing.assert_allclose(part.sum(axis=1), 1.0, atol=1e-15)
                assert (part >= -1e-15).all()
                assert share(overlap(whole, part)) == pytest.approx(share(part), abs=1e-12)
        assert share(overlap(kept, rest)) == pytest.approx(0.0, abs=1e-12)
        whole = kept if share(kept) > share(rest) else rest


@FEW
@given(SEEDS, st.sampled_from([2, 3]))
def test_the_sides_of_a_polygon_hold_inside_and_fail_outside(seed, d):
    rng = np.random.default_rng(seed)
    cell = clip(clip(np.eye(d), rng.normal(size=d)), rng.normal(size=d))
    if share(cell) < 1e-3:
        return
    edges = sides(cell)
    assert len(edges) == (2 if d == 2 else len(cell))
    np.testing.assert_allclose(np.abs(edges).max(axis=1), 1.0)
    points = sample_weights(200, d, seed=seed)
    inside = (points @ edges.T <= 0).all(axis=1)
    mixed = rng.dirichlet(np.ones(len(cell)), 50) @ cell
    assert (mixed @ edges.T <= 1e-12).all()
    # by area: as many points fall inside as the share says
    assert inside.mean() == pytest.approx(share(cell), abs=0.18)


@FEW
@given(SEEDS, st.integers(1, 9))
def test_points_lie_in_the_cell_of_the_policy_that_serves_them(seed, m):
    values = some(seed, m, 3)
    cells = serving_cells(values)
    points = sample_weights(60, 3, seed=seed)
    chosen = np.array(list(cells))[place(list(cells.values()), points)]
    heights_there = points @ values.T
    served = heights_there[np.arange(60), chosen]
    np.testing.assert_allclose(served, heights_there.max(axis=1), atol=1e-12)


def test_heights_that_are_rounding_are_zero():
    polygon = np.array([[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(heights(polygon, np.array([1e-15, 1.0])), [0.0, 0.5 + 5e-16])
    np.testing.assert_array_equal(heights(polygon, np.array([1e-12, 1.0])), [1e-12, 0.5 + 5e-13])


def test_less_than_a_polygon_has_no_share():
    for rows in (np.eye(3)[:2], np.zeros((0, 3)), np.eye(2)[:1]):
        assert share(rows) == 0.0
    assert share(np.array([[0.25, 0.75], [1.0, 0.0]])) == 0.75
    assert share(np.array([[1.0, 0.0], [0.25, 0.75]])) == 0.75


def test_rounding_is_relative_to_the_side():
    polygon = np.eye(3)
    for size in (1e-6, 1.0, 1e6):
        side = size * np.array([1.0, 5e-15, -1.0])
        assert heights(polygon, side).tolist() == [size, 0.0, -size]
        side = size * np.array([1.0, 5e-13, -1.0])
        assert heights(polygon, side)[1] > 0
    assert heights(polygon, np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
