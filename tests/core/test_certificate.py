"""Certificates: never below the true gap, and as small as the answers allow."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from palm_core import (
    InputError,
    PolicySet,
    TabularOracle,
    certify,
    corner_weights,
    sample_weights,
    uniform_lattice,
)
from palm_core.geometry.polyhedron import Envelope, Hull
from palm_core.guarantees import certificate
from palm_core.guarantees.certificate import Accuracy, Answers, clean_weights
from palm_core.guarantees.subdivision import Sandwich, Subdivision, mixture_bounds
from palm_core.plugin import bound_text

SEEDS = st.integers(0, 2**32 - 1)
METHODS = st.sampled_from(["corners", "subdivision"])
ROUNDING = 1e-12
FEW = settings(max_examples=25)


def small_oracle(d, seed=0, beta=0.1, shift=0.0):
    return TabularOracle(np.random.default_rng(seed).random((3, 12, d)) + shift, beta=beta)


def optima(oracle, weights):
    """opt(w) for many weights at once, from the closed form."""
    rewards, beta = oracle._rewards, oracle.beta
    parts = []
    for rows in np.array_split(weights, max(1, len(weights) // 5000)):
        score = np.einsum("xyd,kd->kxy", rewards, rows) / beta
        top = score.max(axis=2, keepdims=True)
        mass = (np.exp(score - top) * oracle._reference).sum(axis=2)
        parts.append(beta * (np.log(mass) + top[..., 0]).mean(axis=1))
    return np.concatenate(parts)


def solve(oracle, weights):
    policies = list(oracle.solve(weights))
    return PolicySet([p.rewards for p in policies], [p.regularizer for p in policies])


def inexact(oracle, weights, epsilon, delta, seed):
    """True policies of the class, each behind opt at its weight by a share of what is claimed."""
    rng = np.random.default_rng(seed)
    rows = []
    for w in weights:
        opt = oracle.value(w)[0]
        allowed = rng.random() ** 0.3 * (epsilon * max(opt, 0) + delta)
        elsewhere = rng.dirichlet(np.ones(len(w)))
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            policy = next(oracle.solve([(1 - middle) * w + middle * elsewhere]))
            behind = opt - (w @ policy.rewards - policy.regularizer)
            low, high = (middle, high) if behind <= allowed else (low, middle)
        rows.append(next(oracle.solve([(1 - low) * w + low * elsewhere])))
    return PolicySet([p.rewards for p in rows], [p.regularizer for p in rows])


def asked(d, n, seed=0):
    further = np.random.default_rng(seed).dirichlet(np.ones(d), n)
    return np.vstack([np.eye(d), further])


def true_gaps(oracle, portfolio, certified, n=100_000, seed=5):
    """The largest true gaps at n weights, some on faces, and at the certificate's own."""
    d = portfolio.n_objectives
    rng = np.random.default_rng(seed)
    inner = rng.dirichlet(np.ones(d), n)
    faces = inner[: n // 10] * (rng.random((n // 10, d)) < 0.7)
    faces = faces[faces.sum(axis=1) > 0]
    weights = np.vstack(
        [
            inner,
            faces / faces.sum(axis=1, keepdims=True),
            corner_weights(portfolio),
            certified.epsilon_weights,
            certified.delta_weights,
        ]
    )
    opt = optima(oracle, weights)
    best = portfolio.objective(weights).max(axis=1)
    return float((1 - best / opt).max()), float((opt - best).max())


def least_mixture(weights, bounds, at):
    """U(w) = min Σ λ_k·o_k: the definition, one linear program."""
    found = linprog(bounds, A_eq=weights.T, b_eq=at, bounds=(0, None), method="highs-ds")
    assert found.status == 0, found.message
    return found.fun


def reference(weights, bounds, values):
    """δ and ε at the corner weights that another enumeration finds, U by definition."""
    best = np.zeros(2)
    base = values.max(axis=0)
    # Moved and scaled to where the solver's absolute tolerance is small.
    lifted = bounds - weights @ base
    unit = max(np.abs(lifted).max(), np.abs(values - base).max()) or 1.0
    for corner in corner_weights(values):
        upper = least_mixture(weights, lifted / unit, corner) * unit
        loss = max(upper - ((values - base) @ corner).max(), 0.0)
        share = loss / (upper + base @ corner) if loss > 1e-9 * unit else 0.0
        best = np.maximum(best, [loss, share])
    return best


def test_the_fast_opt_is_the_oracles():
    oracle = small_oracle(3)
    weights = sample_weights(20, 3)
    np.testing.assert_allclose(optima(oracle, weights), oracle.value(weights), rtol=1e-12)


class TestNeverBelowTheTrueGap:
    @pytest.mark.parametrize("d", [2, 3, 4])
    @pytest.mark.parametrize("share", [1.0, 0.4])
    def test_exact_oracle(self, d, share):
        lattice = uniform_lattice(d, {2: 16, 3: 8, 4: 5}[d])
        for seed, weights in enumerate([np.eye(d), asked(d, 12), lattice]):
            oracle = small_oracle(d, seed)
            policies = solve(oracle, weights)
            keep = np.arange(max(1, round(share * len(weights))))
            found = certify(policies, weights, portfolio=keep)
            epsilon, delta = true_gaps(oracle, policies.subset(keep), found)
            assert epsilon <= found.epsilon + ROUNDING
            assert delta <= found.delta + ROUNDING
            # It says something: a few times the truth for evenly spread weights.
            if share == 1 and weights is lattice:
                assert found.delta <= 4 * delta

    @pytest.mark.parametrize("d", [2, 3, 4])
    @pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.02), (0.05, 0.0), (0.03, 0.01)])
    @pytest.mark.parametrize("known", [True, False])
    def test_inexact_oracle_with_declared_slack(self, d, eps, delta, known):
        oracle = small_oracle(d, seed=d)
        weights = asked(d, 10, seed=d)
        policies = inexact(oracle, weights, eps, delta, seed=d)
        found = certify(
            policies,
            weights,
            oracle_epsilon=eps,
            oracle_delta=delta,
            answers=np.arange(len(weights)) if known else None,
        )
        true_epsilon, true_delta = true_gaps(oracle, policies, found)
        assert true_epsilon <= found.epsilon
        assert true_delta <= found.delta
        assert found.conditional_on == f"the oracle being within ({eps:g}, {delta:g}) of the best"
        assert not found.refuted

    def test_undeclared_slack_is_an_underestimate(self):
        # The textbook rule takes the best value found at a weight for opt there.
        oracle = small_oracle(3, seed=1)
        weights = uniform_lattice(3, 16)
        policies = inexact(oracle, weights, 0.0, 0.02, seed=1)
        textbook = certify(policies, weights, oracle_delta=0.0)
        honest = certify(policies, weights, oracle_delta=0.02)
        true_epsilon, true_delta = true_gaps(oracle, policies, textbook, n=20_000)
        assert textbook.conditional_on is None
        assert textbook.delta < true_delta < honest.delta
        assert textbook.epsilon < true_epsilon < honest.epsilon

    def test_evaluation_error(self):
        oracle = small_oracle(3)
        weights = asked(3, 15)
        exact = solve(oracle, weights)
        error = 0.01
        noise = np.random.default_rng(0).uniform(-error, error, len(exact))
        measured = PolicySet(exact.rewards + noise[:, np.newaxis], exact.regularizer)
        found = certify(measured, weights, oracle_epsilon=0.0, evaluation_error=error)
        _, delta = true_gaps(oracle, exact, found, n=20_000)
        assert delta <= found.delta
        assert found.conditional_on == "evaluations being within 0.01"
        blind = certify(measured, weights)
        assert found.delta == pytest.approx(blind.delta + 2 * error, abs=1e-12)
        divided = certify(measured, weights, evaluation_error=error, method="subdivision")
        assert divided.delta >= found.delta - 1e-12

    @given(seed=SEEDS, d=st.integers(2, 4))
    @FEW
    def test_every_policy_that_the_answers_allow(self, seed, d):
        # A policy p with w_k·p ≤ o_k for all k may exist; the largest gap is attained by one.
        rng = np.random.default_rng(seed)
        values = rng.random((6, d))
        weights = asked(d, 4, seed % 1000)
        found = certify(PolicySet(values), weights)
        bounds = (weights @ values.T).max(axis=1)
        at = found.delta_weights
        worst = linprog(-at, A_ub=weights, b_ub=bounds, bounds=(None, None), method="highs-ds")
        assert -worst.fun - (values @ at).max() == pytest.approx(found.delta, abs=1e-8)


