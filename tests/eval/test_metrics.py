"""Sampled gaps: by hand, by the definition in plain loops, and against the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import InputError, Normalization, PolicySet, gaps, sample_weights, uniform_lattice
from palm_eval import exact_gap_pairs, metrics, sampled_gap_pairs, sampled_gaps
from palm_eval.metrics import vertex_values

rewards = st.integers(2, 4).flatmap(
    lambda d: arrays(
        np.float64,
        st.tuples(st.integers(2, 7), st.just(d)),
        elements=st.integers(-8, 24).map(lambda i: i / 8),
    )
)


def by_definition(ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    epsilon = delta = 0.0
    for w in weights:
        best = max(sum(a * b for a, b in zip(w, u, strict=True)) for u in ours)
        opt = max(best, *(sum(a * b for a, b in zip(w, u, strict=True)) for u in theirs))
        loss = opt - best if opt - best > 1e-12 else 0.0
        delta = max(delta, loss)
        if loss:
            epsilon = max(epsilon, loss / opt if opt > 1e-12 else np.inf)
    return epsilon, delta


def test_by_hand():
    # At (¾, ¼): L = .75, opt = .775. At (½, ½): L = .5, opt = .75. At (0, 1): none lost.
    found = sampled_gaps([[1, 0], [0, 1]], [[0.8, 0.7]], [[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]])
    assert found.epsilon == pytest.approx(1 / 3)
    assert found.delta == pytest.approx(0.25)
    assert found.epsilon_weights.tolist() == [0.5, 0.5]
    assert found.delta_weights.tolist() == [0.5, 0.5]
    assert found.n_weights == 3


def test_the_two_gaps_may_be_attained_at_different_weights():
    # Lost: 1 of 10 at e_1, ½ of 1 at e_2.
    found = sampled_gaps([[9.0, 0.5]], [[10.0, 0.0], [0.0, 1.0]], np.eye(2))
    assert (found.epsilon, found.delta) == (0.5, 1.0)
    assert found.epsilon_weights.tolist() == [0.0, 1.0]
    assert found.delta_weights.tolist() == [1.0, 0.0]


@given(rewards, st.integers(0, 10))
def test_agrees_with_the_definition(u, seed):
    weights = np.concatenate([np.eye(u.shape[1]), sample_weights(9, u.shape[1], seed=seed)])
    ours = u[: max(1, len(u) // 2)]
    found = sampled_gaps(ours, u, weights)
    epsilon, delta = by_definition(ours, u, weights)
    assert found.delta == pytest.approx(delta, abs=1e-12)
    assert found.epsilon == pytest.approx(epsilon, rel=1e-9, abs=1e-12)


@given(rewards, st.integers(0, 10))
def test_never_above_the_exact_gaps(u, seed):
    ours = u[: max(1, len(u) // 2)]
    weights = np.concatenate([np.eye(u.shape[1]), sample_weights(50, u.shape[1], seed=seed)])
    found, exact = sampled_gaps(ours, u, weights), gaps(ours, u)
    assert found.delta <= exact.delta + 1e-12
    assert found.epsilon <= exact.epsilon * (1 + 1e-9) + 1e-12


def test_reaches_the_exact_gaps_at_their_weights():
    u = np.random.default_rng(3).random((12, 3)) + 0.2
    exact = gaps(u[:3], u)
    found = sampled_gaps(u[:3], u, [exact.epsilon_weights, exact.delta_weights])
    assert exact.delta > 0.05
    assert (found.epsilon, found.delta) == pytest.approx((exact.epsilon, exact.delta), rel=1e-12)


@given(rewards, st.sampled_from([1e-6, 0.5, 3.0, 1e5]), st.randoms())
def test_units_and_order_do_not_matter(u, factor, random):
    ours = u[: max(1, len(u) // 2)]
    weights = uniform_lattice(u.shape[1], 4)
    order = random.sample(range(len(u)), len(u))
    one, other = (
        sampled_gaps(ours, u, weights),
        sampled_gaps(ours * factor, u[order] * factor, weights),
    )
    assert other.delta == pytest.approx(factor * one.delta, rel=1e-9, abs=1e-12 * factor)
    assert other.epsilon == pytest.approx(one.epsilon, rel=1e-9, abs=1e-12)


def test_a_portfolio_member_is_a_candidate_too():
    assert sampled_gaps([[1.0, 1.0]], [[0.5, 0.5]], np.eye(2)).delta == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "epsilon"),
    [
        ([[0.0, 1.0]], [[0.0, 0.5]], 0.0),  # 0/0 at e_1 costs nothing
        ([[-1.0, 1.0]], [[0.0, 1.0]], np.inf),  # below an opt of 0
        ([[-1.0, 1.0]], [[1.0, 1.0]], 2.0),  # L < 0 < opt
    ],
)
def test_where_opt_is_not_positive(ours, theirs, epsilon):
    assert sampled_gaps(ours, theirs, np.eye(2)).epsilon == epsilon
    assert gaps(ours, theirs).epsilon == epsilon


def test_a_sampled_opt_of_rounding_size_is_zero_and_an_exact_one_is_not():
    ours, theirs = [[-1.0, 1.0]], [[0.1 + 0.2 - 0.3, 1.0]]
    assert sampled_gaps(ours, theirs, np.eye(2)).epsilon == np.inf
    assert gaps(ours, theirs).epsilon == pytest.approx(1 + 1 / (0.1 + 0.2 - 0.3))


def test_rounding_is_no_loss():
    # 0.1 + 0.2 > 0.3 in floats: an opt of rounding size must not make ε infinite.
    found = sampled_gaps([[0.3, 0.0]], [[0.1 + 0.2, 0.0]], uniform_lattice(2, 10))
    assert (found.epsilon, found.delta) == (0.0, 0.0)


def test_the_regularizer_counts_and_normalisation_is_the_callers():
    everyone = PolicySet([[4.0, 1.0], [3.0, 2.0], [1.0, 3.0]], [1.0, 0.0, 0.0])
    limits = Normalization.fit(everyone, "minmax", over="all")
    scaled = limits.apply(everyone)
    # r − f: (3, 0), (3, 2), (1, 3) → (1, 0), (1, ⅔), (0, 1)
    assert vertex_values(scaled) == pytest.approx(np.array([[1, 0], [1, 2 / 3], [0, 1]]))
    found = sampled_gaps(scaled.subset([0]), scaled, np.eye(2))
    assert (found.epsilon, found.delta) == (1.0, 1.0)
    assert sampled_gaps(everyone.subset([0]), everyone, np.eye(2)).delta == 3.0


@given(st.integers(0, 30), st.integers(2, 3))
def test_many_sets_at_once_are_each_one(seed, d):
    values = np.random.default_rng(seed).normal(size=(4, 5, d)) + 0.5
    weights = uniform_lattice(d, 5)
    pairs = sampled_gap_pairs(values, [0, 3], weights)
    assert pairs.shape == (4, 2)
    for each, pair in zip(values, pairs, strict=True):
        one = sampled_gaps(each[[0, 3]], each, weights)
        assert pair == pytest.approx([one.epsilon, one.delta], rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "weights", "message"),
    [
        ([[1, 0]], [[1, 0, 0]], [[1, 0]], "portfolio: has 2 objectives, must have 3"),
        ([[1, 0]], [[1, 0]], [[0.5, 0.6]], "weights: 0.5, 0.6 add to 1.1"),
        ([[1, 0]], [[1, 0]], np.zeros((0, 2)), "weights: at least one is needed"),
    ],
)
def test_refusals(ours, theirs, weights, message):
    with pytest.raises(InputError, match=message):
        sampled_gaps(ours, theirs, weights)


@given(st.integers(0, 200), st.integers(1, 5))
def test_exact_pairs_are_the_exact_gaps(seed, size):
    values = np.random.default_rng(seed).random((3, 6, 2)) + 0.01
    pairs = exact_gap_pairs(values, range(size))
    for each, pair in zip(values, pairs, strict=True):
        exact = gaps(each[:size], each)
        assert pair == pytest.approx([exact.epsilon, exact.delta], rel=1e-9, abs=1e-12)


def test_exact_pairs_say_nothing_of_epsilon_below_zero():
    epsilon, delta = exact_gap_pairs([[-1.0, 1.0], [1.0, 0.0]], [0])
    assert np.isnan(epsilon)
    assert delta == 2.0
    with pytest.raises(InputError, match="values: 3 objectives, must be 2"):
        exact_gap_pairs([[1.0, 1.0, 1.0]], [0])


def test_large_stacks_go_in_parts(monkeypatch):
    values = np.random.default_rng(0).random((2, 5, 6, 2)) + 0.1
    weights = uniform_lattice(2, 9)
    whole = sampled_gap_pairs(values, [0, 1], weights), exact_gap_pairs(values, [0, 1, 2])
    monkeypatch.setattr(metrics, "_BLOCK", 150)
    parts = sampled_gap_pairs(values, [0, 1], weights), exact_gap_pairs(values, [0, 1, 2])
    assert whole[0].shape == whole[1].shape == (2, 5, 2)
    assert (whole[0] == parts[0]).all()
    assert (whole[1] == parts[1]).all()
