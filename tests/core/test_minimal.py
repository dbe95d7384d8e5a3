"""Smallest portfolios against every subset, dense samples, and by two algorithms."""

from __future__ import annotations

import itertools
import runpy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import (
    InputError,
    PolicySet,
    corner_weights,
    gaps,
    minimal_portfolio,
    sample_weights,
    violations,
)
from palm_core.cover import minimal as _cuts
from palm_core.cover import set_cover as setcover
from palm_core.cover.minimal import CutLoop, covered_intervals, fewest_intervals, first_weights
from palm_core.geometry.envelope import envelope_values

TOLERANCES = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5, 1.0])
SLACKS = st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0])


@st.composite
def integers(draw: st.DrawFn, least_d: int = 2, most_d: int = 3) -> np.ndarray:
    d = draw(st.integers(least_d, most_d))
    m = draw(st.integers(1, {2: 8, 3: 5, 4: 4}[d]))
    low = draw(st.sampled_from([-3, 0, 0]))
    return draw(arrays(np.float64, (m, d), elements=st.integers(low, 5).map(float)))


def made(kind: str, m: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(m, d))
    if kind == "signed":
        return values
    values = np.abs(values) / np.linalg.norm(values, axis=1, keepdims=True)
    return values * rng.uniform(0.85, 1.0, (m, 1)) if kind == "scattered" else values


def arrangement(values: np.ndarray) -> np.ndarray:
    """Vertices, in integers, of the cells on which all values keep their order and sign."""
    everyone = np.unique(values.astype(np.int64), axis=0)
    d = everyone.shape[1]
    pairs = [a - b for a, b in itertools.combinations(everyone, 2)]
    planes = np.unique(np.array([*pairs, *everyone, *np.eye(d, dtype=np.int64)]), axis=0)
    chosen = planes[list(itertools.combinations(range(len(planes)), d - 1))]
    if d == 2:
        points = np.column_stack([chosen[:, 0, 1], -chosen[:, 0, 0]])
    elif d == 3:
        points = np.cross(chosen[:, 0], chosen[:, 1])
    else:
        minors = [np.delete(chosen, i, axis=2) for i in range(d)]
        points = np.column_stack(
            [
                (-1) ** i * (c[:, 0] * np.cross(c[:, 1], c[:, 2])).sum(1)
                for i, c in enumerate(minors)
            ]
        )
    points = np.concatenate([points, -points])
    return points[(points >= 0).all(axis=1) & (points > 0).any(axis=1)]


def smallest(values: np.ndarray, epsilon: float, delta: float) -> int:
    """The size of the smallest subset within (ε, δ), every subset tried, in exact arithmetic."""
    points = arrangement(values)
    worth = points @ values.T
    opt = worth.max(axis=1)
    least = opt - epsilon * np.maximum(opt, 0) - delta * points.sum(axis=1)
    covers = worth >= least[:, np.newaxis]
    return next(
        size
        for size in range(1, len(values) + 1)
        for subset in itertools.combinations(range(len(values)), size)
        # Where all values are linear, who is best among the subset does not change.
        if covers[:, subset].any(axis=1).all()
    )