class TestAsSmallAsTheAnswersAllow:
    @given(
        seed=SEEDS,
        d=st.integers(2, 5),
        kind=st.sampled_from(["random", "whole", "equal", "collinear", "near"]),
        grid=st.sampled_from(["random", "lattice", "faces", "repeated"]),
    )
    @settings(max_examples=60)
    def test_agrees_with_linear_programs(self, seed, d, kind, grid):
        rng = np.random.default_rng(seed)
        m = int(rng.integers(1, 15))
        values = {
            "random": lambda: rng.random((m, d)),
            "whole": lambda: rng.integers(0, 4, (m, d)).astype(float),
            "equal": lambda: np.repeat(rng.random((1, d)), m, axis=0),
            "collinear": lambda: rng.random(d) + rng.random((m, 1)) * (rng.random(d) - 0.5),
            "near": lambda: rng.random((m, d)) * 1e-5 + 1,
        }[kind]()
        weights = {
            "random": lambda: asked(d, int(rng.integers(0, 12)), rng),
            "lattice": lambda: uniform_lattice(d, int(rng.integers(1, 4))),
            "faces": lambda: clean_weights(
                np.vstack([np.eye(d), _some_zeros(rng.dirichlet(np.ones(d), 8), rng)]), d
            ),
            "repeated": lambda: np.repeat(asked(d, 3, rng), 2, axis=0),
        }[grid]()
        weights = rng.permutation(weights)
        portfolio = np.unique(rng.integers(0, m, m))
        delta_o = float(rng.choice([0.0, 0.01]))
        found = certify(PolicySet(values), weights, portfolio=portfolio, oracle_delta=delta_o)
        bounds = (weights @ values.T).max(axis=1) + delta_o
        delta, epsilon = reference(weights, bounds, values[portfolio])
        spread = np.ptp(values, axis=0).max() + delta_o
        assert found.delta == pytest.approx(delta, rel=1e-6, abs=1e-7 * spread)
        if kind != "collinear":  # may be below 0
            assert found.epsilon == pytest.approx(epsilon, rel=1e-5, abs=1e-6 * spread)
        assert found.exact

    @given(seed=SEEDS, d=st.integers(2, 4))
    @settings(max_examples=10)
    def test_corners_and_subdivision_agree(self, seed, d):
        rng = np.random.default_rng(seed)
        values = rng.random((8, d))
        weights = asked(d, 5, rng)
        corners = certify(PolicySet(values), weights, method="corners")
        divided = certify(PolicySet(values), weights, method="subdivision")
        assert (corners.method, divided.method) == ("corners", "subdivision")
        assert divided.delta >= corners.delta - 1e-12
        assert divided.epsilon >= corners.epsilon - 1e-12
        if divided.exact:
            assert divided.delta == pytest.approx(corners.delta, rel=1e-7)
            assert divided.epsilon == pytest.approx(corners.epsilon, rel=1e-7)

    def test_an_answer_bounds_more_than_the_best_found(self):
        oracle = small_oracle(3, seed=4)
        weights = uniform_lattice(3, 10)
        policies = inexact(oracle, weights, 0.0, 0.03, seed=4)
        everyone = np.arange(len(weights))
        with_answers = certify(policies, weights, oracle_delta=0.03, answers=everyone)
        without = certify(policies, weights, oracle_delta=0.03)
        assert with_answers.delta < without.delta
        assert without.measured_slack is None
        assert 0 < with_answers.measured_slack <= 0.03


