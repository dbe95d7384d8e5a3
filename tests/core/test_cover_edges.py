"""Covers and pruning: the promised rounding, the order of points, defaults, what is passed on."""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from palm_core import (
    InputError,
    PolicySet,
    best_policies,
    check_weights,
    cover_weights,
    greedy,
    prune,
    prune_curve,
    sample_weights,
    uniform_lattice,
)
from palm_core.cover import prune as pruning
from palm_core.cover.set_cover import solve_set_cover
from palm_core.geometry import kernels as _kernels
from palm_core.geometry.exact import rounding_error
from palm_core.model import policy as policy_module
from palm_core.plugin import PruneSettings

MIDDLE_FIRST = PolicySet([[1.0, 0.3], [0.75, 0.75], [0.3, 1.0]])


@pytest.mark.parametrize("d", [2, 3, 7])
def test_rounding_is_what_is_promised(d: int) -> None:
    random = np.random.default_rng(d)
    policies = PolicySet(random.normal(size=(9, d)) * 10.0 ** random.integers(-3, 4, (9, 1)))
    weights = check_weights(sample_weights(20, d), d)
    best = best_policies(policies, weights)
    indices = (weights @ policies.vertex_values.T).argmax(axis=1)
    size = (weights * np.abs(policies.vertex_values[indices])).sum(axis=1)
    np.testing.assert_array_equal(best.indices, indices)
    np.testing.assert_allclose(best.rounding, rounding_error(d) * size, rtol=1e-14)
    # … and no more than that: computed and exact values differ by less.
    for row, index, value, rounding in zip(
        weights, best.indices, best.values, best.rounding, strict=True
    ):
        numbers = zip(row.tolist(), policies.vertex_values[index].tolist(), strict=True)
        exact = sum(Fraction(w) * Fraction(u) for w, u in numbers)
        assert abs(Fraction(float(value)) - exact) <= Fraction(float(rounding)) / 2


def test_points_are_put_along_mortons_curve() -> None:
    # Two bits of each coordinate, whatever its range; the first coordinate counts least.
    x, y = (axis.reshape(-1) for axis in np.meshgrid(np.arange(4), np.arange(4)))
    turn = np.random.default_rng(0).permutation(16)
    points = np.column_stack([x, 1000 - 300 * y])[turn]
    y = 3 - y
    key = (x & 1) | (y & 1) << 1 | (x & 2) << 1 | (y & 2) << 2
    assert policy_module._along_a_curve(points).tolist() == np.argsort(key[turn]).tolist()


def test_equal_points_stay_in_their_order() -> None:
    points = np.array([[0.5, 1.0, 7.0], [0.25, 1.0, 7.0]] * 40)
    order = policy_module._along_a_curve(points)
    assert order.tolist() == [*range(1, 80, 2), *range(0, 80, 2)]


def test_a_thread_gets_work_that_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = policy_module._WORTH_A_THREAD
    assert policy_module._grain(worth) == 1
    assert policy_module._grain(worth - 1) == 2
    assert policy_module._grain(10 * worth) == 1
    assert policy_module._grain(1) == policy_module._grain(0) == worth
    grains = []

    def recorded(work: Any, count: int, *, grain: int) -> None:
        grains.append((count, grain))
        work(0, count)

    monkeypatch.setattr(_kernels, "in_parallel", recorded)
    monkeypatch.setattr(policy_module, "_FEW_PAIRS", 0)
    made = cover_weights(PolicySet(np.eye(3)), sample_weights(100, 3), mu=0.1)
    made.counts()
    # words of 64 weights by 9 numbers; groups of 32 policies by 300 numbers; rows of 2 words
    operations = [9 * 64, 32 * 300, 2]
    assert grains == [
        (count, -(-worth // cost)) for count, cost in zip([2, 1, 3], operations, strict=True)
    ]
    monkeypatch.setattr(policy_module, "_WORTH_A_THREAD", 1)
    best_policies(PolicySet(np.eye(3)), sample_weights(100, 3))
    assert grains[-1] == (2, 8)


def test_few_threads_and_many_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "_FEW_PAIRS", 0)
    monkeypatch.setattr(policy_module, "_WORTH_A_THREAD", 1)
    policies = PolicySet(np.random.default_rng(0).random((130, 3)))
    weights = sample_weights(1100, 3)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(_kernels, "n_threads", lambda n=threads: n)
        made = cover_weights(policies, weights, mu=0.05)
        found.append([made.bits, made.best.values, made.best.indices, made.counts(), greedy(made)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_other_objectives_are_refused() -> None:
    for ask in (best_policies, lambda *a: cover_weights(*a, mu=0.1), lambda *a: prune(*a, mu=0.1)):
        with pytest.raises(InputError, match=r"^weights: 3 values"):
            ask(MIDDLE_FIRST, [[0.5, 0.25, 0.25]])


def test_the_method_and_the_solver_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = uniform_lattice(2, 40)
    assert len(prune(MIDDLE_FIRST, weights, mu=0.2)) == 3
    assert prune(MIDDLE_FIRST, weights, mu=0.2, method="exact").tolist() == [0, 2]
    asked = []

    def recorded(*given: Any, **options: Any) -> Any:
        asked.append(options)
        return solve_set_cover(*given, **options)

    monkeypatch.setattr(pruning, "solve_set_cover", recorded)
    options: dict[str, Any] = {"method": "exact", "solver": "cbc", "time_limit": 7.0}
    prune(MIDDLE_FIRST, weights, mu=0.2, **options)
    prune_curve(MIDDLE_FIRST, weights, [0.2], **options)
    assert [(one["solver"], one["time_limit"]) for one in asked] == [("cbc", 7.0)] * 2


def test_defaults_are_one() -> None:
    for function in (prune, prune_curve, solve_set_cover):
        default = inspect.signature(function).parameters["time_limit"].default
        assert default == PruneSettings().time_limit == 60.0
    weights = uniform_lattice(2, 10)
    (point,) = prune_curve(MIDDLE_FIRST, weights, [0.0])
    assert point.alpha == 0.0 == prune(MIDDLE_FIRST, weights, mu=0.0).alpha
    assert 0 < point.seconds < 60


def test_where_the_first_objective_ties_the_second_still_orders() -> None:
    # d = 2: the order of the weights is that of the first, ties as they came
    weights = np.array([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    found = prune(MIDDLE_FIRST, weights, mu=0.0, method="exact")
    assert (found.indices.tolist(), found.solver) == ([0, 1, 2], "intervals")
