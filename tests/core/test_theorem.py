"""Lemma A.1, Lemma 3.3 and Theorem 3.4 on finite policy classes, at the worst weights.

For a finite class everything is exact: opt(w) is a maximum, and the worst
weight vector of a portfolio comes out of linear programs, so nothing here
rests on sampled weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings, target
from hypothesis import strategies as st
from scipy.optimize import linprog

from palm_core import (
    Guarantee,
    PolicySet,
    apply_theorem,
    construct_grid,
    grid_size,
    lemma_33,
    lemma_a1,
    theorem_bounds,
)
from palm_core.guarantees.theorem import NotApplicable

SEEDS = st.integers(0, 2**32 - 1)


def grid_values(mu, alpha):
    """The paper's 1dgrid, built here a second time."""
    steps = math.ceil(math.log(1 / alpha) / math.log1p(mu) - 1e-9)
    return np.array([0.0, *(alpha * (1 + mu) ** k for k in range(steps)), 1.0])


def matched(v, mu, alpha):
    """The grid weight of the proof: every entry of v' rounded up in 1dgrid."""
    values = grid_values(mu, alpha)
    scaled = v / v.max()
    up = values[np.searchsorted(values, scaled * (1 - 1e-12))]
    return up / up.sum()


def used_up(values, portfolio, epsilon, delta):
    """The share of (ε, δ) that ``portfolio`` needs: the least s for which (sε, sδ) holds.

    max over w ∈ Δ and candidates c of (w·u_c − max_p w·u_p)/(ε·w·u_c + δ), one
    Charnes–Cooper linear program per candidate with y = w/(ε·w·u_c + δ):
    maximise y·u_c − t subject to t ≥ y·u_p, ε·y·u_c + δ·Σy = 1, y ≥ 0.
    """
    d = values.shape[1]
    worst = 0.0
    for candidate in values:
        answer = linprog(
            np.append(-candidate, 1.0),
            A_ub=np.column_stack([values[portfolio], -np.ones(len(portfolio))]),
            b_ub=np.zeros(len(portfolio)),
            A_eq=np.append(epsilon * candidate + delta, 0.0)[np.newaxis, :],
            b_eq=[1.0],
            bounds=[(0, None)] * d + [(None, None)],
        )
        if answer.status == 2:  # infeasible: this candidate is negative wherever it counts
            continue
        assert answer.status == 0, answer.message
        worst = max(worst, -answer.fun)
    return worst


def test_used_up_agrees_with_a_fine_sample():
    rng = np.random.default_rng(1)
    values = rng.random((8, 3))
    ts = np.linspace(0, 1, 401)
    a, b = (axis.ravel() for axis in np.meshgrid(ts, ts))
    weights = np.column_stack([a, b, 1 - a - b])[a + b <= 1 + 1e-12]
    j = weights @ values.T
    for epsilon, delta in ((0.3, 0.0), (0.0, 0.1), (0.2, 0.05)):
        opt = j.max(axis=1)
        sampled = ((opt - j[:, [0, 1]].max(axis=1)) / (epsilon * opt + delta)).max()
        exact = used_up(values, [0, 1], epsilon, delta)
        assert sampled <= exact + 1e-9
        assert exact == pytest.approx(sampled, rel=0.02)


# --- Algorithm 1 on a finite class


@dataclass
class Run:
    """One class of policies and what Algorithm 1 made of it."""

    rewards: np.ndarray
    regularizer: np.ndarray
    evaluated: np.ndarray
    portfolio: np.ndarray
    guarantee: object

    @property
    def values(self):
        return self.rewards - self.regularizer[:, np.newaxis]

    def used_up(self):
        """Shares of the theorem's pair and of the sharper pair."""
        g = self.guarantee
        return (
            used_up(self.values, self.portfolio, g.epsilon, g.delta),
            used_up(self.values, self.portfolio, g.sharper_epsilon, g.sharper_delta),
        )