def _some_zeros(weights, rng):
    rows = weights * (rng.random(weights.shape) < 0.6)
    rows[rows.sum(axis=1) == 0] = 1.0
    return rows / rows.sum(axis=1, keepdims=True)


class TestUnits:
    @given(seed=SEEDS, d=st.integers(2, 4), scale=st.sampled_from([1e-6, 1e6, 3.0, 1e-250, 1e250]))
    @FEW
    def test_scaling_rewards_scales_delta_and_leaves_epsilon(self, seed, d, scale):
        rng = np.random.default_rng(seed)
        values, weights = rng.random((9, d)), asked(d, 6, rng)
        if rng.random() < 0.5:  # ties everywhere
            values, weights = np.round(5 * values), uniform_lattice(d, 4)
        once = certify(PolicySet(values), weights, oracle_epsilon=0.02)
        scaled = certify(PolicySet(values * scale), weights, oracle_epsilon=0.02)
        assert scaled.delta == pytest.approx(once.delta * scale, rel=1e-9)
        assert scaled.epsilon == pytest.approx(once.epsilon, rel=1e-9)

    @settings(max_examples=8)
    @given(SEEDS, st.integers(2, 4), st.sampled_from([-1074, -1072, -1000]), METHODS)
    def test_rewards_as_small_as_there_are(self, seed, d, power, method):
        rng = np.random.default_rng(seed)
        rewards = rng.integers(0, 8, (6, d)).astype(float)
        weights = np.vstack([np.eye(d), rng.multinomial(1024, np.full(d, 1 / d), 4) / 1024])
        usual = certify(PolicySet(rewards), weights, portfolio=[0, 1], method=method)
        tiny = PolicySet(np.ldexp(rewards, power))
        small = certify(tiny, weights, portfolio=[0, 1], method=method)
        assert small.epsilon == usual.epsilon
        exact = Fraction(usual.delta) * Fraction(2) ** power
        assert exact <= Fraction(small.delta) < exact + Fraction(5e-324)

    @pytest.mark.parametrize("spread", [1e-9, 1e-4, 1e4, 1e9])
    def test_objectives_in_very_different_units(self, spread):
        # The same problem with an objective in other units: w_i·s becomes w_i.
        rng = np.random.default_rng(0)
        values, weights = rng.random((12, 3)), asked(3, 9, 0)
        units = np.array([1.0, spread, 1.0])
        moved = weights / units
        other = moved / moved.sum(axis=1, keepdims=True)
        once = certify(PolicySet(values), weights)
        found = certify(PolicySet(values * units), other)
        assert found.epsilon == pytest.approx(once.epsilon, rel=1e-6)
        assert found.epsilon >= once.epsilon * (1 - 1e-9)

    @given(seed=SEEDS, d=st.integers(2, 4))
    @FEW
    def test_order_does_not_matter(self, seed, d):
        rng = np.random.default_rng(seed)
        oracle = small_oracle(d, seed=seed % 100)
        weights = asked(d, 8, rng)
        policies = solve(oracle, weights)
        order = rng.permutation(len(weights))
        once = certify(policies, weights)
        again = certify(policies.subset(order), weights[order], answers=np.arange(len(order)))
        assert again.delta == pytest.approx(once.delta, rel=1e-9)
        assert again.epsilon == pytest.approx(once.epsilon, rel=1e-9)


