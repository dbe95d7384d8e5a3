"""At tolerance 0 exactly the supported points of known Pareto fronts are kept."""

from __future__ import annotations

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from palm_core import PolicySet, prune, sample_weights, uniform_lattice

FRONTS = runpy.run_path(str(Path(__file__).with_name("ground_truths.py")))
# The numbers of supported points are known; which ones they are is found below.
SUPPORTED = {
    "DEEP_SEA_TREASURE": 10,
    "DEEP_SEA_TREASURE_UNDISCOUNTED": 9,
    "DEEP_SEA_TREASURE_CONCAVE": 2,
    "RESOURCE_GATHERING": 6,
    "MINECART": 8,
    "FRUIT_TREE_5": 32,
    "FRUIT_TREE_6": 64,
    "FRUIT_TREE_7": 128,
}
LATTICE = {2: 200, 3: 20, 6: 4}
HAS_HIGHS = find_spec("highspy") is not None
SOLVERS = [
    "cbc",
    pytest.param("highs", marks=pytest.mark.skipif(not HAS_HIGHS, reason="an optional extra")),
]


def lead(points, index):
    """The weights at which a point leads all others by most, and by how much.

    max t subject to w·(p − q) ≥ t for every other point q, w on the simplex.
    """
    d = points.shape[1]
    others = np.delete(points, index, axis=0) - points[index]
    found = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([others, np.ones(len(others))]),
        b_ub=np.zeros(len(others)),
        A_eq=[[1.0] * d + [0.0]],
        b_eq=[1.0],
        bounds=[(0.0, None)] * d + [(None, None)],
    )
    assert found.status == 0
    weights = np.maximum(found.x[:d], 0.0)
    return weights / weights.sum(), -found.fun


@cache
def read(name):
    """The points, those that lead alone somewhere, and weights rich enough to tell."""
    points = np.array(FRONTS[name])
    leads = [lead(points, index) for index in range(len(points))]
    alone = np.array([gap > 1e-9 for _, gap in leads])
    d = points.shape[1]
    weights = np.vstack(
        [
            [weights for weights, _ in leads],
            uniform_lattice(d, LATTICE[d]),
            sample_weights(200, d),
        ]
    )
    return points, np.flatnonzero(alone), weights


@pytest.mark.parametrize("name", SUPPORTED)
def test_exactly_the_supported_points_are_kept(name):
    points, supported, weights = read(name)
    assert len(supported) == SUPPORTED[name]
    for method in ("exact", "greedy"):
        found = prune(PolicySet(points), weights, mu=0.0, method=method)
        np.testing.assert_array_equal(np.sort(found.indices), supported)
        # Each leads alone at a weight of its own: that proves that all are needed.
        assert found.status == "optimal"
        assert found.lower_bound == found.upper_bound == len(supported)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("solver", SOLVERS)
def test_named_solvers_keep_the_same_points(name, solver):
    points, supported, weights = read(name)
    found = prune(PolicySet(points), weights, mu=0.0, method="exact", solver=solver)
    np.testing.assert_array_equal(found.indices, supported)


@pytest.mark.parametrize("name", SUPPORTED)
def test_repeated_points_are_kept_once_and_by_the_lowest_index(name):
    points, supported, weights = read(name)
    twice = PolicySet(np.vstack([points, points]))
    np.testing.assert_array_equal(prune(twice, weights, mu=0.0, method="exact"), supported)


def test_where_opt_is_negative_a_share_of_it_forgives_nothing():
    points, supported, weights = read("DEEP_SEA_TREASURE")
    # Time only: opt < 0 at all weights, so that μ' is without effect.
    lowered = PolicySet(points - points.max(axis=0) - 1.0)
    found = prune(lowered, weights, mu=0.5, method="exact")
    assert found.n_negative == found.n_weights == len(weights)
    np.testing.assert_array_equal(found.indices, supported)


def test_deep_sea_treasure_shifted_needs_ever_fewer_points():
    points, _, weights = read("DEEP_SEA_TREASURE")
    shifted = PolicySet(points - points.min(axis=0))
    sizes = [len(prune(shifted, weights, mu=mu, method="exact")) for mu in (0, 0.01, 0.1, 0.5, 1)]
    assert sizes[0] == 10
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2


def test_resource_gathering_has_an_optimum_of_zero():
    points, supported, weights = read("RESOURCE_GATHERING")
    weights = np.vstack([weights, [1.0, 0.0, 0.0]])
    policies = PolicySet(points)
    assert policies.objective([1.0, 0.0, 0.0]).max() == 0.0
    np.testing.assert_array_equal(prune(policies, weights, mu=0.0, method="exact"), supported)
    # However much may be lost, J_w ≥ 0 is needed at e_1: a policy that never dies.
    for mu in (0.5, 1.0):
        kept = prune(policies, weights, mu=mu, method="exact")
        assert (points[kept, 0] == 0).any()


def test_fruit_tree_is_covered_by_fewer_policies_as_losses_are_allowed():
    points, _, weights = read("FRUIT_TREE_6")
    policies = PolicySet(points)
    values = policies.objective(weights)
    optima = values.max(axis=1)
    for mu in (0.05, 0.2, 0.5):
        found = prune(policies, weights, mu=mu, method="exact")
        assert found.status == "optimal"
        assert found.upper_bound < 64
        kept = values[:, found.indices].max(axis=1)
        assert (kept >= (1 - mu) * optima * (1 - 1e-12)).all()
