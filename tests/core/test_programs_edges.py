"""What stands behind exact gaps, piece by piece: bounds, programs, signs and zeros."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    InputError,
    WorkError,
    gap_frontier,
    gaps,
    sample_weights,
    serving_shares,
    uniform_lattice,
    violations,
)
from palm_core.cover.minimal import covered_intervals
from palm_core.geometry import envelope
from palm_core.geometry.envelope import envelope_values
from palm_core.geometry.exact import Values, dot
from palm_core.geometry.linear_programs import Program
from palm_core.guarantees.losses import Pair

FEW = settings(max_examples=25)
SEEDS = st.integers(0, 2**16)


def signed(seed: int, m: int, d: int, *, zeros: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.uniform(-1.0, 1.0, (m, d))
    return np.where(random.random((m, d)) < 0.3, 0.0, values) if zeros else values


# --- programs, in rational arithmetic


def program_of(
    portfolio: np.ndarray, candidates: np.ndarray, *, shared: bool
) -> tuple[Program, list[tuple[Fraction, ...]], list[tuple[Fraction, ...]]]:
    """The program of the last candidate, and both sets as rationals."""
    everyone = Values.of(np.concatenate([portfolio, candidates]))
    own = everyone.take(np.arange(len(portfolio)))
    rivals = everyone.take(len(portfolio) + np.arange(len(candidates)))
    program = Program(own, rivals if shared else None, rivals, len(candidates) - 1)
    rows = [
        [tuple(map(Fraction, row)) for row in values.tolist()] for values in (portfolio, candidates)
    ]
    return program, rows[0], rows[1]


@FEW
@given(SEEDS, st.integers(2, 5), st.integers(1, 6), st.booleans())
def test_a_largest_loss_is_proven_from_both_sides(seed, d, p, zeros):
    """Weights that attain it, and a mixture from which no weights lose more."""
    portfolio = signed(seed, p, d, zeros=zeros)
    # Each again and again with other last bits: float64 cannot tell which is the best.
    bits = np.random.default_rng(seed).integers(-2, 3, (3, p, d))
    portfolio = np.concatenate([portfolio, *(portfolio + bits * np.spacing(portfolio))])
    program, own, rivals = program_of(portfolio, signed(seed + 1, 1, d, zeros=zeros), shared=False)
    value, weights, mixture = program.loss(0)
    assert sum(weights) == sum(mixture.values()) == 1
    assert min(weights) >= 0 < min(mixture.values())
    lost = dot(weights, rivals[0]) - max(dot(weights, row) for row in own)
    assert value == lost if value else lost <= 0
    mixed = [sum(share * own[place][i] for place, share in mixture.items()) for i in range(d)]
    assert value == max(0, *(c - m for c, m in zip(rivals[0], mixed, strict=True)))


@FEW
@given(SEEDS, st.integers(2, 4), st.integers(1, 5), st.sampled_from([0.25, 0.5, 1.0]))
def test_a_loss_beyond_a_share_is_attained(seed, d, p, epsilon):
    program, own, rivals = program_of(signed(seed, p, d), signed(seed + 1, 4, d), shared=True)
    value, weights, _ = program.loss(0, Fraction(epsilon))
    assert sum(weights) == 1
    assert min(weights) >= 0
    opt = max(dot(weights, row) for row in rivals)
    lower = max(dot(weights, row) for row in own)
    excess = dot(weights, rivals[-1]) - Fraction(epsilon) * max(opt, 0) - lower
    assert value == excess if value else excess <= 0


@FEW
@given(SEEDS, st.integers(2, 4), st.integers(1, 5), st.sampled_from([0.0, 0.8]))
def test_the_least_share_is_attained_and_enough(seed, d, p, shift):
    portfolio, candidates = signed(seed, p, d) + shift, signed(seed + 1, 4, d) + shift
    program, own, rivals = program_of(portfolio, candidates, shared=True)
    value, weights, _ = program.share(0)
    opt = max(dot(weights, row) for row in rivals)
    lower, high = max(dot(weights, row) for row in own), dot(weights, rivals[-1])
    if value is None:
        assert opt <= 0
        assert lower < high
    else:
        assert value >= 0
        # No smaller one is enough there, and this one is everywhere.
        assert not value or high - value * max(opt, 0) == lower
        assert program.loss(0, value).value == 0


def test_small_differences_of_large_rewards_keep_their_digits():
    far = 1e9 + np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    middle = 1e9 + np.full((1, 3), 0.5)
    for method in ("corners", "programs"):
        assert gaps(far, middle, method=method).delta == pytest.approx(0.5 - 1 / 3, rel=1e-15)


def test_a_ratio_has_no_units():
    pieces, candidate = np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.125]]), np.array([[0.75, 0.5, 1]])
    plain = gaps(pieces, candidate, method="programs").epsilon
    units = 2.0 ** np.array([-20, 10, 0])
    assert gaps(pieces * units, candidate * units, method="programs").epsilon == plain
    assert gaps([[0.5, 0.0]], [[1.0, 0.0]], method="programs").epsilon == 0.5


@FEW
@given(SEEDS, st.integers(2, 3))
def test_below_zero_the_deepest_loss_is_the_largest_share(seed, d):
    random = np.random.default_rng(seed)
    pieces = random.uniform(-1.0, 0.0, (3, d))
    candidates = random.uniform(0.5, 1.0, (4, d))
    found = gaps(pieces, candidates)
    lattice = uniform_lattice(d, 60 if d == 3 else 2000)
    shares = 1 - (lattice @ pieces.T).max(axis=1) / (lattice @ candidates.T).max(axis=1)
    weights = found.epsilon_weights
    attained = 1 - float((pieces @ weights).max()) / float((candidates @ weights).max())
    assert found.epsilon == pytest.approx(attained, rel=1e-14)
    assert shares.max() - 1e-14 <= found.epsilon <= shares.max() + 0.1


def test_a_loss_without_end_is_infinite():
    for method in ("corners", "programs"):
        found = gaps([[-1.0, 1.0]], [[0.0, 1.0]], method=method)
        assert np.isinf(found.epsilon)
        assert found.epsilon_weights.tolist() == [1.0, 0.0]
        found = gaps([[-1.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]], method=method)
        assert np.isinf(found.epsilon)
        assert found.epsilon_weights.sum() == pytest.approx(1.0)
        assert gaps([[-1.0, 1.0]], [[2.0**-20, 1.0]], method=method).epsilon == 1 + 2.0**20


def test_weights_of_a_negative_gap_are_on_the_simplex_in_any_units():
    for units in ([1.0, 1.0, 1.0], [1e3, 1.0, 1e-3]):
        portfolio, candidate = np.array([[-1.0, 0.5, 0.5]]) * units, np.array([[1.0, 1.0, 1.0]])
        found = gaps(portfolio, candidate * units, method="programs")
        assert found.epsilon == 2.0
        assert found.epsilon_weights.tolist() == [1.0, 0.0, 0.0]


def test_where_nothing_is_enough_opt_is_not_above_zero():
    found = gaps([[-1.0, 1.0]], [[-0.5, 1.0]])
    assert np.isinf(found.epsilon)
    best, own = found.epsilon_weights @ [-0.5, 1.0], found.epsilon_weights @ [-1.0, 1.0]
    assert own < best <= 0


# --- signs


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from([-0.5, -0.2, 0.0, 0.2, 0.5]))
def test_where_a_portfolio_is_below_zero_is_told(seed, d, shift):
    values = signed(seed, 3, d) + shift
    at = Pair.of(values, values[:1]).below_zero()
    lowest = envelope_values(values, np.concatenate([np.eye(d), sample_weights(4000, d)])).min()
    if at is None:
        assert lowest >= 0
    else:
        assert at.sum() == pytest.approx(1)
        assert (values @ at).max() < 0


@pytest.mark.parametrize(
    ("values", "below"),
    [
        ([[0.0, 0.0], [-1.0, 2.0]], False),  # one is never below zero
        ([[0.5, 0.25], [-1.0, 2.0]], False),
        ([[1.0, -1.0], [-1.0, 1.0]], False),  # neither is above it everywhere, both together are
        ([[1.0, np.nextafter(-1.0, -2.0)], [-1.0, 1.0]], True),
        ([[-1.0, 0.5], [-0.5, -2.0]], True),
        ([[1000.0, -2.0], [-2.0, 0.004]], False),
        ([[1000.0, -2.0], [-2.0, np.nextafter(0.004, 0.0)]], True),
        ([[1000.0, -100.0], [-0.1, 0.001]], True),
    ],
)
def test_signs_of_small_sets(values, below):
    assert (Pair.of(values, values).below_zero() is not None) is below
    # A rival that is zero throughout costs nothing where L ≥ 0, and everything elsewhere.
    found = gaps(values, [[0.0, 0.0]])
    assert (found.epsilon, found.delta > 0) == ((np.inf, True) if below else (0.0, False))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([[0.0, 0.0], [-1.0, 2.0]], True),
        ([[1.0, -1.0], [-1.0, 1.0]], True),
        ([[-1.0, 0.0], [-0.5, -2.0]], True),
        ([[-1.0, 0.5], [-0.5, -2.0]], False),
        ([[1000.0, -2.0], [-2.0, 0.001]], False),
        ([[1000.0, -100.0], [-0.1, 0.001]], False),
    ],
)
def test_intervals_need_an_optimum_of_one_sign(values, kept):
    assert (covered_intervals(np.array(values), 0.1, 0.0) is not None) is kept
    assert covered_intervals(np.array(values), 0.0, 0.0) is not None


# --- violations


@pytest.mark.parametrize("method", ["corners", "programs"])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4, 2.0**-30])
def test_a_loss_of_exactly_the_tolerance_is_none(scale, method):
    portfolio, candidate = scale * np.eye(4), scale * np.full((1, 4), 0.5)
    loss = scale / 4
    assert violations(portfolio, candidate, delta=loss, method=method).shape == (0, 4)
    assert violations(portfolio, candidate, epsilon=0.5, method=method).shape == (0, 4)
    for options in ({"delta": np.nextafter(loss, 0)}, {"epsilon": np.nextafter(0.5, 0)}):
        found = violations(portfolio, candidate, **options, method=method)
        assert found.tolist() == [[0.25] * 4]


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

    def fails(values):
        asked.append(len(values))
        raise WorkError("no corners today")

    monkeypatch.setattr(envelope, "_corners", fails)
    values, rival = np.eye(3), [[0.9, 0.9, 0.0]]
    for ask in (
        lambda **options: violations(values, rival, **options),
        lambda **options: gap_frontier(values, rival, [0.1], **options),
        lambda **options: gaps(values, rival, **options),
    ):
        for options, corners in (({}, True), ({"method": "corners"}, True)):
            ask(**options)
            assert bool(asked) is corners
            asked.clear()
        ask(method="programs")
        assert not asked


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


def test_a_gap_of_two_objectives_is_exact():
    found = gaps(np.eye(2), [[0.75, 0.75]])
    # The least float64 number that is not below 1/3.
    assert (found.delta, found.epsilon) == (0.25, np.nextafter(1 / 3, 1))