class TestSigns:
    def test_accuracy_below_zero(self):
        accuracy = Accuracy(epsilon=0.5, delta=0.1)
        values = np.array([0.4, -0.1, -0.6, 0.0])
        bounds = accuracy.bounds(values)
        # J ≥ opt − ε_o·max(opt, 0) − δ_o holds with equality at the bound, rounded up.
        np.testing.assert_allclose(bounds, [1.0, 0.0, -0.5, 0.2], rtol=1e-14, atol=1e-15)
        assert (bounds >= [1.0, 0.0, -0.5, 0.2]).all()
        binary = Accuracy(epsilon=0.5, delta=0.125)
        exact = [binary.exact_bound(Fraction(x)) for x in (0.375, -0.125, -0.625, -0.025)]
        assert exact == [1, 0, -0.5, 2 * (Fraction(-0.025) + Fraction(1, 8))]

    def test_negative_optimum(self):
        # opt < 0 near e_2, dividing by 1 − ε_o there would not bound it
        oracle = small_oracle(2, seed=3, shift=-0.9)
        weights = asked(2, 8, 3)
        assert (oracle.value(weights) < 0).any()
        policies = inexact(oracle, weights, 0.1, 0.01, seed=1)
        found = certify(policies, weights, oracle_epsilon=0.1, oracle_delta=0.01)
        _, delta = true_gaps(oracle, policies, found, n=20_000)
        assert delta <= found.delta
        assert found.epsilon == math.inf
        assert "below 0" in found.note
        assert "unbounded" in str(found)
        assert policies.objective(found.epsilon_weights).max() < 0

    @pytest.mark.parametrize("method", ["corners", "subdivision"])
    def test_below_zero_between_corners(self, method):
        # L < 0 near e_2, where nothing is lost only at e_2 itself.
        found = certify(PolicySet([[2.0, -1.0], [1.0, -0.1]]), np.eye(2), method=method)
        assert found.epsilon == math.inf
        np.testing.assert_allclose(found.epsilon_weights, [0, 1], atol=1e-9)

    def test_zero_over_zero_costs_nothing(self):
        # opt = 0 at e_1 and every policy answered exactly (resource gathering, γ = 0.9)
        # Two are the best, and cross at w_2 = w_3.
        values = np.array([[0.0, 1.0, 0.25], [0.0, 0.25, 1.0], [0.0, 0.5, 0.5]])
        weights = np.vstack([np.eye(3), [0.0, 0.5, 0.5]])
        found = certify(PolicySet(values), weights)
        assert (found.epsilon, found.delta) == (0.0, 0.0)

    def test_zero_over_next_to_nothing_costs_next_to_nothing(self):
        # The corner weights are rounded, and what was answered beside them leaves a last bit.
        values = np.array([[0.0, 1.0, 0.2], [0.0, 0.3, 1.0], [0.0, 0.5, 0.5]])
        weights = np.vstack([np.eye(3), corner_weights(values)])
        found = certify(PolicySet(values), weights)
        assert 0 <= found.delta <= 1e-15
        assert 0 <= found.epsilon <= 1e-15

    @pytest.mark.parametrize("method", ["corners", "subdivision"])
    def test_negative_but_exactly_covered(self, method):
        # Corners at w_1 = 1/2 and 1/4: nothing is lost, though opt < 0 for the most part.
        values = np.array([[1.0, -3.0], [-1.0, -1.0], [-4.0, 0.0]])
        found = certify(PolicySet(values), corner_weights(values), method=method)
        if method == "corners":
            assert (found.epsilon, found.delta, found.note) == (0.0, 0.0, "")
        assert found.delta <= 1e-8

    def test_negative_and_a_last_bit_open(self):
        # Where opt may be below zero no ε makes up for a loss of a last bit.
        values = np.array([[1.0, -3.0], [-1.0, -1.0], [-4.0, 0.0]])
        weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.25 + 2.0**-50, 0.75 - 2.0**-50], [0, 1]])
        found = certify(PolicySet(values), weights)
        assert 0 < found.delta < 1e-14
        assert found.epsilon == math.inf
        assert "below 0" in found.note

    def test_a_portfolio_at_zero_loses_everything(self):
        found = certify(PolicySet([[0.0, 0.0], [1.0, 1.0]]), np.eye(2), portfolio=[0])
        assert (found.epsilon, found.delta) == (1.0, 1.0)

    @pytest.mark.parametrize("method", ["corners", "subdivision"])
    def test_both_methods_see_negative_values(self, method):
        values = [[1.0, -0.5], [-0.4, 0.1]]
        found = certify(PolicySet(values), np.eye(2), method=method)
        assert found.epsilon == math.inf
        assert found.delta > 0


