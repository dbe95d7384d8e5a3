"""What stands behind exact gaps, piece by piece: bounds, programs, signs and zeros."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import _programs, _searches, exact_gaps
from palm_core._pair import Pair
from palm_core._programs import (
    AGREEMENT,
    Solved,
    additive_bounds,
    deepest_loss,
    next_best,
    ratio_bounds,
    worst_ratio,
    worst_weight,
)
from palm_core._searches import _Losses, all_losses, largest_loss
from palm_core.envelope import envelope_values, serving_shares
from palm_core.errors import InputError, WorkError
from palm_core.exact_gaps import gap_frontier, gaps, violations
from palm_core.polygons import heights
from palm_core.simplex import sample_weights, uniform_lattice

FEW = settings(max_examples=25)
SEEDS = st.integers(0, 2**16)


def signed(seed: int, m: int, d: int, *, zeros: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.uniform(-1.0, 1.0, (m, d))
    return np.where(random.random((m, d)) < 0.3, 0.0, values) if zeros else values


# --- upper bounds on other candidates


@FEW
@given(SEEDS, st.integers(2, 4))
def test_ratio_bounds_are_one_minus_the_largest_share_that_fits(seed, d):
    values, mixture = signed(seed, 8, d, zeros=True), signed(seed + 1, 1, d, zeros=True)[0]
    if seed % 2:
        mixture = np.abs(mixture)
    for candidate, bound in zip(values, ratio_bounds(values, mixture), strict=True):
        # the largest s ≥ 0 with mixture ≥ s·candidate, entry by entry
        shares = [m / u for m, u in zip(mixture, candidate, strict=True) if u > 0]
        least = [m / u for m, u in zip(mixture, candidate, strict=True) if u < 0]
        fits = all(m >= 0 for m, u in zip(mixture, candidate, strict=True) if u == 0)
        most = min(shares, default=np.inf)
        good = fits and most >= max([0.0, *least])
        assert bound == (1.0 - most if good else 1.0)


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from([1.0, 0.75]))
def test_additive_bounds_are_the_largest_entry(seed, d, factor):
    values, mixture = signed(seed, 8, d), signed(seed + 1, 1, d)[0]
    found = additive_bounds(values, mixture, factor)
    for candidate, bound in zip(values, found, strict=True):
        assert bound == min(max(candidate - mixture), max(factor * candidate - mixture))
    np.testing.assert_array_equal(
        additive_bounds(values, mixture), additive_bounds(values, mixture, 1.0)
    )


def test_the_highest_bound_is_solved_and_all_are_tightened_in_place():
    bounds, solved = np.array([1.0, 3.0, 2.0]), []

    def solve(place):
        solved.append(place)
        return Solved(0.5, np.array([1.0, 0.0]), np.array([0.0, 0.0]))

    def tighten(_):
        return np.array([0.25, 0.5, 9.0])

    assert next_best(bounds, 3.0, solve, tighten) is None, "no more than what is reached"
    assert next_best(bounds, 2.9, solve, tighten) is not None
    assert bounds.tolist() == [0.25, -np.inf, 2.0]
    assert next_best(bounds, 0.0, solve, tighten) is not None
    assert solved == [1, 2]
    assert next_best(np.zeros(0), -1.0, solve, tighten) is None


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from([0.0, 0.2]))
def test_losses_begin_with_the_bounds_of_every_portfolio_member(seed, d, epsilon):
    values = signed(seed, 10, d)
    pair = Pair(values[:3], values)
    losses = _Losses(pair, epsilon)
    expected = np.min(
        [additive_bounds(losses.rivals, row, 1.0 - epsilon) for row in losses.pieces], axis=0
    )
    np.testing.assert_array_equal(losses.bounds, expected)
    # without ε all may be moved, so that a difference keeps its digits
    origin = np.zeros(d) if epsilon else pair.origin
    np.testing.assert_array_equal(losses.pieces, pair.portfolio - origin)


def test_small_differences_of_large_rewards_keep_their_digits():
    far = 1e9 + np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    middle = 1e9 + np.full((1, 3), 0.5)
    value, _ = largest_loss(Pair(far, middle))
    assert value == pytest.approx(0.5 - 1 / 3, abs=1e-9)


# --- programs


@FEW
@given(SEEDS, st.integers(2, 5))
def test_steps_end_where_the_program_does(seed, d):
    random = np.random.default_rng(seed)
    pieces, candidate = random.uniform(-0.2, 1.0, (4, d)), random.uniform(0.2, 1.0, d)
    whole = worst_ratio(pieces, candidate)
    for begin in (np.full(d, 1.0 / d), np.eye(d)[0], whole.weights):
        found = _programs._by_steps(pieces, candidate, begin)
        assert found.value == pytest.approx(whole.value, abs=1e-8)
        best = max(float((pieces @ found.weights).max()), 0.0)
        assert 1.0 - best / float(found.weights @ candidate) == pytest.approx(found.value, abs=1e-9)
        assert found.weights.sum() == pytest.approx(1.0)
    # what it mixes bounds the candidate that it was made for
    assert ratio_bounds(candidate[np.newaxis], whole.mixture)[0] >= whole.value - 1e-9


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from(["gives up", "no bound", "nothing"]))
def test_a_ratio_is_found_without_its_program_too(seed, d, how):
    random = np.random.default_rng(seed)
    pieces, candidate = random.uniform(-0.2, 1.0, (4, d)), random.uniform(0.2, 1.0, d)
    expected = worst_ratio(pieces, candidate)
    answers = _programs._answers

    def broken(cost, table, limits, equal_one, bounds):
        if len(cost) != d + 1:  # the steps' own programs have an unknown more
            yield from answers(cost, table, limits, equal_one, bounds)
        elif how == "gives up":
            raise WorkError("no optimum")
        elif how == "no bound":
            for found in answers(cost, table, limits, equal_one, bounds):
                found.ineqlin.marginals[:] = 0.0
                yield found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_programs, "_answers", broken)
        found = worst_ratio(pieces, candidate)
    assert found.value == pytest.approx(expected.value, abs=1e-8)
    attained = max(float((pieces @ found.weights).max()), 0.0) / float(found.weights @ candidate)
    assert 1.0 - attained == pytest.approx(found.value, abs=1e-9)
    assert found.mixture.shape == (d,)


def test_a_ratio_has_no_units():
    pieces, candidate = np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.1]]), np.array([0.8, 0.7, 0.5])
    units = np.array([1e-6, 1e3, 1.0])
    plain, scaled = worst_ratio(pieces, candidate), worst_ratio(pieces * units, candidate * units)
    assert scaled.value == pytest.approx(plain.value, abs=1e-9)
    never = worst_ratio(np.array([[0.5, 0.0]]), np.array([1.0, 0.0]))
    assert never.value == pytest.approx(0.5)


@FEW
@given(SEEDS, st.integers(2, 3))
def test_the_deepest_loss_is_the_largest_share(seed, d):
    random = np.random.default_rng(seed)
    pieces = random.uniform(-1.0, 0.0, (3, d))
    candidates = random.uniform(0.5, 1.0, (4, d))
    depth, weights = deepest_loss(pieces, candidates)
    lattice = uniform_lattice(d, 60 if d == 3 else 2000)
    shares = -(lattice @ pieces.T).max(axis=1) / (lattice @ candidates.T).max(axis=1)
    attained = -float((pieces @ weights).max()) / float((candidates @ weights).max())
    assert depth == pytest.approx(attained, abs=1e-8)
    assert shares.max() - 1e-9 <= depth <= shares.max() + 0.1


def test_a_loss_without_end_is_infinite():
    depth, weights = deepest_loss(np.array([[-1.0, 1.0]]), np.array([[0.0, 1.0]]))
    assert np.isinf(depth)
    assert weights == pytest.approx([1.0, 0.0], abs=1e-9)
    found = gaps([[-1.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]], method="programs")
    assert np.isinf(found.epsilon)
    assert found.epsilon_weights.sum() == pytest.approx(1.0)
    depth, _ = deepest_loss(np.array([[-1.0, 1.0]]), np.array([[1e-6, 1.0]]))
    assert depth == pytest.approx(1e6)


def test_weights_of_a_negative_gap_are_on_the_simplex_in_any_units():
    for units in ([1.0, 1.0, 1.0], [1e3, 1.0, 1e-3]):
        portfolio, candidate = np.array([[-1.0, 0.5, 0.5]]) * units, np.array([[1.0, 1.0, 1.0]])
        found = gaps(portfolio, candidate * units, method="programs")
        assert found.epsilon == pytest.approx(2.0)
        assert found.epsilon_weights.sum() == pytest.approx(1.0)
        assert found.epsilon_weights == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_the_way_below_zero_ends_where_opt_rises_above_it():
    pair = Pair(np.array([[-1.0, 1.0]]), np.array([[-0.5, 1.0]]))
    deep, losing = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    end = _searches._crossing(pair, losing, deep)
    # −w/2 + (1 − w) = 0 at w = 2/3
    assert end == pytest.approx([2 / 3, 1 / 3])
    assert pair.at(end[np.newaxis])[0][0] <= 0
    below = np.array([0.75, 0.25])
    assert _searches._crossing(pair, below, deep) is below


# --- signs


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from([-0.5, -0.2, 0.0, 0.2, 0.5]))
def test_the_optimum_keeps_its_sign_or_does_not(seed, d, shift):
    values = signed(seed, 3, d) + shift
    opt = envelope_values(values, np.concatenate([np.eye(d), sample_weights(4000, d)]))
    kept = Pair(values, values[:1]).opt_keeps_sign()
    assert kept is Pair(values, values[:1], opt_keeps_sign=kept).opt_keeps_sign()
    if opt.min() < -0.01 and opt.max() > 0.01:
        assert not kept
    elif opt.min() > 0.05 or opt.max() <= 0:
        assert kept


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([[0.0, 0.0], [-1.0, 2.0]], True),  # one is never below zero
        ([[0.5, 0.25], [-1.0, 2.0]], True),
        ([[1.0, -1.0], [-1.0, 1.0]], True),  # neither is above it everywhere, both together are
        ([[-1.0, 0.0], [-0.5, -2.0]], True),
        ([[-1.0, 0.5], [-0.5, -2.0]], False),
        ([[1000.0, -2.0], [-2.0, 0.001]], False),
        ([[1000.0, -100.0], [-0.1, 0.001]], False),
    ],
)
def test_signs_of_small_sets(values, kept):
    values = np.array(values)
    assert Pair(values, values[:1]).opt_keeps_sign() is kept


@FEW
@given(SEEDS, st.integers(1, 6))
def test_zeros_are_where_the_envelope_changes_its_sign(seed, m):
    values = signed(seed, m, 2) - 0.1
    pair = Pair(values, values[:1])
    zeros = pair.opt_zeros()
    assert envelope_values(values, zeros) == pytest.approx(np.zeros(len(zeros)), abs=1e-12)
    line = uniform_lattice(2, 20_000)
    line = line[np.argsort(line[:, 0])]
    height = envelope_values(values, line)
    assert len(zeros) == int((height[1:] * height[:-1] < 0).sum())
    ends = pair.segment_ends()
    for zero in zeros:
        assert (np.abs(ends - zero).sum(axis=1) < 1e-12).any()


@FEW
@given(SEEDS, st.integers(1, 4), st.integers(1, 6))
def test_segments_end_where_the_portfolio_changes_its_sign(seed, p, m):
    values = signed(seed, p + m, 2)
    pair = Pair(values[:p], values)
    ends = pair.segment_ends()
    line = uniform_lattice(2, 20_000)
    line = line[np.argsort(line[:, 0])]
    for rows in (values[:p], values):
        height = envelope_values(rows, line)
        for place in np.flatnonzero(height[1:] * height[:-1] < 0):
            low, high = line[place, 0], line[place + 1, 0]
            near = ends[(ends[:, 0] >= low) & (ends[:, 0] <= high)]
            assert np.abs(envelope_values(rows, near)).min() < 1e-12


def test_corners_are_counted_before_they_are_enumerated():
    for d, p in itertools.product((2, 4, 5, 6, 9), (1, 20, 300)):
        pair = Pair(np.ones((p, d)), np.ones((1, d)))
        # facets of a cyclic polytope with n vertices in d dimensions, by Gale's evenness
        n = len(pair.portfolio) + d + 2
        facets = comb(n - (d + 1) // 2, d // 2) + comb(n - d // 2 - 1, (d + 1) // 2 - 1)
        assert pair.few_corners() is (d <= 4 or facets <= 100_000)


# --- violations


def test_a_loss_of_exactly_the_tolerance_is_none():
    for scale in (1.0, 1e4, 1e-4):
        portfolio = scale * np.eye(3)
        candidate = scale * np.full((1, 3), 0.5)
        pair = Pair(portfolio, candidate)
        loss = scale * (0.5 - 1 / 3)
        assert all_losses(pair, 0.0, loss).shape == (0, 3)
        assert all_losses(pair, 0.0, 0.99 * loss) == pytest.approx(np.full((1, 3), 1 / 3))


@pytest.mark.parametrize("method", ["corners", "programs"])
def test_violations_at_different_weights_are_all_told(method):
    portfolio = np.eye(3)
    candidates = 0.6 * np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    found = violations(portfolio, candidates, epsilon=0.1, delta=0.01, method=method)
    halves = {tuple(row) for row in np.round(found, 6).tolist()}
    assert halves >= {(0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5)}
    assert len(halves) == len(found)


def test_the_method_is_passed_on(monkeypatch):
    asked = []
    original = exact_gaps._decisive_weights

    def recorded(pair, epsilons, method):
        asked.append(method)
        return original(pair, epsilons, method)

    monkeypatch.setattr(exact_gaps, "_decisive_weights", recorded)
    values = np.eye(3)
    violations(values, values)
    violations(values, values, method="programs")
    gap_frontier(values, values, [0.1])
    gap_frontier(values, values, [0.1], method="corners")
    exact_gaps.find_violations(Pair(values, values), 0.0, 0.0)
    assert asked == ["auto", "programs", "auto", "corners", "auto"]
    assert exact_gaps._decisive_weights(Pair(values, values), [0.1], "programs") is None
    assert exact_gaps._decisive_weights(Pair(values, values), [0.1], "auto") is not None


def test_what_is_out_of_range_is_refused_by_name():
    values = np.eye(2)
    for options, message in (
        ({"epsilon": 1.5}, r"^epsilon = 1.5: must be in \[0, 1\]"),
        ({"epsilon": -0.1}, r"^epsilon = -0.1: must be in \[0, 1\]"),
        ({"delta": -0.1}, "^delta = -0.1: must be a finite number of at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            violations(values, values, **options)
    with pytest.raises(InputError, match="^n_samples = 0: must be"):
        serving_shares(np.eye(5), n_samples=0)
    assert serving_shares(np.eye(5), n_samples=1).sum() == pytest.approx(1.0)


def test_rounding_is_relative_to_the_side():
    polygon = np.eye(3)
    for size in (1e-6, 1.0, 1e6):
        side = size * np.array([1.0, 5e-15, -1.0])
        assert heights(polygon, side).tolist() == [size, 0.0, -size]
        side = size * np.array([1.0, 5e-13, -1.0])
        assert heights(polygon, side)[1] > 0
    assert heights(polygon, np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_an_answer_of_a_program_agrees_with_its_bound():
    solved = worst_weight(np.eye(2), np.array([[0.8, 0.7]]))
    assert solved.value == pytest.approx(0.25)
    assert abs((np.array([0.8, 0.7]) - solved.mixture).max() - solved.value) <= AGREEMENT