def algorithm_1(rewards, regularizer, mu, alpha, *, slack=(0.0, 0.0), prune=None, rng=None):
    """Grid, oracle, greedy cover. ``slack`` is the oracle's, ``prune`` (μ', α')."""
    prune_mu, prune_alpha = (mu, 0.0) if prune is None else prune
    weights = construct_grid(rewards.shape[1], mu, alpha)
    j = weights @ (rewards - regularizer[:, np.newaxis]).T
    opt = j.max(axis=1)
    if slack == (0.0, 0.0):
        answers = j.argmax(axis=1)
    else:  # any policy that the oracle's claim allows
        allowed = j >= ((1 - slack[0]) * opt - slack[1])[:, np.newaxis]
        answers = np.where(allowed, rng.random(j.shape), -1.0).argmax(axis=1)
        if rng.random() < 0.5:  # the worst of them
            answers = np.where(allowed, -j, -np.inf).argmax(axis=1)
    evaluated = np.unique(answers)
    best = j[:, evaluated].max(axis=1)
    covers = j[:, evaluated] >= ((1 - prune_mu) * best - prune_alpha)[:, np.newaxis]
    left, chosen = np.ones(len(weights), dtype=bool), []
    while left.any():
        gain = covers[left].sum(axis=0)
        if gain.max() == 0:
            break
        chosen.append(int(gain.argmax()))
        left &= ~covers[:, chosen[-1]]
    seen = PolicySet(rewards[evaluated], regularizer[evaluated])
    guarantee = apply_theorem(
        seen,
        mu=mu,
        alpha=alpha,
        prune_mu=prune_mu,
        prune_alpha=prune_alpha,
        oracle_epsilon=slack[0],
        oracle_delta=slack[1],
        reward_bound=np.abs(rewards).sum(axis=1).max(),
        regularizer_bound=regularizer.max(),
    )
    assert not (guarantee.applies and left.any()), "a weight is left, and nobody says why"
    return Run(rewards, regularizer, evaluated, evaluated[chosen], guarantee)


def hostile_class(rng, weights, *, regularized):
    """A policy that no grid weight selects, between sharp ones that just beat it there.

    The sharp policies are scaled until the hidden one is never the best at a
    grid weight; between grid weights it is, and by as much as the grid allows.
    """
    d = weights.shape[1]
    sharp = np.vstack([np.eye(d), (rng.random((rng.integers(0, 4), d)) < 0.5) * rng.random(d)])
    sharp *= 10 ** rng.uniform(-2, 2, size=(len(sharp), 1)) if rng.random() < 0.5 else 1.0
    spread = np.zeros(len(sharp))
    hidden = rng.random(d) if rng.random() < 0.7 else np.ones(d)
    hidden_f = 0.0
    if regularized:
        # r high and f high: small J with much to lose
        lift = rng.choice([0.3, 3.0, 30.0])
        spread = lift * rng.random(len(sharp)) * sharp.max(axis=1)
        sharp = sharp + spread[:, np.newaxis] * (rng.random(sharp.shape) < 0.9)
        hidden_f = lift * rng.random() * hidden.min()
        hidden = hidden + hidden_f * (rng.random() < 0.9)
    j = (weights @ (sharp - spread[:, np.newaxis]).T).max(axis=1)
    need = weights @ hidden - hidden_f
    if (j > 1e-9).all():
        scale = max(1e-3, (need / j).max() * (1 + 1e-9))
        sharp, spread = sharp * scale, spread * scale
    rewards = np.vstack([sharp, hidden])
    regularizer = np.append(spread, hidden_f)
    return rewards, regularizer


@st.composite
def settings_of_a_run(draw):
    d = draw(st.integers(2, 5))
    mu = draw(st.sampled_from([0.02, 0.1, 0.3, 0.6, 1.0]))
    alpha = draw(st.sampled_from([1e-3, 0.02, 0.1, 0.3, 0.8, 1.0]))
    assume(grid_size(d, mu, alpha) <= 1500)
    slack = draw(st.sampled_from([(0.0, 0.0), (0.0, 0.0), (0.05, 0.0), (0.0, 0.02), (0.3, 0.1)]))
    prune = draw(st.sampled_from([None, None, (0.0, 0.0), (0.05, 0.02), (0.5, 0.0)]))
    return d, mu, alpha, slack, prune


