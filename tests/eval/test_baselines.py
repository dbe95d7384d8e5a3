"""Baselines: their weights as the paper defines them, what they ask, keep and cost."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import (
    InputError,
    OracleAnswerError,
    Policy,
    PolicySet,
    TabularOracle,
    construct_grid,
    gaps,
    prune,
    sample_weights,
)
from palm_core.oracles.task_table import make_task
from palm_eval import (
    Pruning,
    best_pruning,
    best_single,
    nearest_known,
    policies_at,
    prunings,
    random_weights,
    sampled_gaps,
    uniform_weights,
)
from palm_eval.baselines import PRUNE_MUS, RANDOM_RUNS


class CountingOracle:
    """r = w, so that the answer tells what was asked."""

    def __init__(self, d: int = 2, *, stop: int | None = None) -> None:
        self.objectives = tuple(f"o{i}" for i in range(d))
        self.asked: list[list[float]] = []
        self.stop = stop

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights[: self.stop]:
            self.asked.append(row.tolist())
            yield Policy(id=f"p{row.tolist()}", weights=row, rewards=row.copy())


@pytest.fixture(scope="module")
def oracle() -> TabularOracle:
    task = make_task(n_prompts=8, n_responses=30, seed=2)
    return TabularOracle(task.rewards, task.reference, 0.05, task.objectives)


@given(st.integers(2, 60))
def test_uniform_on_a_segment(n):
    weights = uniform_weights(n, 2)
    assert weights == pytest.approx(
        np.array([[i / (n - 1), 1 - i / (n - 1)] for i in range(n)]), abs=1e-15
    )


@given(st.integers(1, 80), st.integers(3, 5), st.integers(0, 5))
def test_uniform_is_drawn_from_the_smallest_grid(n, d, seed):
    m = next(m for m in range(1, 99) if comb(m + d - 1, d - 1) >= n)
    weights = uniform_weights(n, d, seed=seed)
    assert weights.shape == (n, d)
    assert weights.sum(axis=1) == pytest.approx(1)
    steps = weights * m
    assert steps == pytest.approx(np.round(steps), abs=1e-9)
    assert len({tuple(row) for row in np.round(steps).astype(int)}) == n


def test_uniform_in_three_objectives_as_in_the_paper():
    # (m + 1)(m + 2)/2 ≥ 7 first for m = 3, ten points.
    weights = uniform_weights(7, 3, seed=1)
    assert (np.abs(weights * 3 - np.round(weights * 3)) < 1e-12).all()
    assert len(uniform_weights(6, 3)) == 6
    assert set(np.round(uniform_weights(6, 3) * 2).ravel()) == {0.0, 1.0, 2.0}


def test_uniform_draws_each_point_equally_often():
    # 5 of 6 points, 600 draws: each is left out 100 times, give or take 4.5 · √(600·5/36).
    left_out = sum(
        1 for seed in range(600) if not (uniform_weights(5, 3, seed=seed) == [0, 0, 1]).all(1).any()
    )
    assert abs(left_out - 100) <= 41
    assert (uniform_weights(5, 3, seed=4) == uniform_weights(5, 3, seed=4)).all()


def test_random_is_three_runs_of_dirichlet():
    runs = random_weights(4, 3, seed=1)
    assert len(runs) == RANDOM_RUNS == 3
    assert [run.shape for run in runs] == [(4, 3)] * 3
    assert not np.isclose(runs[0], runs[1]).any()
    drawn = sample_weights(50, 3, seed=1)  # V of the same seed: or Random would be best there
    assert not any(np.isclose(drawn, row).all(axis=1).any() for rows in runs for row in rows)
    more = random_weights(4, 3, runs=5, seed=1)
    assert all((a == b).all() for a, b in zip(runs, more, strict=False))
    # Uniform on the simplex: E w_1 = ⅓, P(w_1 > ½) = ¼.
    first = np.concatenate(random_weights(2000, 3, seed=9))[:, 0]
    assert first.mean() == pytest.approx(1 / 3, abs=5 * (1 / 18 / 6000) ** 0.5)
    assert (first > 0.5).mean() == pytest.approx(0.25, abs=5 * (3 / 16 / 6000) ** 0.5)


def test_each_distinct_weight_is_asked_once():
    oracle = CountingOracle()
    asked = policies_at(oracle, [[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    assert oracle.asked == [[0.5, 0.5], [1.0, 0.0]]
    assert [p.rewards.tolist() for p in asked.policies] == [[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]
    assert asked.policies[0] is asked.policies[2]
    assert (asked.n_weights, asked.calls) == (2, 2)


def test_known_policies_cost_no_call_but_count_as_in_the_paper():
    oracle = CountingOracle()
    known = list(CountingOracle().solve(np.array([[0.0, 1.0], [0.5 + 1e-12, 0.5 - 1e-12]])))
    asked = policies_at(oracle, uniform_weights(5, 2), known=known)
    assert oracle.asked == [[0.25, 0.75], [0.75, 0.25], [1.0, 0.0]]
    assert asked.policies[0] is known[0]
    assert asked.policies[2] is known[1]
    assert (asked.n_weights, asked.calls) == (5, 3)
    nothing = policies_at(oracle, [[0.0, 1.0]], known=known)
    assert (nothing.n_weights, nothing.calls, len(oracle.asked)) == (1, 0, 3)


def test_near_is_not_the_same():
    oracle = CountingOracle()
    known = list(CountingOracle().solve(np.array([[0.5001, 0.4999]])))
    assert policies_at(oracle, [[0.5, 0.5]], known=known).calls == 1


def test_nearest_known_by_hand():
    known = list(CountingOracle(3).solve(np.array([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.25, 0.25]])))
    near = nearest_known(known, [[0.6, 0.2, 0.2], [0, 1, 0], [0, 0, 1]])
    assert near.indices.tolist() == [2, 1, 2]
    assert near.distances == pytest.approx([0.1, 0.0, 0.75])
    assert near.exact.tolist() == [False, True, False]


def test_answers_are_checked():
    with pytest.raises(OracleAnswerError, match="the oracle stopped before weights 1"):
        policies_at(CountingOracle(stop=1), np.eye(2))

    class Wrong(CountingOracle):
        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            yield from (Policy(id="a", weights=row, rewards=row[:1]) for row in weights)

    with pytest.raises(OracleAnswerError, match="rewards must have shape"):
        policies_at(Wrong(), np.eye(2))


def test_uniform_palm_prunes_for_every_mu(oracle):
    grid = construct_grid(2, 14 / 30, 0.07)
    weights = uniform_weights(len(grid), 2)
    asked = policies_at(oracle, weights)
    assert asked.calls == len(grid) == 17
    policies = PolicySet.from_policies(asked.policies)
    found = prunings(policies, weights, policies)
    assert [one.mu for one in found] == list(PRUNE_MUS)
    assert PRUNE_MUS == (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1)
    for one in found:
        assert one.indices.tolist() == prune(policies, weights, mu=one.mu).tolist()
        exact = gaps(policies.subset(one.indices), policies)
        assert (one.epsilon, one.delta) == (exact.epsilon, exact.delta)
    best = best_pruning(found)
    assert best.epsilon == min(one.epsilon for one in found)
    assert len({len(one.indices) for one in found}) > 1


def test_prunings_may_be_scored_as_the_paper_does(oracle):
    weights = uniform_weights(5, 2)
    policies = PolicySet.from_policies(policies_at(oracle, weights).policies)
    v = sample_weights(100, 2, seed=1)

    def sampled(portfolio: PolicySet, candidates: PolicySet) -> tuple[float, float]:
        found = sampled_gaps(portfolio, candidates, v)
        return found.epsilon, found.delta

    for one, exact in zip(
        prunings(policies, weights, policies, mus=[0.1, 0.3], score=sampled),
        prunings(policies, weights, policies, mus=[0.1, 0.3]),
        strict=True,
    ):
        assert one.epsilon == sampled(policies.subset(one.indices), policies)[0] <= exact.epsilon


def test_best_pruning_order():
    def pruning(mu: float, size: int, epsilon: float, delta: float) -> Pruning:
        return Pruning(mu=mu, indices=np.arange(size), epsilon=epsilon, delta=delta)

    rows = [pruning(0.1, 2, 0.2, 0.05), pruning(0.03, 3, 0.1, 0.2), pruning(0.02, 4, 0.1, 0.1)]
    assert best_pruning(rows) is rows[2]
    same = [pruning(0.02, 3, 0.1, 0.1), pruning(0.04, 3, 0.1, 0.1), pruning(0.05, 4, 0.1, 0.1)]
    assert best_pruning(same) is same[0]
    assert best_pruning(same[::-1]) is same[0]
    with pytest.raises(InputError, match="found: at least one pruning"):
        best_pruning([])


@given(st.integers(0, 40), st.integers(2, 3))
def test_best_single_by_definition(seed, d):
    u = np.random.default_rng(seed).random((6, d)) + 0.05
    best = best_single(PolicySet(u))
    # One policy's gap is worst at a vertex of the simplex.
    opt = u.max(axis=0)
    assert best.centre == u.mean(axis=1).argmax()
    assert best.delta == (opt - u).max(axis=1).argmin()
    assert best.epsilon == (1 - u / opt).max(axis=1).argmin()


@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.2, 0.6]), st.sampled_from([1e-9, 1.0, 1e9]))
def test_best_single_has_the_least_exact_gap_whatever_the_signs(seed, shift, unit):
    u = (np.random.default_rng(seed).integers(0, 8, (6, 3)) / 8 - shift) * unit
    best = best_single(PolicySet(u))
    exact = [gaps(row[np.newaxis], u) for row in u]
    assert best.epsilon == np.argmin([one.epsilon for one in exact])
    assert best.delta == np.argmin([one.delta for one in exact])


def test_best_single_differs_by_criterion():
    # ε: .6/.7 lost… by hand: opt = (1, 10).
    u = [[1.0, 5.0], [0.4, 9.0], [0.0, 10.0], [0.9, 4.0]]
    # ε: ½, .6, 1, .6. δ: 5, 1, 1, 6 → the first of equal. Centre: 3, 4.7, 5, 2.45.
    best = best_single(PolicySet(u))
    assert (best.centre, best.epsilon, best.delta) == (2, 0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_weights(1, 2), "n = 1: must be at least 2"),
        (lambda: uniform_weights(0, 3), "n = 0: must be at least 1"),
        (lambda: uniform_weights(3, 1), "n_objectives = 1"),
        (lambda: random_weights(3, 2, runs=0), "runs = 0"),
        (lambda: random_weights(0, 2), "n_weights = 0"),
        (lambda: random_weights(3, 2, seed=-1), "seed = -1"),
        (lambda: nearest_known([], [[1, 0]]), "known: at least one policy"),
        (lambda: policies_at(CountingOracle(), [[1, 1]]), "must add to 1"),
        (lambda: policies_at(object(), [[1, 0]]), "must have a method solve"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()
