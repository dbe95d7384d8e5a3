from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, Normalization, PolicySet, sample_weights


def random_policies(seed: int, m: int, d: int) -> PolicySet:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 6, d)
    return PolicySet(rng.normal(size=(m, d)) * scale, rng.uniform(0, 1e-7, m))


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 5))
def test_minmax_puts_each_objective_on_the_unit_interval(seed: int, m: int, d: int) -> None:
    policies = random_policies(seed, m, d)
    scaled = Normalization.fit(policies, "minmax", over="test").apply(policies)
    np.testing.assert_array_equal(scaled.rewards.min(axis=0), 0.0)
    np.testing.assert_allclose(scaled.rewards.max(axis=0), 1.0, rtol=1e-14)
    assert (scaled.regularizer == 0).all()


@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(2, 4))
def test_raw_weights_prefer_as_normalised_ones_do(seed: int, m: int, d: int) -> None:
    policies = random_policies(seed, m, d)
    normalization = Normalization.fit(policies, "minmax", over="test")
    weights = sample_weights(20, d, seed=seed)
    scaled = normalization.apply(policies).objective(weights)
    raw = policies.objective(normalization.raw_weights(weights))
    best = scaled.argmax(axis=1)
    rows = np.arange(len(weights))
    size = np.abs(policies.vertex_values).max(axis=0) @ normalization.raw_weights(weights).T
    assert (raw[rows, best] >= raw.max(axis=1) - 1e-9 * size).all()


def test_none_is_the_identity() -> None:
    policies = random_policies(1, 4, 3)
    normalization = Normalization.fit(policies, "none", over="test")
    assert normalization.apply(policies) is policies
    weights = sample_weights(5, 3)
    np.testing.assert_allclose(normalization.raw_weights(weights), weights, rtol=1e-15)


def test_an_objective_without_spread_is_refused_by_name() -> None:
    policies = PolicySet([[1.0, 0.1 + 0.2], [2.0, 0.3]], objectives=["a", "flat"])
    with pytest.raises(InputError, match="objective 'flat': all values are 0.3"):
        Normalization.fit(policies, "minmax", over="test")


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(InputError, match="normalize = 'zscore': must be one of minmax, none"):
        Normalization.fit(random_policies(1, 3, 2), "zscore", over="test")