def some_run(chosen, seed, *, regularized):
    d, mu, alpha, slack, prune = chosen
    rng = np.random.default_rng(seed)
    if rng.random() < 0.7:
        weights = construct_grid(d, mu, alpha)
        rewards, regularizer = hostile_class(rng, weights, regularized=regularized)
    else:
        m = int(rng.integers(2, 9))
        rewards = rng.random((m, d)) ** rng.choice([0.3, 1.0, 5.0])
        regularizer = rng.random(m) * rewards.max(axis=1) * regularized
        # the reference policy, so that opt ≥ 0
        rewards, regularizer = np.vstack([rewards, np.zeros(d)]), np.append(regularizer, 0.0)
    return algorithm_1(rewards, regularizer, mu, alpha, slack=slack, prune=prune, rng=rng)


def through_lemma_a1(g):
    """The pair that follows from Lemma A.1 with J_v(π) kept on the left.

    ε = 2μ/(1 + μ) + m, δ = [(2 + m)X + α' + δ_o]/(1 + μ): between the theorem's
    pair and the sharper one wherever nothing additive is lost.
    """
    m = g.prune_mu + g.oracle_epsilon
    x = g.n_objectives * g.alpha * g.reward_bound + g.mu * g.regularizer_bound
    slack = g.prune_alpha + g.oracle_delta
    return 2 * g.mu / (1 + g.mu) + m, ((2 + m) * x + slack) / (1 + g.mu)


@pytest.mark.parametrize("regularized", [False, True])
@settings(max_examples=80)
@given(chosen=settings_of_a_run(), seed=SEEDS)
def test_theorem_34(regularized, chosen, seed):
    """Every pair, without and with a regulariser, for approximate oracles too."""
    run = some_run(chosen, seed, regularized=regularized)
    # opt ≥ 0 must be visible in what was evaluated; else there may be no cover
    assume(run.guarantee.applies)
    g = run.guarantee
    assert isinstance(g, Guarantee)
    sharper = used_up(run.values, run.portfolio, g.sharper_epsilon, g.sharper_delta)
    target(sharper)
    assert sharper <= 1 + 1e-7
    assert used_up(run.values, run.portfolio, g.epsilon, g.delta) <= sharper + 1e-7
    assert used_up(run.values, run.portfolio, *through_lemma_a1(g)) <= 1 + 1e-7
    assert len(run.portfolio) <= g.size


def test_the_theorem_can_fail():
    """Half of what is promised is not kept: the checks above have something to find."""
    # One policy is worth half of opt at the vertices, so all is given up for it.
    rewards = np.array([[2.0, 0.0], [0.0, 2.0], [1.000001, 1.000001]])
    run = algorithm_1(rewards, np.zeros(3), 0.02, 0.02, prune=(0.5, 0.0))
    g = run.guarantee
    assert list(run.portfolio) == [2]
    assert used_up(run.values, run.portfolio, g.sharper_epsilon, g.sharper_delta) > 0.9
    assert used_up(run.values, run.portfolio, g.sharper_epsilon / 2, g.sharper_delta / 2) > 1.8
    assert used_up(run.values, run.portfolio, g.epsilon, g.delta) > 0.4


# --- the step from a weight vector to its grid weight, where the bounds are tight


@dataclass
class Step:
    """Weight v, its grid weight w, and a policy that covers w in a finite class."""

    v: np.ndarray
    w: np.ndarray
    rewards: np.ndarray  # the covering policy first
    regularizer: np.ndarray
    mu: float
    alpha: float
    prune: tuple[float, float] = (0.0, 0.0)
    oracle: tuple[float, float] = (0.0, 0.0)

    def shares(self):
        """Loss of the covering policy at v as a share of each pair's promise."""
        values = self.rewards - self.regularizer[:, np.newaxis]
        at_v, at_w = values @ self.v, values @ self.w
        best = int(at_v.argmax())
        assert at_v[best] >= 0
        allowed = (1 - self.oracle[0]) * at_w.max() - self.oracle[1]
        allowed = (1 - self.prune[0]) * allowed - self.prune[1]
        assert at_w[0] >= allowed - 1e-9 * (1 + abs(allowed)), "not a cover"

        def bounds(of):
            return theorem_bounds(
                len(self.v),
                self.mu,
                self.alpha,
                self.rewards[of].sum(axis=1).max(),
                self.regularizer[of].max(),
                prune_mu=self.prune[0],
                prune_alpha=self.prune[1],
                oracle_epsilon=self.oracle[0],
                oracle_delta=self.oracle[1],
            )

        # the sharper proof needs the bounds for two policies only
        two, whole = bounds([0, best]), bounds(slice(None))
        loss = at_v[best] - at_v[0]
        return [
            loss / max(epsilon * at_v[best] + delta, 1e-300)
            for epsilon, delta in (
                (two.sharper_epsilon, two.sharper_delta),
                through_lemma_a1(whole),
                (whole.epsilon, whole.delta),
            )
        ]


