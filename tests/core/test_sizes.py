from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, gaps, size_gap_curve


def brute_force(rewards: np.ndarray) -> dict[int, float]:
    """The least gap of every size, over all subsets."""
    return {
        size: min(
            gaps(rewards[list(chosen)], rewards).epsilon
            for chosen in combinations(range(len(rewards)), size)
        )
        for size in range(1, len(rewards) + 1)
    }


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=15)
def test_each_size_has_the_least_gap_of_all_its_subsets(seed: int, m: int, d: int) -> None:
    rewards = np.random.default_rng(seed).uniform(0.1, 1, (m, d))
    least = brute_force(rewards)
    curve = size_gap_curve(rewards)
    found = {point.size: point for point in curve}
    gap = 1.0
    for size in range(1, m + 1):
        if size in found:
            point = found[size]
            assert point.proven
            assert len(point.indices) == size
            assert gaps(rewards[point.indices], rewards).epsilon == pytest.approx(point.epsilon)
            gap = point.epsilon
        assert gap <= least[size] + 1e-8
    assert curve[-1].epsilon <= 1e-8


@given(st.integers(0, 10_000), st.sampled_from([1e-6, 1e6]))
@settings(max_examples=4)
def test_the_scale_of_rewards_changes_nothing(seed: int, scale: float) -> None:
    rewards = np.random.default_rng(seed).uniform(0.1, 1, (9, 3))
    one, other = (size_gap_curve(r, most=4) for r in (rewards, scale * rewards))
    assert [point.size for point in one] == [point.size for point in other]
    for ours, theirs in zip(one, other, strict=True):
        assert theirs.epsilon == pytest.approx(ours.epsilon, abs=1e-8)
        assert theirs.delta == pytest.approx(scale * ours.delta, rel=1e-6, abs=1e-8 * scale)


def test_the_largest_size_of_interest() -> None:
    rewards = np.random.default_rng(1).uniform(0.1, 1, (20, 2))
    assert max(point.size for point in size_gap_curve(rewards, most=2)) == 2
    with pytest.raises(InputError, match="most = 0"):
        size_gap_curve(rewards, most=0)


def test_equal_policies_need_one() -> None:
    (point,) = size_gap_curve([[1.0, 1.0]] * 3)
    assert (point.size, point.epsilon, point.proven) == (1, 0.0, True)