def within(
    values: np.ndarray, chosen: np.ndarray, epsilon: float, delta: float, n: int = 100_000
) -> bool:
    """Whether the chosen are within (ε, δ) at many weights, near the faces too."""
    d = values.shape[1]
    rng = np.random.default_rng(0)
    weights = np.concatenate(
        [np.eye(d), sample_weights(n // 2, d, seed=rng), rng.dirichlet(np.full(d, 0.3), n // 2)]
    )
    opt, best = (weights @ values.T).max(axis=1), (weights @ values[chosen].T).max(axis=1)
    return bool((best >= opt - epsilon * np.maximum(opt, 0) - delta - 1e-9).all())


# --- smallest, and within the tolerance -----------------------------------------------


@given(integers(), TOLERANCES, SLACKS)
@example(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), 0.0, 0.0)  # collinear
@example(np.array([[1.0, 1.0], [1.0, 1.0]]), 0.0, 0.0)  # equal
# opt changes its sign: the second covers both ends, and not the middle.
@example(np.array([[-4.0, 4.0], [-3.0, 2.0]]), 0.5, 0.0)
def test_no_subset_is_smaller(values: np.ndarray, epsilon: float, delta: float) -> None:
    report = minimal_portfolio(values, epsilon=epsilon, delta=delta)
    assert report.status == "optimal"
    assert report.lower_bound == report.upper_bound == len(report.indices)
    assert report.upper_bound == smallest(values, epsilon, delta)
    assert len(violations(values[report.indices], values, epsilon=epsilon, delta=delta)) == 0


@settings(max_examples=20)
@given(integers(4, 4), TOLERANCES, SLACKS)
def test_no_subset_of_four_objectives_is_smaller(
    values: np.ndarray, epsilon: float, delta: float
) -> None:
    found = minimal_portfolio(values, epsilon=epsilon, delta=delta)
    assert len(found) == smallest(values, epsilon, delta)


@settings(max_examples=25)
@given(
    st.sampled_from(["front", "scattered", "signed"]),
    st.integers(2, 5),
    st.integers(1, 8),
    st.integers(0, 2**16),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.sampled_from([0.0, 0.0, 0.05]),
)
def test_no_subset_of_floats_is_smaller(
    kind: str, d: int, m: int, seed: int, epsilon: float, delta: float
) -> None:
    values = made(kind, m, d, seed)
    report = minimal_portfolio(values, epsilon=epsilon, delta=delta)
    assert report.status == "optimal"
    assert within(values, report.indices, epsilon, delta)
    for subset in itertools.combinations(range(m), report.upper_bound - 1):
        if subset:
            assert not within(values, np.array(subset), epsilon, delta, 200) or len(
                violations(values[list(subset)], values, epsilon=epsilon, delta=delta)
            )


@pytest.mark.parametrize(
    ("kind", "m", "d", "epsilon"),
    [("scattered", 100, 3, 0.02), ("scattered", 60, 5, 0.15), ("front", 40, 4, 0.05)],
)
def test_larger_sets_are_proven_and_hold_at_every_weight(
    kind: str, m: int, d: int, epsilon: float
) -> None:
    values = made(kind, m, d, 1)
    report = minimal_portfolio(values, epsilon=epsilon)
    assert report.status == "optimal"
    assert report.gaps.epsilon == gaps(values[report.indices], values).epsilon <= epsilon + 1e-9
    assert within(values, report.indices, epsilon, 0.0)


def test_weights_between_the_first_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    # The second covers the vertices, but loses 1 where opt changes its sign.
    monkeypatch.setattr(_cuts, "_FIRST_WEIGHTS", 3)
    values = np.array([[4.0, -4.0, -4.0], [2.0, -4.0, -3.0]])
    assert minimal_portfolio(values, epsilon=0.5).tolist() == [0, 1]


@pytest.mark.parametrize("d", [2, 3, 4])
def test_order_copies_and_dominated_policies_change_nothing(d: int) -> None:
    values = made("scattered", 30, d, 5)
    size = len(minimal_portfolio(values, epsilon=0.03))
    order = np.random.default_rng(0).permutation(30)
    assert len(minimal_portfolio(values[order], epsilon=0.03)) == size
    more = np.concatenate([values, values, values - 0.01])
    found = minimal_portfolio(more, epsilon=0.03)
    assert len(found) == size
    assert found.max() < 30


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("d", [2, 3])
def test_units_of_reward_change_nothing(d: int, scale: float) -> None:
    values = made("scattered", 40, d, 2)
    before = minimal_portfolio(values, epsilon=0.02, delta=0.01)
    after = minimal_portfolio(values * scale, epsilon=0.02, delta=0.01 * scale)
    np.testing.assert_array_equal(before, after)


def test_the_regulariser_counts() -> None:
    rewards = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.9]]
    assert minimal_portfolio(rewards, epsilon=0.15).tolist() == [2]
    costly = PolicySet(rewards, [0.0, 0.0, 0.5])
    assert minimal_portfolio(costly, epsilon=0.15).tolist() == [0, 1]