@st.composite
def steps(draw):
    """A step made to hurt: v just above grid values, π and π* on different objectives."""
    rng = np.random.default_rng(draw(SEEDS))
    d = draw(st.integers(2, 5))
    mu = draw(st.sampled_from([0.02, 0.1, 0.5, 1.0]))
    alpha = draw(st.sampled_from([1e-6, 0.01, 0.1, 0.5, 1.0]))
    prune = draw(st.sampled_from([(0.0, 0.0), (0.1, 0.0), (0.5, 0.2), (0.0, 0.3), (0.9, 2.0)]))
    oracle = draw(st.sampled_from([(0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.5, 1.0)]))
    values = grid_values(mu, alpha)
    k = rng.integers(0, len(values) - 1, size=d)
    along = rng.choice([1e-9, 0.5, 1.0], size=d)
    v = values[k] + along * (values[k + 1] - values[k])
    v[rng.integers(d)] = 1.0
    w = matched(v / v.sum(), mu, alpha)
    mask = rng.random((3, d)) < 0.5
    rewards = mask * rng.random((3, d)) * 10 ** rng.uniform(-2, 2, size=(3, 1))
    if rng.random() < 0.5:  # what v makes rare may pay much
        rewards /= v + 1e-6
    regularizer = rng.random(3) * rng.choice([0.0, 1.0], size=3) * (rewards @ w)
    # the covering policy is as bad as a cover may be
    best = (rewards[1:] @ w - regularizer[1:]).max()
    least = (1 - prune[0]) * ((1 - oracle[0]) * best - oracle[1]) - prune[1]
    worth = float(rewards[0] @ w)
    if worth > 0 and least >= 0 and (rng.random() < 0.5 or worth < least):
        rewards[0] *= least / worth
        regularizer[0] = 0.0
    else:
        regularizer[0] = max(worth - least, 0.0)
    values = rewards - regularizer[:, np.newaxis]
    assume(values[0] @ w >= least - 1e-12)
    v = v / v.sum()
    assume((values @ v).max() >= 0)
    return Step(v, w, rewards, regularizer, mu, alpha, prune, oracle)


@settings(max_examples=400)
@given(step=steps())
def test_whoever_covers_the_grid_weight_serves_its_neighbours(step):
    sharper, through_lemmas, paper = step.shares()
    target(sharper)
    assert sharper <= 1 + 1e-6
    assert through_lemmas <= 1 + 1e-6
    assert paper <= 1 + 1e-6


A_BIT = 1e-9


def tight_multiplicative():
    """v' just above a grid value, π lives on what was rounded up, π* on the rest; f too."""
    mu, alpha, prune_mu, f = 0.25, 1e-9, 0.2, 3.0
    x = grid_values(mu, alpha)[-4] * (1 + A_BIT)
    v = np.array([x, 1.0]) / (1 + x)
    w = matched(v, mu, alpha)
    b = 20.0
    for regularizer in (0.0, f):
        kept = (1 - prune_mu) if regularizer == 0 else 1.0
        a = (kept * (w[1] * b - regularizer) + regularizer) / w[0]
        yield Step(
            v,
            w,
            np.array([[a, 0.0], [0.0, b]]),
            np.full(2, regularizer),
            mu,
            alpha,
            (1 - kept, 0.0),
        )


def tight_alpha():
    """v' just above 0, rounded up to α, where π has all its reward."""
    mu, alpha, reward = 0.5, 0.1, 7.0
    v = np.array([A_BIT, 1.0]) / (1 + A_BIT)
    w = matched(v, mu, alpha)
    yield Step(v, w, np.array([[reward, 0.0], [0.0, alpha * reward]]), np.zeros(2), mu, alpha)


