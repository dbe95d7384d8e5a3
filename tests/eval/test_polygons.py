"""Convex polygons of weights: cut, measured, and the cells that policies serve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palm_core as palm
from palm_eval.polygons import clip, overlap, place, serving_cells, share


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
