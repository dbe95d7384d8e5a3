"""Exact gaps against exact integer arithmetic, dense samples, and one another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import (
    InputError,
    PolicySet,
    WorkError,
    gap_frontier,
    gaps,
    gaps_without,
    sample_weights,
    violations,
)
from palm_core.geometry import envelope

EPSILONS = [0.0, 0.25, 0.5, 1.0]


class Exact(NamedTuple):
    """opt and L at every vertex of an arrangement, in integers; weights not divided by total."""

    opt: np.ndarray
    best: np.ndarray
    total: np.ndarray

    @property
    def delta(self) -> float:
        return float(((self.opt - self.best) / self.total).max())

    @property
    def epsilon(self) -> float:
        loss = self.opt - self.best
        if (loss[self.opt <= 0] > 0).any():
            return np.inf
        good = self.opt > 0
        return float((loss[good] / self.opt[good]).max(initial=0.0))

    def frontier(self, epsilon: float) -> float:
        """Exact for ε with few binary digits."""
        excess = self.opt - epsilon * np.maximum(self.opt, 0) - self.best
        return float((excess / self.total).max())


def exact(portfolio: np.ndarray, candidates: np.ndarray) -> Exact:
    """Every cell on which all policies keep their order and their sign has its vertices here.

    On such a cell opt and L are linear and keep their sign, so each supremum is at
    a vertex. Integers throughout: the weights are cofactors of d − 1 hyperplanes.
    """
    everyone = np.unique(np.concatenate([portfolio, candidates]), axis=0).astype(np.int64)
    d = everyone.shape[1]
    pairs = [a - b for a, b in itertools.combinations(everyone, 2)]
    planes = np.unique(np.array([*pairs, *everyone, *np.eye(d, dtype=np.int64)]), axis=0)
    chosen = planes[list(itertools.combinations(range(len(planes)), d - 1))]
    columns = [np.delete(chosen, i, axis=2) for i in range(d)]
    if d == 2:
        minors = [c[:, 0, 0] for c in columns]
    elif d == 3:
        minors = [c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1] * c[:, 1, 0] for c in columns]
    else:
        minors = [(c[:, 0] * np.cross(c[:, 1], c[:, 2])).sum(axis=1) for c in columns]
    points = np.column_stack([m * (-1) ** i for i, m in enumerate(minors)])
    points = np.concatenate([points, -points])
    points = points[(points >= 0).all(axis=1) & (points > 0).any(axis=1)]
    best = (points @ portfolio.astype(np.int64).T).max(axis=1)
    opt = np.maximum(best, (points @ candidates.astype(np.int64).T).max(axis=1))
    return Exact(opt, best, points.sum(axis=1))


@st.composite
def integer_pairs(draw: st.DrawFn, most_d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Few policies with small integer values: ties, zero optima and negative ones abound."""
    d = draw(st.integers(2, most_d))
    sizes = (4, 4) if d == 2 else (3, 3)
    low = draw(st.sampled_from([-3, -1, 0, 0]))

    def policies(most: int) -> np.ndarray:
        m = draw(st.integers(1, most))
        return draw(arrays(np.float64, (m, d), elements=st.integers(low, 4).map(float)))

    return policies(sizes[0]), policies(sizes[1])


