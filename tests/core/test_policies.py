from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from palm_core import InputError, Policy, PolicySet, sample_weights


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-1e3, 1e3)
    ),
    st.integers(0, 1000),
)
def test_objective_is_weighted_reward_less_regulariser(rewards: np.ndarray, seed: int) -> None:
    m, d = rewards.shape
    f = np.random.default_rng(seed).uniform(0, 2, m)
    weights = sample_weights(7, d, seed=seed)
    j = PolicySet(rewards, f).objective(weights)
    for k in range(7):
        for i in range(m):
            expected = math.fsum(weights[k] * rewards[i]) - f[i]
            assert j[k, i] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_arrays_are_copies_and_read_only() -> None:
    rewards = np.array([[1.0, 2.0]])
    policies = PolicySet(rewards)
    rewards[0, 0] = 5.0
    assert policies.rewards[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        policies.rewards[0, 0] = 3.0


def test_names_default_to_numbers_and_subset_keeps_them() -> None:
    policies = PolicySet([[1, 0], [0, 1], [0.5, 0.5]], [0, 0.1, 0.2], objectives=["a", "b"])
    part = policies.subset([2, 0])
    assert part.names == ("2", "0")
    assert part.objectives == ("a", "b")
    np.testing.assert_array_equal(part.regularizer, [0.2, 0.0])
    np.testing.assert_array_equal(part.rewards, [[0.5, 0.5], [1, 0]])


def test_from_policies_keeps_order_and_ids() -> None:
    made = [
        Policy(id="x", weights=np.array([1.0, 0.0]), rewards=np.array([1.0, 0.0]), regularizer=0.5),
        Policy(id="y", weights=np.array([0.0, 1.0]), rewards=np.array([0.0, 1.0])),
    ]
    policies = PolicySet.from_policies(made, ["a", "b"])
    assert policies.names == ("x", "y")
    np.testing.assert_array_equal(policies.regularizer, [0.5, 0.0])
    with pytest.raises(InputError, match="at least one is needed"):
        PolicySet.from_policies([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": [[1.0, math.nan]]}, r"rewards\[0, 1\] = nan: must be a finite"),
        ({"rewards": [[1.0, math.inf]]}, r"rewards\[0, 1\] = inf"),
        ({"rewards": [[1.0, 1e301]]}, "below 1e300"),
        ({"rewards": [[1.0]]}, "at least 2 objectives"),
        ({"rewards": np.zeros((0, 2))}, "at least one policy"),
        ({"rewards": [1.0, 2.0]}, r"must have shape \(m, d\)"),
        ({"rewards": [["a", "b"]]}, "must be numbers"),
        ({"rewards": [[1, 2]], "regularizer": [-1.0]}, r"regularizer\[0\] = -1"),
        ({"rewards": [[1, 2]], "regularizer": [1.0, 2.0]}, r"must have shape \(1,\)"),
        ({"rewards": [[1, 2]], "regularizer": ["x"]}, "must be 1 numbers"),
        ({"rewards": [[1, 2]], "names": ["a", "b"]}, "names: 2 given, must be 1"),
        ({"rewards": [[1, 2], [2, 1]], "names": ["a", "a"]}, "duplicate name 'a'"),
        ({"rewards": [[1, 2]], "objectives": ["a"]}, "objectives: 1 given, must be 2"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PolicySet(**arguments)


def test_repr_is_short() -> None:
    assert repr(PolicySet([[1, 0]])) == "PolicySet(1 policies, 2 objectives)"
    policy = Policy(id="a", weights=np.array([1.0, 0]), rewards=np.array([0.123456, 2.0]))
    assert repr(policy) == "Policy(id='a', rewards=[0.1235, 2], regularizer=0)"