class TestDegenerate:
    @pytest.mark.parametrize("d", [2, 3, 5])
    def test_vertices_only(self, d):
        found = certify(PolicySet(np.eye(d)), np.eye(d))
        assert found.delta == pytest.approx(1 - 1 / d)
        assert found.epsilon == pytest.approx(1 - 1 / d)
        np.testing.assert_allclose(found.delta_weights, 1 / d)
        assert found.n_weights == d

    def test_one_policy(self):
        found = certify(PolicySet([[0.3, 0.4, 0.5]]), np.eye(3))
        assert (found.epsilon, found.delta) == (0.0, 0.0)

    def test_all_values_zero(self):
        found = certify(PolicySet(np.zeros((3, 2))), np.eye(2))
        assert (found.epsilon, found.delta) == (0.0, 0.0)

    def test_equal_policies(self):
        once = certify(PolicySet(np.eye(3)), np.eye(3))
        twice = certify(PolicySet(np.repeat(np.eye(3), 3, axis=0)), np.eye(3))
        assert twice.delta == pytest.approx(once.delta)

    def test_the_lowest_of_repeated_answers_counts(self):
        policies = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6], [0.59, 0.59]])
        weights = [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]]
        found = certify(policies, weights, oracle_delta=0.01, answers=[0, 1, 2, 3])
        # opt(1/2, 1/2) ≤ 0.59 + 0.01
        assert found.delta == pytest.approx(
            certify(policies, weights[:3], oracle_delta=0.01, answers=[0, 1, 3]).delta
        )
        assert found.measured_slack == pytest.approx(0.01)

    def test_a_vertex_asked_again(self):
        policies = PolicySet([[0.9, 0.1], [0.1, 1.0], [0.95, 0.0]])
        weights = [[1, 0], [0, 1], [1, 0]]
        found = certify(policies, weights, oracle_delta=0.1, answers=[0, 1, 2])
        # opt(e_1) ≤ min(0.9, 0.95) + 0.1
        at = found.delta_weights
        bound = at @ [1.0, 1.1]
        assert found.delta == pytest.approx(bound - policies.objective(at).max())

    @pytest.mark.parametrize("method", ["corners", "subdivision"])
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_terrible_policy_hides_nothing(self, method, place):
        # No tolerance may grow with what never counts.
        values = np.insert(np.eye(2), place, [0.5, -1e14], axis=0)
        found = certify(PolicySet(values), np.eye(2), method=method)
        assert found.delta == pytest.approx(0.5)
        assert found.epsilon == pytest.approx(0.5)
        answers = np.flatnonzero(values.sum(axis=1) > 0)
        behind = PolicySet(np.vstack([values, [1 + 1e-9, 0.0]]))
        assert certify(behind, np.eye(2), answers=answers).refuted

    def test_dust_is_no_weight(self):
        weights = uniform_lattice(3, 4)
        values = solve(small_oracle(3), weights)
        dusty = weights.copy()
        dusty[dusty == 0] = 1e-17
        assert certify(values, dusty).delta == pytest.approx(certify(values, weights).delta)