@given(integers(2, 2), SLACKS)
def test_a_looser_tolerance_never_needs_more(values: np.ndarray, delta: float) -> None:
    sizes = [
        len(minimal_portfolio(values, epsilon=epsilon, delta=delta))
        for epsilon in (0.0, 0.1, 0.2, 0.5, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True)


# --- known fronts ---------------------------------------------------------------------

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


def front(name: str) -> np.ndarray:
    known = runpy.run_path(str(Path(__file__).with_name("ground_truths.py")))
    return np.array(known[name], dtype=np.float64)


@pytest.mark.parametrize("name", SUPPORTED)
def test_nothing_may_be_lost_keeps_the_supported_points(name: str) -> None:
    points = front(name)
    report = minimal_portfolio(points)
    assert report.status == "optimal"
    assert report.upper_bound == SUPPORTED[name]
    assert (report.gaps.epsilon, report.gaps.delta) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "size"),
    [("DEEP_SEA_TREASURE", 5), ("DEEP_SEA_TREASURE_CONCAVE", 2), ("RESOURCE_GATHERING", 4)],
)
def test_known_fronts_within_a_twentieth(name: str, size: int) -> None:
    """Negative optima, and an optimum of zero: every smaller subset loses more."""
    points = front(name)
    report = minimal_portfolio(points, epsilon=0.05)
    assert report.upper_bound == size
    assert report.gaps.epsilon <= 0.05
    subsets = itertools.combinations(range(len(points)), size - 1)
    assert min(gaps(points[list(subset)], points).epsilon for subset in subsets) > 0.05


# --- two objectives -------------------------------------------------------------------


@given(
    st.sampled_from(["front", "scattered", "signed", "negative"]),
    st.integers(1, 25),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.01, 0.1]),
)
def test_intervals_and_cuts_agree(
    kind: str, m: int, seed: int, epsilon: float, delta: float
) -> None:
    values = made("signed" if kind == "negative" else kind, m, 2, seed)
    values = values - 10.0 if kind == "negative" else values
    report = minimal_portfolio(values, epsilon=epsilon, delta=delta)
    opt = envelope_values(values, corner_weights(values))
    keeps_sign = not opt.min() < 0 < opt.max()
    assert (report.solver == "intervals") == (epsilon == 0 or keeps_sign)
    loop = CutLoop(PolicySet(values).values(), epsilon=epsilon, delta=delta)
    loop.run(solver=None, deadline=time.perf_counter() + 60)
    assert loop.lower == len(loop.valid) == report.upper_bound


@given(
    st.sampled_from(["front", "scattered", "negative"]),
    st.integers(1, 25),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    st.sampled_from([0.0, 0.05]),
)
def test_a_policy_covers_its_interval_and_nothing_else(
    kind: str, m: int, seed: int, epsilon: float, delta: float
) -> None:
    values = made("front" if kind == "negative" else kind, m, 2, seed)
    values = values - 10.0 if kind == "negative" else values
    intervals = covered_intervals(values, epsilon, delta)
    assert intervals is not None
    weights = np.concatenate([sample_weights(2000, 2, seed=seed), np.eye(2)])
    with np.errstate(divide="ignore"):
        ratio = (weights[:, 1] / weights[:, 0])[:, np.newaxis]
    worth = weights @ values.T
    opt = worth.max(axis=1, keepdims=True)
    excess = worth - (opt - epsilon * np.maximum(opt, 0) - delta)
    inside = (ratio >= intervals[:, 0]) & (ratio <= intervals[:, 1])
    np.testing.assert_array_equal(inside[excess > 1e-9], True)
    np.testing.assert_array_equal(inside[excess < -1e-9], False)


def test_fewest_intervals() -> None:
    nan, inf = np.nan, np.inf
    assert fewest_intervals(
        np.array([[0, 1], [0, 2], [nan, nan], [2, inf], [1, inf]])
    ).tolist() == [1, 3]
    assert fewest_intervals(np.array([[0, inf], [0, inf]])).tolist() == [0]
    assert fewest_intervals(np.array([[0, 1], [2, inf]])) is None
    assert fewest_intervals(np.array([[0, 1], [np.nextafter(1, 2), inf]])) is None


def test_a_hundred_thousand_policies_of_two_objectives() -> None:
    angles = np.linspace(0, np.pi / 2, 100_000)
    front = np.column_stack([np.sin(angles), np.cos(angles)])
    report = minimal_portfolio(front, epsilon=0.001)
    # A policy on the circle covers arccos(1 − ε) to both sides.
    assert report.upper_bound == np.ceil(np.pi / 4 / np.arccos(1 - 0.001))
    assert report.status == "optimal"
    assert 0.0009 < report.gaps.epsilon <= 0.001