@st.composite
def float_pairs(
    draw: st.DrawFn, least_d: int = 2, most_d: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    d = draw(st.integers(least_d, most_d))
    p, c = draw(st.integers(1, 6)), draw(st.integers(1, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["uniform", "signed", "front", "offset"]))
    both = rng.normal(size=(p + c, d))
    if kind != "signed":
        both = np.abs(both)
    if kind == "front":
        both /= np.linalg.norm(both, axis=1, keepdims=True)
    if kind == "offset":
        both += 1000.0
    return both[:p], both[p:]


def methods(portfolio: np.ndarray) -> Iterator[Any]:
    """Both algorithms where there are two."""
    yield "corners"
    if portfolio.shape[1] > 2:
        yield "programs"


def values_at(
    portfolio: np.ndarray, candidates: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    best = (weights @ portfolio.T).max(axis=1)
    return np.maximum(best, (weights @ candidates.T).max(axis=1)), best


# --- against exact arithmetic ---------------------------------------------------------


@given(integer_pairs())
@example((np.array([[0.0, 2.0]]), np.array([[0.0, 3.0]])))  # opt = L = 0 at e_1
@example((np.array([[0.0, 2.0]]), np.array([[-1.0, 3.0]])))
@example((np.array([[-1.0, 2.0]]), np.array([[0.0, 2.0]])))  # opt = 0 > L at e_1
@example((np.array([[-1.0, 2.0]]), np.array([[1.0, 1.0]])))  # L < 0 < opt
@example((np.array([[-1.0, -2.0]]), np.array([[-1.0, -2.0]])))  # opt < 0, nothing lost
@example((np.array([[-1.0, -2.0, 3.0]]), np.array([[-1.0, -2.0, 4.0]])))
@example((np.array([[-1.0, -1.0, 3.0]]), np.array([[-2.0, 1.0, 2.0]])))
# Lost where opt < 0, but at no corner of L.
@example((np.array([[-1.0, 1.0, 1.0]]), np.array([[-1.0, 2.0, 1.0]])))
# L < 0 somewhere, and only elsewhere something is lost.
@example((np.array([[-2.0, 2.0, 2.0]]), np.array([[-4.0, 1.0, 3.0]])))
# opt touches 0 between two corners, at weights that are rounded.
@example((np.array([[-1.0, -1.0]]), np.array([[3.0, -7.0], [-3.0, 7.0]])))
@example((np.array([[-1.0, -1.0, -1.0]]), np.array([[3.0, -7.0, 3.0], [-3.0, 7.0, -2.0]])))
def test_gaps_are_those_of_exact_arithmetic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = exact(*pair)
    for method in methods(pair[0]):
        found = gaps(*pair, method=method)
        assert found.delta == pytest.approx(expected.delta, rel=1e-9, abs=1e-12)
        assert found.epsilon == pytest.approx(expected.epsilon, rel=1e-9, abs=1e-12)
        assert bool(found.note) == (expected.epsilon > 1)


@settings(max_examples=25)
@given(integer_pairs(4))
def test_gaps_of_four_objectives_too(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assume(pair[0].shape[1] == 4)
    expected = exact(*pair)
    for method in methods(pair[0]):
        found = gaps(*pair, method=method)
        assert found.delta == pytest.approx(expected.delta, rel=1e-9, abs=1e-12)
        assert found.epsilon == pytest.approx(expected.epsilon, rel=1e-9, abs=1e-12)


@given(integer_pairs())
# Nothing is lost at ε = 0.5 but where opt changes its sign.
@example((np.array([[2.0, -4.0]]), np.array([[4.0, -4.0]])))
@example((np.array([[2.0, -4.0, -4.0]]), np.array([[4.0, -4.0, -4.0]])))
def test_the_frontier_is_that_of_exact_arithmetic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = exact(*pair)
    for method in methods(pair[0]):
        found = gap_frontier(*pair, EPSILONS, method=method)
        want = [max(expected.frontier(epsilon), 0.0) for epsilon in EPSILONS]
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
        assert (np.diff(found) <= 1e-12).all()


@given(integer_pairs(), st.sampled_from(EPSILONS), st.sampled_from([0.0, 0.125, 1.0]))
@example((np.array([[2.0, -4.0]]), np.array([[4.0, -4.0]])), 0.5, 0.125)
@example((np.array([[2.0, -4.0, -4.0]]), np.array([[4.0, -4.0, -4.0]])), 0.5, 0.125)
def test_violations_are_found_if_and_only_if_there_are_any(
    pair: tuple[np.ndarray, np.ndarray], epsilon: float, delta: float
) -> None:
    expected = exact(*pair)
    for method in methods(pair[0]):
        found = violations(*pair, epsilon=epsilon, delta=delta, method=method)
        assert (len(found) > 0) == (expected.frontier(epsilon) > delta)
        opt, best = values_at(*pair, found)
        assert (best < opt - epsilon * np.maximum(opt, 0) - delta).all()
        assert len(np.unique(found, axis=0)) == len(found)


# --- against samples ------------------------------------------------------------------


@settings(max_examples=25)
@given(float_pairs(), st.integers(0, 2**16))
def test_no_sampled_gap_is_larger_and_the_weights_attain_it(
    pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    d = pair[0].shape[1]
    rng = np.random.default_rng(seed)
    weights = np.concatenate(
        [sample_weights(50_000, d, seed=rng), rng.dirichlet(np.full(d, 0.2), 50_000), np.eye(d)]
    )
    opt, best = values_at(*pair, weights)
    size = np.abs(np.concatenate(pair)).max()
    for method in methods(pair[0]):
        found = gaps(*pair, method=method)
        assert (opt - best).max() <= found.delta + 1e-12 * size
        if found.epsilon < np.inf:
            allowed = opt - found.epsilon * np.maximum(opt, 0)
            assert (best >= allowed - 1e-9 * size).all()
        there, here = (
            values_at(*pair, w[np.newaxis]) for w in (found.delta_weights, found.epsilon_weights)
        )
        assert there[0] - there[1] == pytest.approx(found.delta, rel=1e-9, abs=1e-12 * size)
        if np.isinf(found.epsilon):
            assert here[0] <= 1e-9 * size
            assert here[0] > here[1]
        else:
            lost = here[0] - here[1]
            assert lost == pytest.approx(found.epsilon * here[0], rel=1e-9, abs=1e-12 * size)


# --- corners and programs -------------------------------------------------------------


@settings(max_examples=40)
@given(float_pairs(least_d=3), st.sampled_from([0.0, 0.1, 0.7]))
def test_corners_and_programs_agree(pair: tuple[np.ndarray, np.ndarray], epsilon: float) -> None:
    size = np.abs(np.concatenate(pair)).max()
    corners, programs = (gaps(*pair, method=method) for method in ("corners", "programs"))
    assert corners.delta == pytest.approx(programs.delta, rel=1e-9, abs=1e-11 * size)
    assert corners.epsilon == pytest.approx(programs.epsilon, rel=1e-9, abs=1e-11 * size)
    assert gap_frontier(*pair, epsilon, method="corners") == pytest.approx(
        gap_frontier(*pair, epsilon, method="programs"), rel=1e-9, abs=1e-11 * size
    )


@pytest.mark.parametrize(
    ("rivals_are", "m"), [("a front", 200), ("scattered", 1000), ("signed", 200)]
)
def test_twelve_objectives(rivals_are: str, m: int) -> None:
    rng = np.random.default_rng(0)
    both = np.abs(rng.normal(size=(m + 40, 12)))
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    if rivals_are == "scattered":
        both *= rng.uniform(0.7, 1.0, (m + 40, 1))
    if rivals_are == "signed":
        both -= 0.25
    portfolio, candidates = both[:40], both[40:]
    found = gaps(portfolio, candidates)
    weights = np.concatenate([sample_weights(20_000, 12), rng.dirichlet(np.full(12, 0.1), 20_000)])
    opt, best = values_at(portfolio, candidates, weights)
    assert 0 < (opt - best).max() <= found.delta
    allowed = opt - found.epsilon * np.maximum(opt, 0)
    assert (best >= allowed - 1e-9).all()
    left = violations(portfolio, candidates, delta=0.9 * found.delta)
    opt, best = values_at(portfolio, candidates, left)
    assert (opt - best > 0.9 * found.delta).all()
    assert (opt - best).max() == pytest.approx(found.delta, rel=1e-9)


@pytest.mark.parametrize("method", ["auto", "corners"])
def test_programs_take_over_where_corners_fail(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    portfolio = rng.uniform(0, 1, (4, 3)) - [1.5, 0, 0]
    candidates = rng.uniform(0, 1, (9, 3)) - [1.5, 0, 0]
    expected = gaps(portfolio, candidates)
    calls = 0

    def fails(values: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        raise WorkError("no corners today")

    monkeypatch.setattr(envelope, "_corners", fails)
    found = gaps(portfolio, candidates, method=method)
    assert (found.epsilon, found.delta) == (expected.epsilon, expected.delta)
    assert len(violations(portfolio, candidates, delta=found.delta, method=method)) == 0
    less = np.nextafter(found.delta, 0)
    assert len(violations(portfolio, candidates, delta=less, method=method)) > 0
    assert calls


# --- scale, units, origin -------------------------------------------------------------


@settings(max_examples=40)
@given(float_pairs(), st.sampled_from([1e-6, 1e6, 2.0**-40]))
def test_scaling_all_rewards_scales_delta_only(
    pair: tuple[np.ndarray, np.ndarray], scale: float
) -> None:
    for method in methods(pair[0]):
        before = gaps(*pair, method=method)
        after = gaps(pair[0] * scale, pair[1] * scale, method=method)
        # Scaling itself rounds, by up to 2^-53 of the rewards' size.
        rounding = 1e-14 * np.abs(np.concatenate(pair)).max()
        assert after.delta / scale == pytest.approx(before.delta, rel=1e-9, abs=rounding)
        assert after.epsilon == pytest.approx(before.epsilon, rel=1e-9, abs=1e-11)


@settings(max_examples=40)
@given(float_pairs(), st.integers(0, 2**16))
def test_units_of_objectives_leave_epsilon(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    units = 10.0 ** np.random.default_rng(seed).integers(-4, 5, pair[0].shape[1])
    for method in methods(pair[0]):
        before = gaps(*pair, method=method).epsilon
        after = gaps(pair[0] * units, pair[1] * units, method=method)
        assert after.epsilon == pytest.approx(before, rel=1e-8, abs=1e-9)
        if np.isinf(before):
            weights = after.epsilon_weights * units
            opt, best = values_at(*pair, weights[np.newaxis] / weights.sum())
            assert best < opt <= 1e-9


@pytest.mark.parametrize("method", ["corners", "programs"])
def test_where_opt_falls_to_zero_is_found_in_any_units(method: Any) -> None:
    # Most is lost at e_1, where opt = 3 and L = −1; at e_2 opt = L = −3. Between them
    # opt falls to 0 where 3·w_1 = 4·w_2, and nothing makes up for a loss there.
    units = np.array([1000.0, 0.01, 1.0])
    found = gaps([units * [-1, -3, 1]], [units * [3, -4, 0]], method=method)
    assert found.epsilon == np.inf
    weights = found.epsilon_weights * units
    np.testing.assert_allclose(weights / weights.sum(), [4 / 7, 3 / 7, 0], atol=1e-9)


@settings(max_examples=40)
@given(float_pairs(), st.integers(0, 2**16))
def test_moving_the_origin_leaves_delta(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    step = np.random.default_rng(seed).normal(size=pair[0].shape[1])
    for method in methods(pair[0]):
        before, after = (
            gaps(*pair, method=method),
            gaps(pair[0] + step, pair[1] + step, method=method),
        )
        size = np.abs(np.concatenate(pair)).max() + 1
        assert after.delta == pytest.approx(before.delta, rel=1e-9, abs=1e-13 * size)


def test_small_differences_of_large_rewards_keep_their_digits() -> None:
    portfolio = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) * 2.0**-10
    rival = np.array([[0.5, 0.5, 0.5]]) * 2.0**-10
    for method in methods(portfolio):
        found = gaps(portfolio + 2.0**20, rival + 2.0**20, method=method)
        assert found.delta == pytest.approx(2.0**-10 / 6, rel=1e-9)


# --- edge cases -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "corners", "programs"])
@pytest.mark.parametrize("d", [2, 3, 5])
def test_nothing_is_lost_by_all_candidates_equal_or_collinear_ones(d: int, method: Any) -> None:
    rng = np.random.default_rng(d)
    for _ in range(5):
        # Whole numbers of 2^-20 and shares of 2^-10: mixtures are exact. About half of opt
        # is negative, where a loss of one last bit would be fatal.
        portfolio = np.rint(rng.normal(size=(3, d)) * 2**20) / 2**20
        share = rng.integers(1, 2**10, (4, 1)) / 2**10
        collinear = share * portfolio[0] + (1 - share) * portfolio[1]
        worse = portfolio - rng.uniform(0, 1, (3, d))
        for candidates in (portfolio, portfolio[:1], collinear, worse, np.tile(portfolio, (2, 1))):
            found = gaps(portfolio, candidates, method=method)
            assert (found.epsilon, found.delta, found.note) == (0.0, 0.0, "")
            assert found.epsilon_weights.sum() == pytest.approx(1)
            assert len(violations(portfolio, candidates, method=method)) == 0


@pytest.mark.parametrize("method", ["auto", "corners", "programs"])
@pytest.mark.parametrize("d", [2, 4])
def test_one_last_bit_above_a_mixture_is_lost(d: int, method: Any) -> None:
    centre = np.full((1, d), 1 / d)
    assert gaps(np.eye(d), centre, method=method).delta == 0
    above = np.nextafter(centre, 1)
    found = gaps(np.eye(d), above, method=method)
    assert found.delta == above[0, 0] - 1 / d
    np.testing.assert_array_equal(found.delta_weights, centre[0])
    assert len(violations(np.eye(d), above, method=method)) > 0
    assert len(violations(np.eye(d), above, delta=found.delta, method=method)) == 0


def test_a_single_policy_against_a_single_one() -> None:
    found = gaps([[1.0, 1.0, 1.0]], [[2.0, 0.0, 0.0]])
    assert (found.epsilon, found.delta) == (0.5, 1.0)
    np.testing.assert_array_equal(found.delta_weights, [1, 0, 0])


def test_where_opt_is_zero_nothing_may_be_lost() -> None:
    # Both are worth 0 at e_1 and lose half elsewhere: 0/0 costs nothing.
    assert gaps([[0.0, 1.0]], [[0.0, 2.0]]).epsilon == 0.5
    assert gaps([[0.0, 1.0, 1.0]], [[0.0, 2.0, 1.0]]).epsilon == 0.5
    # One is below 0 where the other is 0.
    found = gaps([[-1.0, 3.0, 2.0]], [[0.0, 1.0, 1.0]])
    assert found.epsilon == np.inf
    assert "no ε is enough" in found.note
    np.testing.assert_allclose(found.epsilon_weights, [1, 0, 0], atol=1e-9)


def test_where_opt_is_negative_only_delta_counts() -> None:
    portfolio, candidates = [[-2.0, 1.0]], [[-1.0, 1.0]]
    found = gaps(portfolio, candidates)
    assert (found.epsilon, found.delta) == (np.inf, 1.0)
    assert len(violations(portfolio, candidates, epsilon=1.0, delta=0.99)) > 0
    assert len(violations(portfolio, candidates, epsilon=0.0, delta=1.0)) == 0


def test_a_loss_of_more_than_all_is_told() -> None:
    # At e_1 opt = 1 and L = −1; opt > 0 everywhere.
    found = gaps([[-1.0, 2.0]], [[1.0, 1.0]])
    assert found.epsilon == pytest.approx(2)
    assert found.note == "opt > 0 at epsilon_weights, and the portfolio is below 0"
    found = gaps([[-1.0, 2.0, 2.0]], [[1.0, 1.0, 1.0]], method="programs")
    assert found.epsilon == pytest.approx(2)


@settings(max_examples=40)
@given(float_pairs())
def test_the_regulariser_counts_at_every_weight(pair: tuple[np.ndarray, np.ndarray]) -> None:
    costs = np.linspace(0, 1, len(pair[0]))
    with_costs = gaps(PolicySet(pair[0], costs), PolicySet(pair[1]))
    # The difference is exact there, and rounded here.
    rounding = 2.0**-52 * (np.abs(np.concatenate(pair)).max() + 1)
    without = gaps(pair[0] - costs[:, np.newaxis], pair[1]).delta
    assert with_costs.delta == pytest.approx(without, rel=1e-15, abs=rounding)


@settings(max_examples=40)
@given(float_pairs())
def test_a_tolerance_just_below_the_gap_is_violated(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for method in methods(pair[0]):
        found = gaps(*pair, method=method)
        assume(1e-3 < found.epsilon <= 1 and found.delta > 1e-3)
        for share, violated in ((1 - 1e-6, True), (1 + 1e-6, False)):
            by_ratio = violations(*pair, epsilon=min(share * found.epsilon, 1), method=method)
            by_loss = violations(*pair, delta=share * found.delta, method=method)
            assert (len(by_loss) > 0) == violated
            assert (len(by_ratio) > 0) == violated


def test_what_each_policy_adds() -> None:
    policies = PolicySet([[1.0, 0.0], [0.8, 0.8], [0.0, 1.0]])
    found = gaps_without(policies, policies)
    assert [gap.delta for gap in found if gap] == pytest.approx([0.2, 0.3, 0.2])
    assert gaps_without([[1.0, 0.0]], policies) == (None,)
    # What a policy adds counts even where the candidates lack it.
    assert gaps_without([[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0]])[0].delta == 1


def test_a_hundred_thousand_candidates_of_two_objectives() -> None:
    angles = np.linspace(0, np.pi / 2, 100_001)
    front = np.column_stack([np.sin(angles), np.cos(angles)])
    found = gaps(front[::10_000], front)
    # On a circle the worst rival is halfway between two neighbours.
    assert found.epsilon == pytest.approx(1 - np.cos(angles[10_000] / 2), rel=1e-9)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(
        InputError, match="portfolio: has 2 objectives, must have the candidates' 3"
    ):
        gaps([[1.0, 0.0]], [[1.0, 0.0, 0.0]])
    with pytest.raises(InputError, match="method = 'simplex': must be one of auto, corners"):
        gaps([[1.0, 0.0]], [[1.0, 0.0]], method="simplex")
    with pytest.raises(InputError, match=r"epsilons = 1.5: must be in \[0, 1\]"):
        gap_frontier([[1.0, 0.0]], [[1.0, 0.0]], [0.1, 1.5])
    with pytest.raises(InputError, match="epsilon"):
        violations([[1.0, 0.0]], [[1.0, 0.0]], epsilon=-0.1)
    with pytest.raises(InputError, match="delta"):
        violations([[1.0, 0.0]], [[1.0, 0.0]], delta=np.nan)
    with pytest.raises(InputError, match="rewards"):
        gaps([[1.0, np.nan]], [[1.0, 0.0]])


@pytest.mark.parametrize(
    ("m", "d", "few"), [(5000, 4, True), (20, 6, True), (1000, 6, False), (40, 12, False)]
)
def test_corners_are_enumerated_only_where_they_are_few(
    m: int, d: int, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fails(values: np.ndarray) -> np.ndarray:
        asked.append(values)
        raise WorkError("no corners today")

    monkeypatch.setattr(envelope, "_corners", fails)
    policies = np.random.default_rng(0).uniform(0, 1, (m, d))
    assert gaps(policies, policies.max(axis=0, keepdims=True) / 2).epsilon < 1
    assert bool(asked) == few


@given(
    st.integers(0, 1000),
    st.integers(2, 4),
    st.sampled_from([-1e6, -1e9, -1e12, -1e14]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_terrible_policy_hides_no_gap(
    seed: int, d: int, terrible: float, chosen: bool, best_somewhere: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.2, 1.0, (8, d))
    row = np.full(d, terrible)
    kept = [0, 1, 2]
    row[-1] = min(0.5, values[kept, -1].max())  # nowhere above all that are kept
    plain = gaps(PolicySet(values[kept]), PolicySet(values))
    if best_somewhere:  # next to one vertex; the gap cannot fall below what it was elsewhere
        row[-1] = values[:, -1].max() + 0.1
        assume(not chosen)
    everyone = PolicySet(np.vstack([values, row]))
    found = gaps(everyone.subset([*kept, 8] if chosen else kept), everyone)
    if best_somewhere:
        assert found.delta >= max(plain.delta, row[-1] - values[kept, -1].max())
        assert found.epsilon >= plain.epsilon
    else:
        assert (found.delta, found.epsilon) == (plain.delta, plain.epsilon)


@pytest.mark.parametrize("share", [0.96, 0.5])
def test_sentinels_at_both_ends_of_the_range_are_decided(share: float) -> None:
    """Products of 1e300 and of weights near the smallest number: no pivot is taken twice."""
    rows = [[0.5, 0.37, -1e300], [share, 1e300, -1e300], [-1e300, 0.14, -1e300]]
    values = np.array([*rows, [-1e300, 0.44, 0.91], [0.02, 0.5, 0.33]])
    found = gaps(values[[2]], values)
    # Where objective 1 has weight 1 the loss is 0.5 + 1e300 or so of the best, 0.02 to 0.96.
    assert found.delta == pytest.approx(1e300)
    assert found.epsilon > 1e300
    assert gap_frontier(values[[2]], values, [0.5])[0] == pytest.approx(1e300)