class TestConditions:
    policies = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.55, 0.55], [0.6, 0.6]])
    weights = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5))

    def test_an_exact_oracle_needs_no_condition(self):
        found = certify(self.policies, self.weights, answers=[0, 1, 3], oracle_epsilon=0.0)
        assert found.conditional_on is None
        assert found.measured_slack == 0
        assert not found.refuted

    def test_no_claim_is_no_claim_of_exactness(self):
        silent = certify(self.policies, self.weights, answers=[0, 1, 3])
        exact = certify(self.policies, self.weights, answers=[0, 1, 3], oracle_epsilon=0.0)
        assert (silent.epsilon, silent.delta) == (exact.epsilon, exact.delta)
        assert silent.conditional_on
        assert silent.conditional_on in str(silent)
        assert not silent.refuted

    def test_slack_within_the_claim_is_reported(self):
        found = certify(self.policies, self.weights, answers=[0, 1, 2], oracle_delta=0.06)
        assert found.measured_slack == pytest.approx(0.05)
        assert not found.refuted
        assert "measured so far: 0.05)" in str(found)

    @pytest.mark.parametrize("claimed", [0.0, 0.04])
    def test_a_refuted_claim_is_replaced_and_named(self, claimed):
        found = certify(self.policies, self.weights, answers=[0, 1, 2], oracle_delta=claimed)
        best = certify(self.policies, self.weights, oracle_delta=claimed)
        assert found.refuted
        assert found.delta == best.delta
        assert "best policy found" in found.conditional_on
        assert "up to 0.05 worse" in found.conditional_on

    def test_evaluation_error_may_explain_what_seems_to_refute(self):
        options = {"answers": [0, 1, 2], "oracle_delta": 0.0}
        assert certify(self.policies, self.weights, evaluation_error=0.024, **options).refuted
        assert not certify(self.policies, self.weights, evaluation_error=0.026, **options).refuted

    def test_one_line(self):
        found = certify(self.policies, self.weights, answers=[0, 1, 3], oracle_delta=0.0)
        assert str(found) == "certified ε 11.8 %  δ 0.08"
        assert repr(found) == "Certificate(epsilon=0.118, delta=0.08, conditional_on=None)"

    @given(value=st.floats(1e-12, 1e12))
    def test_what_is_shown_is_a_bound(self, value):
        shown = float(bound_text(value))
        assert value * (1 - 1e-11) <= shown <= value * 1.0101


class TestBudget:
    def test_too_many_corners(self, monkeypatch):
        weights = uniform_lattice(4, 4)
        policies = solve(small_oracle(4), weights)
        exact = certify(policies, weights)
        monkeypatch.setattr(certificate, "MOST_VERTICES", 20)
        monkeypatch.setattr(certificate, "MOST_PROGRAMS", 12)
        bound = certify(policies, weights)
        assert (bound.method, bound.exact) == ("subdivision", False)
        assert bound.delta > exact.delta
        assert bound.epsilon > exact.epsilon

    def test_any_budget_gives_a_bound_and_more_never_a_worse_one(self):
        rng = np.random.default_rng(1)
        values, weights = rng.random((10, 3)), asked(3, 10, 1)
        bounds = (weights @ values.T).max(axis=1)
        model = Subdivision(weights, bounds, values)
        exact = certify(PolicySet(values), weights)
        for ratio, true in ((False, exact.delta), (True, exact.epsilon)):
            found = [model.search(ratio=ratio, budget=n) for n in (0, 1, 5, 20, 400)]
            limits = [item.bound for item in found]
            assert limits == sorted(limits, reverse=True)
            assert all(item.reached - 1e-12 <= true <= item.bound + 1e-12 for item in found)
            assert found[-1].exact

    def test_the_worst_weights_below_zero(self):
        values = np.array([[1.0, -0.5], [-0.4, 0.1]])
        model = Subdivision(np.eye(2), np.array([1.0, 0.1]), values)
        weights, upper, loss, share = model.worst(ratio=True, budget=20)
        assert share[0] == math.inf
        exact = certify(PolicySet(values), np.eye(2))
        assert loss[0] == pytest.approx(exact.delta)
        np.testing.assert_allclose(weights[0], exact.delta_weights, atol=1e-9)
        assert upper[0] == pytest.approx(weights[0] @ [1.0, 0.1])

    def test_eight_objectives(self):
        oracle = small_oracle(8)
        weights = asked(8, 12)
        policies = solve(oracle, weights)
        found = certify(policies, weights)
        assert found.method == "corners"
        epsilon = 1 - policies.objective(sample_weights(5000, 8)).max(axis=1) / optima(
            oracle, sample_weights(5000, 8)
        )
        assert epsilon.max() <= found.epsilon