def tight_slack():
    """v is a grid weight: pruning and the oracle give away all they may."""
    mu, alpha = 1e-6, 1e-6
    v = w = np.array([0.5, 0.5])
    for prune, oracle in (((0.0, 0.3), (0.0, 0.0)), ((0.2, 0.1), (0.3, 0.2))):
        kept = (1 - prune[0]) * (1 - oracle[0])
        j = kept * 1.0 - prune[1] - (1 - prune[0]) * oracle[1]
        yield Step(v, w, np.array([[j, j], [1.0, 1.0]]), np.zeros(2), mu, alpha, prune, oracle)


def tight_beyond():
    """Every other entry just above 0: ρ = 1 + (d − 1)α; a large f(π*), or a large slack."""
    d, mu, alpha = 9, 1e-6, 0.02
    v = np.array([1.0, *[A_BIT] * (d - 1)])
    v /= v.sum()
    w = matched(v, mu, alpha)
    rho = 1 + (d - 1) * alpha
    first = np.eye(d)[0]
    f = 1 / rho
    yield Step(v, w, np.array([first * (1 - rho * f), first]), np.array([0.0, f]), mu, alpha)
    slack = 1 / rho
    yield Step(v, w, np.array([first * 0, first]), np.zeros(2), mu, alpha, (0.0, slack))


@pytest.mark.parametrize(
    ("case", "reached"),
    [
        (tight_multiplicative, 0.999),
        (tight_alpha, 0.999),
        (tight_slack, 0.999),
        (tight_beyond, 0.8),
    ],
)
def test_the_sharper_pair_is_tight(case, reached):
    """No term of the sharper pair can be smaller by much: each is reached."""
    for step in case():
        sharper, through_lemmas, paper = step.shares()
        assert reached <= sharper <= 1 + 1e-6
        assert paper <= 1
        assert through_lemmas <= 1


# --- the lemmas


@st.composite
def weights_near_grid_values(draw):
    """(d, μ, α, v), entries of v' on, just above or between values of 1dgrid."""
    rng = np.random.default_rng(draw(SEEDS))
    d = draw(st.integers(2, 6))
    mu = draw(st.sampled_from([1e-3, 0.05, 0.3, 1.0]))
    alpha = draw(st.sampled_from([1e-4, 0.05, 0.3, 1.0]))
    values = grid_values(mu, alpha)
    k = rng.integers(0, len(values) - 1, size=d)
    if rng.random() < 0.5:
        k[:] = rng.choice([0, len(values) - 2], size=d)
    along = rng.choice([0.0, 1e-9, 0.5, 1.0], size=d)
    v = values[k] + along * (values[k + 1] - values[k])
    v[rng.integers(d)] = 1.0
    return d, mu, alpha, v / v.sum()


@settings(max_examples=200)
@given(case=weights_near_grid_values())
def test_lemma_a1(case):
    d, mu, alpha, v = case
    w = matched(v, mu, alpha)
    epsilon, delta = lemma_a1(d, mu, alpha)
    assert (np.abs(w - v) <= epsilon * v + delta + 1e-12).all()
    if grid_size(d, mu, alpha) <= 2000:  # and the grid has that weight
        assert np.abs(construct_grid(d, mu, alpha) - w).max(axis=1).min() < 1e-12


def test_lemma_a1_is_nearly_reached():
    # multiplicatively: v_2 small, rounded up by 1 + μ
    x = grid_values(0.1, 1e-6)[-40] * (1 + A_BIT)
    v = np.array([1.0, x]) / (1 + x)
    epsilon, delta = lemma_a1(2, 0.1, 1e-6)
    assert 0.95 < (matched(v, 0.1, 1e-6)[1] - v[1]) / (epsilon * v[1] + delta) <= 1
    # additively: d − 1 entries just above 0 are all rounded up to α
    v = np.array([1.0, *[A_BIT] * 19])
    v /= v.sum()
    epsilon, delta = lemma_a1(20, 1e-3, 1e-3)
    assert 0.85 < (v[0] - matched(v, 1e-3, 1e-3)[0]) / (epsilon * v[0] + delta) <= 1


