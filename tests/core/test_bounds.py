"""Theorem 3.4 as numbers, and the check of what it assumes."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import (
    Guarantee,
    InputError,
    PolicySet,
    apply_theorem,
    construct_grid,
    grid_size,
    lemma_33,
    lemma_a1,
    theorem_bounds,
)
from palm_core.guarantees.theorem import NotApplicable, assumptions

UNIT = st.floats(1e-3, 1.0)
SLACK = st.floats(0.0, 1.0)
AMOUNT = st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 1e3])


def test_lemmas_as_printed():
    assert lemma_a1(3, 0.2, 0.01) == pytest.approx((0.2, 0.03))
    assert lemma_33(0.2, 0.03, 5.0, 0.7) == pytest.approx((0.4, 2 * (0.03 * 5.0 + 0.2 * 0.7)))
    # one after the other they are the theorem without pruning
    close = lemma_a1(4, 0.1, 0.05)
    g = theorem_bounds(4, 0.1, 0.05, 3.0, 0.4, prune_mu=0.0)
    assert (g.epsilon, g.delta) == pytest.approx(lemma_33(*close, 3.0, 0.4))


@given(d=st.integers(2, 6), mu=UNIT, alpha=UNIT, reward=AMOUNT, regularizer=AMOUNT)
def test_the_theorem_in_its_own_setting(d, mu, alpha, reward, regularizer):
    g = theorem_bounds(d, mu, alpha, reward, regularizer)
    x = d * alpha * reward + mu * regularizer
    assert g.epsilon == pytest.approx(4 * mu)
    assert g.delta == pytest.approx(2 * x)
    assert g.prune_mu == mu
    e = (d - 1) * alpha
    assert g.sharper_epsilon == pytest.approx(1 - (1 - mu) / (1 + mu))
    assert g.sharper_delta == pytest.approx(
        (alpha * reward + mu * regularizer + e * (1 - mu) * min(reward, regularizer)) / (1 + mu)
    )
    assert g.sharper_delta <= x / (1 + mu) * (1 + 1e-12)
    assert g.size == grid_size(d, mu, alpha)
    assert g.paper_size == pytest.approx(d * (2 + 2 / mu * math.log(1 / alpha)) ** (d - 1))


@given(
    d=st.integers(2, 6),
    mu=UNIT,
    alpha=UNIT,
    bounds=st.tuples(AMOUNT, AMOUNT),
    prune=st.tuples(SLACK, AMOUNT),
    oracle=st.tuples(SLACK, AMOUNT),
)
def test_the_sharper_pair_is_never_the_weaker(d, mu, alpha, bounds, prune, oracle):
    g = theorem_bounds(
        d,
        mu,
        alpha,
        *bounds,
        prune_mu=prune[0],
        prune_alpha=prune[1],
        oracle_epsilon=oracle[0],
        oracle_delta=oracle[1],
    )
    assert 0 < g.sharper_epsilon <= g.epsilon
    assert g.sharper_epsilon <= 1
    assert 0 <= g.sharper_delta <= g.delta * (1 + 1e-12)
    # m = μ' + ε_o and the additive slack, as the theorem's shape is continued
    m = prune[0] + oracle[0]
    x = d * alpha * bounds[0] + mu * bounds[1]
    assert g.epsilon == pytest.approx(2 * mu + 2 * m)
    assert g.delta == pytest.approx(max(2, (2 + m) / (1 + mu)) * x + prune[1] + oracle[1])


@pytest.mark.parametrize(
    "more",
    [
        {"prune_mu": 0.4},
        {"prune_alpha": 0.2},
        {"oracle_epsilon": 0.2},
        {"oracle_delta": 0.2},
        {"reward_bound": 3.0},
        {"regularizer_bound": 1.0},
        {"mu": 0.4, "prune_mu": 0.3},
        {"alpha": 0.2},
        {"n_objectives": 4},
    ],
)
def test_every_parameter_counts(more):
    base = {
        "n_objectives": 3,
        "mu": 0.3,
        "alpha": 0.1,
        "reward_bound": 2.0,
        "regularizer_bound": 0.5,
    }
    before, after = theorem_bounds(**base), theorem_bounds(**(base | more))
    assert (after.epsilon, after.delta) > (before.epsilon, before.delta)
    assert after.epsilon >= before.epsilon
    assert after.delta >= before.delta
    sharper = [(g.sharper_epsilon, g.sharper_delta) for g in (before, after)]
    assert sharper[1] > sharper[0]


def test_sizes():
    g = theorem_bounds(3, 0.5, 0.1, 1.0, 0.0)
    assert g.size == len(construct_grid(3, 0.5, 0.1))
    # the theorem's size forgets that its logarithm is rounded up …
    corner = theorem_bounds(2, 1.0, 0.9, 1.0, 0.0)
    assert corner.size == 5
    assert corner.paper_size == pytest.approx(4.4214, abs=1e-3)
    # … and holds where there is nothing to round
    for d in (2, 3, 4, 5):
        for k in (1, 2, 5, 9):
            for mu in (1.0, 0.5, 0.25):
                whole = theorem_bounds(d, mu, (1 + mu) ** -k, 1.0, 0.0)
                assert whole.size <= whole.paper_size
    # a plan can be priced however large it is
    huge = theorem_bounds(5000, 1e-3, 1e-3, 1.0, 0.0)
    assert huge.size > 10**300
    assert huge.paper_size == math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_objectives": 1}, "n_objectives = 1: must be at least 2"),
        ({"n_objectives": 2.0}, "n_objectives = 2.0: must be a whole number"),
        ({"mu": 0.0}, r"mu = 0.0: must be in \(0, 1\]"),
        ({"mu": 1.5}, r"mu = 1.5: must be in \(0, 1\]"),
        ({"alpha": 0.0}, r"alpha = 0.0: must be in \(0, 1\]"),
        ({"alpha": float("nan")}, r"alpha = nan: must be in \(0, 1\]"),
        ({"reward_bound": -1.0}, "reward_bound = -1.0: must be a finite number of at least 0"),
        ({"regularizer_bound": math.inf}, "regularizer_bound = inf: must be a finite number"),
        ({"prune_mu": 1.1}, r"prune_mu = 1.1: must be in \[0, 1\]"),
        ({"prune_mu": -0.1}, r"prune_mu = -0.1: must be in \[0, 1\]"),
        ({"prune_alpha": -1.0}, "prune_alpha = -1.0: must be a finite number of at least 0"),
        ({"oracle_epsilon": 2.0}, r"oracle_epsilon = 2.0: must be in \[0, 1\]"),
        ({"oracle_delta": -1}, "oracle_delta = -1: must be a finite number of at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(change, message):
    good = {
        "n_objectives": 2,
        "mu": 0.5,
        "alpha": 0.1,
        "reward_bound": 1.0,
        "regularizer_bound": 0.0,
    }
    with pytest.raises(InputError, match=message):
        theorem_bounds(**(good | change))


def test_lemmas_refuse_what_they_cannot_take():
    with pytest.raises(InputError, match=r"mu = 2: must be in \(0, 1\]"):
        lemma_a1(2, 2, 0.1)
    with pytest.raises(InputError, match="n_objectives = 1"):
        lemma_a1(1, 0.1, 0.1)
    for position, name in enumerate(
        ("epsilon_prime", "delta_prime", "reward_bound", "regularizer_bound")
    ):
        arguments = [0.1] * 4
        arguments[position] = -0.1
        with pytest.raises(InputError, match=f"{name} = -0.1"):
            lemma_33(*arguments)


def test_a_guarantee_that_promises_nothing_says_so():
    useful = theorem_bounds(2, 0.1, 0.01, 1.0, 0.1)
    assert not useful.vacuous
    assert "promises nothing" not in str(useful)
    assert str(useful) == (
        "Theorem 3.4: at most 101 policies serve every weight within ε = 0.4, δ = 0.06 "
        f"(sharper: ε = {useful.sharper_epsilon:.3g}, δ = {useful.sharper_delta:.3g})"
    )
    for empty in (
        theorem_bounds(2, 1.0, 0.01, 1.0, 0.0),  # μ' = 1: every policy covers everything
        theorem_bounds(2, 0.1, 0.01, 1.0, 0.1, prune_alpha=2.0),  # δ beyond every value
        theorem_bounds(2, 0.1, 1.0, 1.0, 1.0),
    ):
        assert empty.vacuous
        assert "which promises nothing" in str(empty)
    # exactly where (1 − ε)·R_max meets δ
    edge = replace(useful, sharper_epsilon=0.5, sharper_delta=0.5)
    assert edge.vacuous
    assert not replace(edge, sharper_delta=0.499).vacuous


# --- r ≥ 0 and opt ≥ 0


def test_assumptions_that_hold():
    facts = assumptions(PolicySet([[1.0, 0.0], [0.6, 0.9]], [0.1, 0.2]))
    assert facts.hold
    assert facts.violations == ()
    assert facts.measured_reward_bound == pytest.approx(1.5)
    assert facts.measured_regularizer_bound == 0.2


def test_negative_rewards_are_named_with_the_least():
    policies = PolicySet(
        [[0.5, -0.1], [0.4, -0.31], [1.0, 1.0]], objectives=("helpful", "harmless")
    )
    facts = assumptions(policies)
    assert facts.violations == ("reward 'harmless' has negative means (least −0.31)",)
    assert facts.measured_reward_bound == 2.0
    result = apply_theorem(policies, mu=0.1, alpha=0.1)
    assert isinstance(result, NotApplicable)
    assert not result.applies
    assert str(result) == (
        "Theorem 3.4 does not apply: reward 'harmless' has negative means (least −0.31). "
        "Normalise, or rely on the certificate"
    )
    # Σ|r_i| counts negative rewards too
    assert assumptions(PolicySet([[0.5, -0.7]])).measured_reward_bound == pytest.approx(1.2)


def test_rounding_is_no_violation_in_any_unit():
    assert assumptions(PolicySet([[0.3, -1e-17], [0.1, 0.2]])).hold
    assert assumptions(PolicySet([[3e9, -1e-8], [1e9, 2e9]])).hold
    # another objective's scale is no excuse
    assert not assumptions(PolicySet([[1e9, -1e-3], [1e9, 1e-3]])).hold


def test_a_negative_optimum_is_named_with_its_weights():
    at_vertex = assumptions(PolicySet([[1.0, 0.2], [2.0, 0.1]], [0.5, 0.5], objectives=("a", "b")))
    assert at_vertex.violations == (
        "the best evaluated policy has J = −0.3 at a = 0, b = 1, must be at least 0",
    )
    # good at both vertices, negative between
    between = PolicySet([[4.0, 0.0], [0.0, 2.0]], [2.0, 1.5], objectives=("a", "b"))
    (line,) = assumptions(between).violations
    # 4w − 2 = 2(1 − w) − 1.5 at w = 5/12
    assert line == (
        "the best evaluated policy has J = −0.333 at a = 0.417, b = 0.583, must be at least 0"
    )
    assert "does not apply: the best evaluated" in str(apply_theorem(between, mu=0.1, alpha=0.1))
    # the reference policy settles it
    assert assumptions(PolicySet([[4.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [2.0, 1.5, 0.0])).hold
    # and so does a mixture, though each policy is negative somewhere
    assert assumptions(PolicySet([[4.0, 0.0], [0.0, 4.0]], [2.0, 2.0])).hold


def test_the_weights_that_are_named_are_negative_in_any_unit():
    values = np.array([[2.0, -2.0], [-150.0, 50.0]])
    f = -values.min(axis=1)
    (line,) = assumptions(PolicySet(values + f[:, np.newaxis], f, objectives=("a", "b"))).violations
    j, a, b = re.fullmatch(
        r"the best evaluated policy has J = −(\S+) at a = (\S+), b = (\S+), must be at least 0",
        line,
    ).groups()
    best = (values @ [float(a), float(b)]).max()
    assert best == pytest.approx(-float(j), abs=0.2)
    assert best < -0.5


def test_an_optimum_that_is_negative_on_an_edge_alone_is_found():
    # negative between a and b; wherever c counts, the third policy is good
    values = np.array([[1.0, -2.0, 9.0], [-2.0, 1.0, 9.0], [-9.0, -9.0, 9.0]])
    f = np.full(3, 9.0)
    (line,) = assumptions(PolicySet(values + 9.0, f, objectives=("a", "b", "c"))).violations
    assert "J = −0.5 at a = 0.5, b = 0.5, c = 0," in line


def test_where_opt_is_negative_there_may_be_no_cover():
    policies = PolicySet([[1.0, 1.0]], [2.0])
    best = policies.objective([0.5, 0.5]).max()
    assert best < (1 - 0.1) * best  # the only policy, and it does not cover
    assert not assumptions(policies).hold


def lowest_optimum(values):
    """min over Δ_2 of the best policy: it lies at a vertex or where two meet."""
    ts = [0.0, 1.0]
    for a in values:
        for b in values:
            slope = (a[0] - b[0]) - (a[1] - b[1])
            if slope != 0:
                ts.append((a[0] - b[0]) / slope)
    weights = np.array([[1 - t, t] for t in ts if 0 <= t <= 1])
    return (weights @ values.T).max(axis=1).min()


@given(
    seed=st.integers(0, 2**32 - 1), m=st.integers(1, 6), units=st.tuples(*[st.integers(-9, 9)] * 2)
)
def test_opt_is_checked_exactly(seed, m, units):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(m, 2)) + rng.uniform(-1, 1)
    lowest = lowest_optimum(values)
    if abs(lowest) < 1e-6:
        return
    # rewards that give these values, in any units
    scaled = values * 10.0 ** np.array(units)
    f = np.maximum(0.0, -scaled.min(axis=1))
    facts = assumptions(PolicySet(scaled + f[:, np.newaxis], f))
    assert facts.hold == (lowest > 0)


def test_opt_is_checked_in_many_dimensions():
    # max_j (1 + h)·w_j − 1/d ≥ h/d, reached at the centre alone
    for d in (3, 5, 8):
        for h, holds in ((1e-3, True), (-1e-3, False)):
            facts = assumptions(PolicySet(np.eye(d) * (1 + h), np.full(d, 1 / d)))
            assert facts.hold == holds


# --- both together


def test_a_run_with_claims_and_one_without():
    policies = PolicySet([[1.0, 0.2], [0.3, 0.9]], [0.1, 0.05])
    claimed = apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=1.5, regularizer_bound=0.4)
    assert isinstance(claimed, Guarantee)
    assert claimed.applies
    assert claimed == theorem_bounds(2, 0.2, 0.1, 1.5, 0.4)
    assert "measured" not in str(claimed)
    measured = apply_theorem(policies, mu=0.2, alpha=0.1)
    assert measured == replace(theorem_bounds(2, 0.2, 0.1, 1.2, 0.1), measured=("R_max", "f_max"))
    assert str(measured).endswith("; R_max and f_max as measured on the evaluated policies only")
    half = apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=1.5)
    assert half.measured == ("f_max",)
    assert str(half).endswith("; f_max as measured on the evaluated policies only")


def test_every_parameter_reaches_the_theorem():
    policies = PolicySet([[1.0, 0.2], [0.3, 0.9]])
    options = {
        "prune_mu": 0.3,
        "prune_alpha": 0.02,
        "oracle_epsilon": 0.01,
        "oracle_delta": 0.03,
    }
    applied = apply_theorem(
        policies, mu=0.2, alpha=0.1, reward_bound=2.0, regularizer_bound=0.0, **options
    )
    assert applied == theorem_bounds(2, 0.2, 0.1, 2.0, 0.0, **options)


def test_a_claim_that_the_policies_refute_is_not_believed():
    policies = PolicySet([[1.0, 0.2], [0.3, 0.9]], [0.1, 0.05], names=("p", "q"))
    refuted = apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=1.1, regularizer_bound=1.0)
    assert str(refuted) == (
        "Theorem 3.4 does not apply: the oracle claims R_max = 1.1, but policy 'p' has "
        "Σ|r_i| = 1.2. Correct the claim, or rely on the certificate"
    )
    # a claim about f speaks of optimal policies; members count as they are
    raised = apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=1.2, regularizer_bound=0.01)
    assert raised.regularizer_bound == 0.1
    with pytest.raises(InputError, match="regularizer_bound = -1"):
        apply_theorem(policies, mu=0.2, alpha=0.1, regularizer_bound=-1)
    with pytest.raises(InputError, match="reward_bound = -1"):
        apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=-1)


def test_wrong_parameters_are_refused_even_where_the_theorem_does_not_apply():
    with pytest.raises(InputError, match="mu = 3"):
        apply_theorem(PolicySet([[-1.0, 1.0]]), mu=3, alpha=0.1)