class TestPolyhedra:
    @given(seed=SEEDS, d=st.integers(2, 5), n=st.integers(0, 40))
    @FEW
    def test_the_corners_are_qhulls(self, seed, d, n):
        values = np.random.default_rng(seed).random((n + 1, d)) ** 0.5
        envelope = Envelope(values[0])
        for row in values[1:]:
            envelope.add(row)
        mine = envelope.vertices[envelope.places, :d]
        other = corner_weights(values)
        np.testing.assert_allclose(_sorted(mine), _sorted(other), atol=1e-9)
        _is_closed(envelope)

    @given(seed=SEEDS, d=st.integers(2, 5), n=st.integers(0, 40))
    @FEW
    def test_the_pieces_are_qhulls(self, seed, d, n):
        oracle = small_oracle(d, seed=seed % 50)
        weights = asked(d, n, seed % 1000)
        bounds = optima(oracle, weights)
        hull = Hull(bounds[:d])
        for row, bound in zip(weights[d:], bounds[d:], strict=True):
            hull.add(row, bound)
        pieces = hull.vertices[hull.places, :d]
        # Below every point, and through as many of them as it has members.
        below = bounds - pieces @ weights.T
        assert below.min() >= -1e-12
        assert ((np.abs(below) <= 1e-9).sum(axis=1) >= d).all()
        _is_closed(hull)
        if n >= 2:
            lifted = np.column_stack([weights[:, :-1], bounds])
            lower = ConvexHull(lifted).equations[:, d - 1] < 0
            assert len(pieces) == lower.sum()

    @given(seed=SEEDS, d=st.integers(2, 4))
    @FEW
    def test_whole_numbers_tie_everywhere(self, seed, d):
        rng = np.random.default_rng(seed)
        envelope = Envelope(rng.integers(0, 3, d).astype(float))
        for row in rng.integers(0, 3, (12, d)).astype(float):
            envelope.add(row)
            _is_closed(envelope)
        policies = envelope.constraints[d:, :d]
        corners = envelope.vertices[envelope.places]
        np.testing.assert_allclose((corners[:, :d] @ policies.T).max(axis=1), corners[:, d])

    @given(seed=SEEDS, d=st.integers(2, 4), noise=st.floats(0, 1))
    @FEW
    def test_any_shares_give_a_bound(self, seed, d, noise):
        rng = np.random.default_rng(seed)
        weights = asked(d, 6, rng)
        bounds = rng.standard_normal(len(weights))
        at = _some_zeros(rng.dirichlet(np.ones(d), 1), rng)[0]
        found = linprog(bounds, A_eq=weights.T, b_eq=at, method="highs-ds")
        shares = found.x + noise * rng.standard_normal(len(bounds))
        value = mixture_bounds(at, shares, weights, bounds, bounds[:d])
        assert value >= found.fun - 1e-9
        assert mixture_bounds(at, found.x, weights, bounds, bounds[:d]) == pytest.approx(found.fun)

    def test_a_share_too_small_to_be_one_costs_nothing(self):
        weights = np.vstack([np.eye(3), [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
        bounds = np.array([1.0, 0.8, 0.9, 0.5, 0.6])
        shares = np.array([0.0, 0.0, 0.0, 1.0, 1e-18])
        value = mixture_bounds(weights[3], shares, weights, bounds, bounds[:3])
        assert value == pytest.approx(0.5)

    def test_corners_are_no_higher_than_any_policy_there(self):
        rng = np.random.default_rng(0)
        envelope = Envelope(rng.random(4))
        for row in rng.random((60, 4)) ** 0.5:
            envelope.add(row)
        rows = envelope.vertices[envelope.places]
        for row, members in zip(rows, envelope.members[envelope.places], strict=True):
            policies = members[members >= 4]
            heights = [float(row[:4] @ envelope.constraints[i, :4]) for i in policies]
            assert row[4] <= min(heights) + 4e-16
            assert max(heights) - row[4] <= 1e-12

    def test_places_are_used_again(self):
        # Every ten policies are better than all before: their corners replace all others.
        rng, most = np.random.default_rng(0), 0
        envelope = Envelope(np.zeros(3))
        for step in range(12):
            for row in rng.random((10, 3)) ** 0.5:
                envelope.add(row + step)
                most = max(most, len(envelope.places))
        assert len(envelope.vertices) <= 2 * most

    def test_led_astray(self, monkeypatch):
        # Were every piece found the wrong one, the bound would still be right.
        rng = np.random.default_rng(0)
        values, weights = rng.random((10, 3)), asked(3, 10, 0)
        right = certify(PolicySet(values), weights)
        monkeypatch.setattr(
            Sandwich,
            "_climb",
            lambda self, corners, start: np.resize(self._hull.places, len(start)),
        )
        assert certify(PolicySet(values), weights).delta >= right.delta - 1e-12


def _sorted(rows):
    rows = np.unique(np.round(rows, 9), axis=0)
    return rows[np.lexsort(rows.T[::-1])]


def _is_closed(polyhedron):
    """Every vertex has d neighbours that know it and share all members but one."""
    members, neighbours = polyhedron.members, polyhedron.neighbours
    for place in polyhedron.places:
        for side, other in enumerate(neighbours[place]):
            if other < polyhedron.n_ideal:
                continue
            assert place in neighbours[other]
            shared = set(np.delete(members[place], side))
            assert shared <= set(members[other])


class TestRefusals:
    policies = PolicySet(np.eye(3), objectives=["helpful", "brief", "safe"])

    @pytest.mark.parametrize(
        ("weights", "options", "message"),
        [
            (np.eye(3)[[0, 2]], {}, "vertex with weight 1 on 'brief' is missing"),
            ([[0.5, 0.2, 0.3]], {}, "vertex with weight 1 on 'helpful' is missing"),
            (np.eye(2), {}, "must be 3, one per objective"),
            (np.eye(3), {"oracle_epsilon": 1.0}, "oracle_epsilon = 1"),
            (np.eye(3), {"oracle_epsilon": -0.1}, "oracle_epsilon = -0.1"),
            (np.eye(3), {"oracle_delta": -1}, "oracle_delta = -1"),
            (np.eye(3), {"evaluation_error": math.nan}, "evaluation_error = nan"),
            (np.eye(3), {"portfolio": [3]}, "portfolio: index 3"),
            (np.eye(3), {"portfolio": []}, "at least one"),
            (np.eye(3), {"portfolio": [0.5]}, "must be indices"),
            (np.eye(3), {"portfolio": [True, False, True]}, "must be indices"),
            (np.eye(3), {"answers": [0, 1]}, "answers: has 2"),
            (np.eye(3), {"answers": [0, 1, -1]}, "answers: index -1"),
            (np.eye(3), {"method": "lp"}, "must be one of auto, corners, subdivision"),
        ],
    )
    def test_one_line_that_names_it(self, weights, options, message):
        with pytest.raises(InputError) as error:
            certify(self.policies, weights, **options)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_nearly_a_vertex_is_none(self):
        weights = np.eye(2) * (1 - 1e-9) + 1e-9 / 2
        with pytest.raises(InputError, match="missing"):
            certify(PolicySet(np.eye(2)), weights / weights.sum(axis=1, keepdims=True))


def test_answers_told_one_by_one_are_those_told_at_once():
    rng = np.random.default_rng(0)
    weights, policies = asked(3, 6), PolicySet(rng.random((9, 3)), rng.random(9))
    accuracy = Accuracy(delta=0.01)
    once = Answers(accuracy, weights, policies, np.arange(9))
    slowly = Answers(accuracy, weights[:1], policies.subset([0]), np.arange(1))
    for row in range(1, 9):
        slowly.tell(weights[row : row + 1], policies.subset([row]))
    for index in range(9):
        assert slowly.exact_bound(index, 0) == once.exact_bound(index, 0)
    np.testing.assert_allclose(slowly.bounds, once.bounds)
    np.testing.assert_allclose(slowly.best, once.best)
    assert slowly.slack == pytest.approx(once.slack)
    assert slowly.refuted == once.refuted
