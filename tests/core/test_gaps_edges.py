"""Exact gaps and envelopes at their edges: order, blocks, words and tiny sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    WorkError,
    corner_weights,
    gap_frontier,
    gaps,
    sample_weights,
    serving_shares,
    violations,
)
from palm_core.cover import regions
from palm_core.geometry import envelope
from palm_core.geometry.envelope import envelope_values, segments
from palm_core.plugin import drop_dominated

FEW = settings(max_examples=25)
SEEDS = st.integers(0, 2**16)


def some(seed: int, m: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1.0, (m, d))


# --- violations and frontiers


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from([0.0, 0.05]), st.sampled_from([0.0, 0.02]))
def test_the_worst_violation_comes_first(seed, d, epsilon, delta):
    values = some(seed, 12, d)
    found = violations(values[:3], values, epsilon=epsilon, delta=delta)
    opt, best = (found @ values.T).max(axis=1), (found @ values[:3].T).max(axis=1)
    excess = (1 - epsilon) * opt - best - delta
    assert (excess > 0).all()
    assert (np.diff(excess) <= 1e-12).all()
    worst = gap_frontier(values[:3], values, epsilon)[0]
    assert (worst > delta + 1e-9) <= (len(found) > 0)
    if len(found):
        assert excess[0] == pytest.approx(worst - delta, abs=1e-12)


@FEW
@given(SEEDS, st.integers(2, 4))
def test_the_frontier_takes_one_epsilon_or_many(seed, d):
    values = some(seed, 9, d)
    many = gap_frontier(values[:2], values, [0.0, 0.1, 1.0])
    assert many.shape == (3,)
    assert many[0] == pytest.approx(gaps(values[:2], values).delta)
    assert many[2] == 0.0
    for epsilon, delta in zip([0.0, 0.1, 1.0], many, strict=True):
        np.testing.assert_array_equal(gap_frontier(values[:2], values, epsilon), [delta])


def test_the_note_says_which_of_two_things_went_wrong():
    assert gaps([[-1.0, 3.0]], [[0.0, 1.0]]).note == (
        "opt ≤ 0 at epsilon_weights, and the portfolio is below it: no ε is enough"
    )
    assert gaps([[-1.0, 2.0]], [[1.0, 1.0]]).note == (
        "opt > 0 at epsilon_weights, and the portfolio is below 0"
    )
    # all is lost, and no more than all
    found = gaps([[0.0, 1.0]], [[1.0, 1.0]])
    assert (found.epsilon, found.note) == (1.0, "")


# --- envelopes


@FEW
@given(SEEDS, st.integers(2, 4), st.integers(1, 9))
def test_blocks_change_nothing(seed, d, m):
    values, weights = some(seed, m, d), sample_weights(23, d, seed=seed)
    whole = envelope_values(values, weights)
    with pytest.MonkeyPatch.context() as patch:
        for block in (1, 2 * m, 5 * m + 1):
            for module in (envelope, regions):
                patch.setattr(module, "_BLOCK", block)
            np.testing.assert_allclose(envelope_values(values, weights), whole, rtol=1e-14)
            if d == 4:
                shares = serving_shares(values, n_samples=50, seed=3)
                best = (sample_weights(50, 4, seed=3) @ values.T).argmax(axis=1)
                np.testing.assert_array_equal(shares, np.bincount(best, minlength=m) / 50)


@pytest.mark.parametrize(("m", "d"), [(3, 2), (20, 2), (3, 3)])
def test_no_weights_have_no_values(m, d):
    assert envelope_values(some(0, m, d), np.zeros((0, d))).shape == (0,)


def test_shares_of_four_objectives_are_drawn_a_hundred_thousand_times_from_seed_zero():
    values = some(1, 5, 4)
    best = (sample_weights(100_000, 4, seed=0) @ values.T).argmax(axis=1)
    np.testing.assert_allclose(serving_shares(values), np.bincount(best, minlength=5) / 100_000)


def test_of_dominated_policies_the_search_stops_where_it_is_told(monkeypatch):
    # three pivots by falling sum; what is behind the third stays, dominated or not
    values = np.array([[9.0, 0, 0], [0, 8.0, 0], [0, 0, 7.0], [1, 1, 1], [0.5, 0.5, 0.5]])
    assert drop_dominated(values).tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(envelope, "_MOST_PIVOTS", 3)
    assert drop_dominated(values).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(envelope, "_MOST_PIVOTS", 4)
    assert drop_dominated(values).tolist() == [0, 1, 2, 3]


def test_a_policy_on_the_line_between_two_others_has_no_segment():
    best, ends = segments(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [2.0, 0.0]]))
    assert best.tolist() == [2, 0]
    np.testing.assert_array_equal(ends, [[1, 0], [0.5, 0.5], [0, 1]])


def test_objectives_without_spread_have_corners_too():
    values = np.array([[1.0, 5.0, 0.0], [0.0, 5.0, 1.0]])
    corners = np.unique(corner_weights(values).round(12), axis=0)
    np.testing.assert_allclose(corners, [[0, 0, 1], [0, 1, 0], [0.5, 0, 0.5], [1, 0, 0]])


def test_what_qhull_says_is_passed_on_in_one_line(monkeypatch):
    from scipy import spatial

    def fails(*arguments):
        raise spatial.QhullError("\nQH6000 no\nand much more")

    monkeypatch.setattr(spatial, "HalfspaceIntersection", fails)
    with pytest.raises(WorkError) as caught:
        corner_weights(np.eye(3))
    assert str(caught.value) == "corner weights of 3 policies in 3 objectives: QH6000 no"