@st.composite
def close_weights(draw):
    """(rng, ε', δ', v, w) with |w_i − v_i| ≤ ε'·v_i + δ', on its limit."""
    rng = np.random.default_rng(draw(SEEDS))
    d = draw(st.integers(2, 5))
    epsilon, delta = draw(st.sampled_from([0.0, 0.05, 0.5])), draw(st.sampled_from([0.0, 0.02]))
    v = rng.dirichlet(np.full(d, rng.choice([0.2, 1.0, 10.0])))
    room = epsilon * v + delta
    lower = np.minimum(room, v)
    up = rng.random(d) < 0.5
    move = np.where(up, room, -lower)
    # as far as both sides allow
    rise, fall = move[up].sum(), -move[~up].sum()
    move[up] *= min(1.0, fall / rise) if rise > 0 else 0.0
    move[~up] *= min(1.0, rise / fall) if fall > 0 else 0.0
    w = np.maximum(v + move, 0.0)
    return rng, epsilon, delta, v, w / w.sum()


@settings(max_examples=300)
@given(case=close_weights(), regularized=st.booleans())
def test_lemma_33(case, regularized):
    rng, close, shift, v, w = case
    m = int(rng.integers(2, 6))
    rewards = (rng.random((m, len(v))) < 0.6) * rng.random((m, len(v))) / (v + 0.01)
    regularizer = regularized * rng.random(m) * (rewards @ w)
    values = rewards - regularizer[:, np.newaxis]
    opt, best_at_w = (values @ v).max(), values[(values @ w).argmax()]
    bound = lemma_33(close, shift, rewards.sum(axis=1).max(), regularizer.max())
    loss = opt - best_at_w @ v
    target(loss / max(bound.epsilon * opt + bound.delta, 1e-9))
    assert loss <= bound.epsilon * opt + bound.delta + 1e-9


def test_lemma_33_is_reached():
    v = np.array([0.5, 0.5])
    for close, shift, f in ((0.01, 0.0, 0.0), (0.0, 0.005, 0.0), (0.01, 0.0, 40.0)):
        move = close / 2 + shift
        w = v + np.array([move, -move])
        b = 2.0 + 2 * f
        a = b * w[1] / w[0] * (1 + 1e-9)  # as good at w, on what w overrates
        opt = 0.5 * b - f
        bound = lemma_33(close, shift, b, f)
        assert 0.97 < 0.5 * (b - a) / (bound.epsilon * opt + bound.delta) <= 1 + 1e-6


def test_lemma_33_is_false_for_signed_rewards():
    v, w = np.array([0.5, 0.5]), np.array([0.55, 0.45])
    values = np.array([[-100.0, 103.0], [100.0, -98.0]])  # J_v = 1.5 and 1
    assert (values @ v).max() == 1.5
    chosen = values[(values @ w).argmax()]
    bound = lemma_33(0.1, 0.0, 0.0, 0.0)  # δ' = 0: R_max does not matter
    assert chosen @ v < (1 - bound.epsilon) * 1.5 - bound.delta


# --- the signed counterexample


def test_with_signed_rewards_the_theorem_is_false_and_says_so():
    mu, alpha = 0.1, 1e-6
    weights = construct_grid(2, mu, alpha)
    t1, t2 = sorted(t for t in weights[:, 1] if t >= 0.5 - 1e-12)[:2]
    assert t1 == pytest.approx(0.5)
    assert t2 == pytest.approx(0.5227, abs=1e-3)

    def line(first, second):
        """Values at w_2 = 0 and 1 of the line through (t1, first) and (t2, second)."""
        slope = (second - first) / (t2 - t1)
        return [first - t1 * slope, first + (1 - t1) * slope]

    rewards = np.array([line(1.0, -50.0), line(-50.0, 1.0), [1 - 1e-9] * 2])
    run = algorithm_1(rewards, np.zeros(3), mu, alpha)
    assert 2 not in run.evaluated  # the grid never selects the constant
    assert (weights @ rewards.T).max(axis=1).min() > 0
    reward_bound = np.abs(rewards).sum(axis=1).max()
    g = theorem_bounds(2, mu, alpha, reward_bound, 0.0)
    middle = np.array([1 - (t1 + t2) / 2, (t1 + t2) / 2])
    j = rewards @ middle
    assert j.max() - j[run.portfolio].max() == pytest.approx(25.5, abs=0.1)
    assert g.epsilon * j.max() + g.delta == pytest.approx(0.41, abs=0.01)
    assert used_up(rewards, run.portfolio, g.epsilon, g.delta) > 60
    assert isinstance(run.guarantee, NotApplicable)
    assert "reward 'objective 1' has negative means" in str(run.guarantee)
    assert "reward 'objective 2' has negative means" in str(run.guarantee)