# --- when time is up ------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 5])
def test_without_time_the_portfolio_is_valid_and_its_bounds_honest(d: int) -> None:
    values = made("front", 60, d, 0)
    report = minimal_portfolio(values, epsilon=0.05, time_limit=1e-9)
    assert report.status == "feasible"
    assert 1 <= report.lower_bound < report.upper_bound == len(report.indices) < 60
    assert len(violations(values[report.indices], values, epsilon=0.05)) == 0


def test_a_solver_out_of_time_leaves_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    values = made("front", 60, 4, 0)
    proven = minimal_portfolio(values, epsilon=0.05)
    solve = setcover.solve_set_cover

    def hurried(bits: Any, n_columns: int, **options: Any) -> setcover.SetCover:
        options["time_limit"] = 1e-9
        return solve(bits, n_columns, **options)

    monkeypatch.setattr(setcover, "solve_set_cover", hurried)
    report = minimal_portfolio(values, epsilon=0.05)
    assert report.lower_bound <= proven.lower_bound <= report.upper_bound
    assert len(violations(values[report.indices], values, epsilon=0.05)) == 0
    assert (report.status == "optimal") == (report.lower_bound == report.upper_bound)


def test_a_smaller_cover_that_the_solver_finds_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heuristics' portfolio is not the last word: without them the proof finds it alone."""
    values = made("front", 40, 3, 3)
    expected = minimal_portfolio(values, epsilon=0.02)
    monkeypatch.setattr(_cuts, "_near_smallest", _cuts._greedy)
    monkeypatch.setattr(_cuts, "_FIRST_WEIGHTS", 20)
    report = minimal_portfolio(values, epsilon=0.02)
    assert report.status == expected.status == "optimal"
    assert report.upper_bound == expected.upper_bound
    assert within(values, report.indices, 0.02, 0.0)


# --- requests -------------------------------------------------------------------------


def test_the_report_says_how() -> None:
    report = minimal_portfolio(made("front", 20, 3, 0), epsilon=0.1, delta=0.01, solver="cbc")
    assert (report.epsilon, report.delta) == (0.1, 0.01)
    assert report.rounds >= 1
    assert report.seconds > 0
    assert report.solver in {"greedy", "reduction", "cbc"}
    assert report.indices.dtype == np.intp
    assert (np.diff(report.indices) > 0).all()


def test_bad_requests_are_refused() -> None:
    for field, value in (("epsilon", 1.5), ("epsilon", -0.1), ("delta", -1.0), ("time_limit", 0.0)):
        with pytest.raises(InputError, match=field):
            minimal_portfolio(np.eye(3), **{field: value})
    with pytest.raises(InputError, match="solver"):
        minimal_portfolio(np.eye(2), solver="abacus")
    with pytest.raises(InputError, match="rewards"):
        minimal_portfolio([[1.0], [2.0]])


@pytest.mark.parametrize("d", [2, 3, 5, 12, 400])
def test_the_first_weights_are_few_and_hold_the_vertices(d: int) -> None:
    weights = first_weights(d)
    assert d <= len(weights) <= max(3000, d)
    assert (weights.max(axis=1) == 1).sum() == d


def test_a_tolerance_met_in_neither_reading_at_one_weight_ends():
    """The three that lose most lose too much in each reading of decimals, but at other weights."""
    hundredths = [[23, 21, 97], [68, 40, 82], [9, 98, 88], [76, 58, 21], [29, 24, 27]]
    hundredths += [[69, 38, 97], [30, 14, 34], [1, 24, 64]]
    found = minimal_portfolio(
        np.array(hundredths) / 100, epsilon=0.19489144316730517, time_limit=20.0
    )
    assert (found.status, len(found), found.lower_bound) == ("optimal", 3, 3)


def test_intervals_of_the_smallest_numbers_there_are() -> None:
    found = minimal_portfolio([[-1.5e-323, 1e-323], [2e-323, 0.0], [0.42, 0.0]])
    assert (list(found), found.status) == ([0, 2], "optimal")
