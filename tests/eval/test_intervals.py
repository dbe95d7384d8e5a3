"""Bootstrap intervals: against scipy's and the formulas, their properties, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palm_core import (
    InputError,
    Normalization,
    Policy,
    PolicySet,
    TabularOracle,
    WorkError,
    gaps,
    minimal_portfolio,
    uniform_lattice,
)
from palm_core.oracles.task_table import make_task
from palm_eval import (
    PromptScores,
    bootstrap,
    bootstrap_mean,
    delta_band,
    exact_gap_pairs,
    fixed_portfolio,
    rechosen_portfolio,
    sampled_gap_pairs,
    sampled_gaps,
)
from palm_eval.intervals import METHODS

CENTRE = np.array([0.5, 0.5])


def some_scores(seed: int = 0, m: int = 4, n: int = 30, d: int = 2) -> PromptScores:
    rng = np.random.default_rng(seed)
    easy = rng.exponential(size=(1, n, 1))
    return PromptScores(easy + rng.random((m, n, d)) + 2 * rng.random((m, 1, d)))


@pytest.mark.parametrize("method", ["bca", "percentile", "basic"])
def test_agrees_with_scipy_on_a_skewed_mean(method):
    x = np.random.default_rng(3).exponential(size=25) ** 2
    theirs = stats.bootstrap(
        (x,), np.mean, method={"bca": "BCa"}.get(method, method), n_resamples=40_000, rng=0
    )
    ours = bootstrap_mean(x, method=method, n_resamples=40_000, seed=1)
    # A quantile of 40 000 draws near 2.5 %: standard error about 1 % of the deviation · √(…)
    tolerance = 0.05 * theirs.standard_error
    assert ours.value == pytest.approx(x.mean())
    assert ours.lower == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.upper == pytest.approx(theirs.confidence_interval.high, abs=tolerance)
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.02)


def test_bca_of_a_ratio_agrees_with_scipy():
    scores = some_scores(5)

    def ratio(index: np.ndarray) -> float:
        mean = scores.values[:, index].mean(axis=1)
        return float((mean[0] @ CENTRE) / (mean[1] @ CENTRE) ** 3)

    theirs = stats.bootstrap(
        (np.arange(30),), ratio, vectorized=False, n_resamples=8000, method="BCa", rng=0
    )
    ours = bootstrap(
        scores,
        lambda v: (v[..., 0, :] @ CENTRE) / (v[..., 1, :] @ CENTRE) ** 3,
        vectorized=True,
        method="bca",
        n_resamples=8000,
    )
    low, high = theirs.confidence_interval
    assert (ours.lower, ours.upper) == pytest.approx((low, high), abs=0.1 * theirs.standard_error)


DELTA = fixed_portfolio([0, 3], lambda p, c: gaps(p, c).delta)
EPSILON = fixed_portfolio([0], lambda p, c: gaps(p, c).epsilon)


def test_basic_is_the_percentile_reflected_and_union_both():
    scores = some_scores()
    statistic = fixed_portfolio([0, 1], lambda p, c: gaps(p, c).delta)
    for sign in (1, -1):  # skewed to either side
        percentile, basic, union = (
            bootstrap(scores, lambda p, s=sign: s * statistic(p), method=method, n_resamples=200)
            for method in ("percentile", "basic", "union")
        )
        assert percentile.lower != basic.lower
        assert union.lower == min(percentile.lower, basic.lower)
        assert union.upper == max(percentile.upper, basic.upper)
    assert basic.lower == pytest.approx(2 * basic.value - percentile.upper)
    assert basic.upper == pytest.approx(2 * basic.value - percentile.lower)
    cut = bootstrap(scores, statistic, method="basic", n_resamples=200, least=0.3)
    assert (cut.lower, cut.upper) == (0.3, pytest.approx(-basic.lower))


def test_the_same_prompts_for_all_policies():
    # Policies that differ by constants only: the prompts' noise cancels in every difference.
    noise = np.random.default_rng(0).normal(size=(1, 50, 1)) * 100
    scores = PromptScores(noise + np.array([[[3.0, 0.0]], [[1.0, 2.0]]]))
    found = bootstrap(scores, fixed_portfolio([1], lambda p, c: gaps(p, c).delta), n_resamples=100)
    assert found.value == pytest.approx(2.0)
    assert (found.lower, found.upper) == pytest.approx((2.0, 2.0))
    assert (
        bootstrap(scores, lambda p: p.objective(CENTRE)[0], n_resamples=100).standard_error[0] > 5
    )


def test_a_maximum_of_noisy_means_is_biased_upwards():
    # Two equal policies beside the portfolio's: E max(h_1, h_2) = σ/√π for each resample.
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(3, 400))
    noise -= noise.mean(axis=1, keepdims=True)
    noise[0] = 0.0
    values = np.repeat(noise[:, :, np.newaxis], 2, axis=2)
    values[1:] += 1.0
    found = bootstrap(
        PromptScores(values), lambda v: exact_gap_pairs(v, [0])[..., 1], vectorized=True
    )
    assert found.value == pytest.approx(1.0)
    assert found.bias == pytest.approx(1 / 20 / np.sqrt(np.pi), rel=0.2)


def test_vectorized_gives_the_same_numbers():
    scores = some_scores(2)
    portfolio, weights = [0, 2], uniform_lattice(2, 20)
    for how in ("none", "minmax", Normalization(method="minmax", lower=(0, 1), upper=(4, 3))):
        slow = bootstrap(
            scores,
            lambda p: sampled_gap_pairs(p.vertex_values, portfolio, weights),
            normalization=how,
            n_resamples=150,
        )
        fast = bootstrap(
            scores,
            lambda v: sampled_gap_pairs(v, portfolio, weights),
            normalization=how,
            n_resamples=150,
            vectorized=True,
        )
        assert slow.lower.shape == (2,)
        limits = how
        if isinstance(how, str):
            limits = Normalization.fit(scores.policy_set(), how, over="all")
        everyone = limits.apply(scores.policy_set())
        found = sampled_gaps(everyone.subset(portfolio), everyone, weights)
        assert slow.value == pytest.approx([found.epsilon, found.delta])
        for name in ("value", "lower", "upper", "standard_error", "bias"):
            assert getattr(slow, name) == pytest.approx(getattr(fast, name))


def test_exact_pairs_give_the_same_interval_as_gaps():
    scores = some_scores(4)
    slow = bootstrap(
        scores, fixed_portfolio([0, 3], lambda p, c: gaps(p, c).delta), n_resamples=100
    )
    fast = bootstrap(
        scores, lambda v: exact_gap_pairs(v, [0, 3])[..., 1], vectorized=True, n_resamples=100
    )
    assert (slow.value, slow.lower, slow.upper) == pytest.approx(
        (fast.value, fast.lower, fast.upper)
    )


@given(st.integers(0, 50), st.sampled_from(METHODS))
@settings(max_examples=15)
def test_units_and_seeds(seed, method):
    scores = some_scores(seed)

    def at(factor: float, seed: int) -> tuple[float, float]:
        scaled = PromptScores(scores.values * factor)
        found = bootstrap(
            scaled,
            lambda v: exact_gap_pairs(v, [0])[..., 1],
            vectorized=True,
            method=method,
            n_resamples=100,
            seed=seed,
        )
        assert found.lower <= found.upper
        return found.lower, found.upper

    assert at(1000.0, 1) == pytest.approx(tuple(1000 * x for x in at(1.0, 1)))
    assert at(1.0, 1) == at(1.0, 1)


def test_another_seed_draws_other_prompts():
    one, other = (bootstrap(some_scores(), DELTA, n_resamples=100, seed=seed) for seed in (1, 2))
    assert one.value == other.value
    assert (one.lower, one.bias) != (other.lower, other.bias)


def test_wider_at_a_higher_level_and_with_fewer_prompts():
    x = np.random.default_rng(0).normal(size=400)
    narrow, wide = bootstrap_mean(x, level=0.8), bootstrap_mean(x, level=0.99)
    few = bootstrap_mean(x[:100], level=0.8)
    assert wide.lower < narrow.lower < narrow.upper < wide.upper
    assert few.upper - few.lower > 1.5 * (narrow.upper - narrow.lower)


def test_minmax_limits_are_taken_anew_in_each_resample():
    scores = some_scores()

    def least(policies: PolicySet) -> float:
        return float(policies.vertex_values.min())

    lowest = bootstrap(scores, least, normalization="minmax", n_resamples=100)
    assert (lowest.value, lowest.lower, lowest.upper) == (0.0, 0.0, 0.0)
    limits = Normalization.fit(scores.policy_set(), "minmax", over="all")
    fixed = bootstrap(
        scores, lambda p: p.vertex_values.min(), normalization=limits, n_resamples=100
    )
    assert fixed.value == pytest.approx(0.0)
    assert fixed.lower < 0.0 < fixed.upper


def test_chosen_again_in_each_resample():
    scores = some_scores(7, n=10)
    sizes: list[int] = []

    def rechoose(candidates: PolicySet) -> np.ndarray:
        chosen = minimal_portfolio(candidates, epsilon=0.05)
        sizes.append(len(chosen))
        return chosen

    def epsilon(portfolio: PolicySet, candidates: PolicySet) -> float:
        return gaps(portfolio, candidates).epsilon

    found = bootstrap(
        scores, rechosen_portfolio(rechoose, epsilon), n_resamples=100, method="percentile"
    )
    assert len(sizes) == 1 + 100
    assert len(set(sizes)) > 1
    assert found.upper <= 0.05 + 1e-9
    kept = minimal_portfolio(scores.policy_set(), epsilon=0.05)
    fixed = bootstrap(
        scores, fixed_portfolio(kept, lambda p, c: gaps(p, c).epsilon), n_resamples=100
    )
    assert fixed.value == found.value
    assert fixed.upper > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_gap_that_is_always_zero(method):
    found = bootstrap(
        some_scores(),
        lambda v: exact_gap_pairs(v, [0, 1, 2, 3]),
        vectorized=True,
        method=method,
        n_resamples=100,
    )
    assert found.value.tolist() == found.lower.tolist() == found.upper.tolist() == [0.0, 0.0]


def test_the_regularizer_is_resampled_with_the_rewards():
    rng = np.random.default_rng(0)
    rewards, penalty = rng.random((2, 40, 2)), rng.normal(size=(2, 40))
    with_f = PromptScores(rewards, penalty)
    folded = PromptScores(rewards - penalty[:, :, np.newaxis])
    one, other = (
        bootstrap(s, lambda p: p.objective(CENTRE)[0], n_resamples=100) for s in (with_f, folded)
    )
    assert one.lower.tolist() == other.lower.tolist()
    assert with_f.policy_set().vertex_values[1] == pytest.approx(
        rewards[1].mean(axis=0) - penalty[1].mean()
    )


def test_from_policies_of_an_oracle():
    task = make_task(n_prompts=12, n_responses=20, seed=1)
    oracle = TabularOracle(task.rewards, task.reference, 0.05, task.objectives)
    policies = list(oracle.solve(uniform_lattice(2, 4)))
    scores = PromptScores.from_policies(policies, task.objectives)
    assert scores.n_prompts == 12
    assert scores.policy_set().names == tuple(policy.id for policy in policies)
    assert scores.policy_set().objectives == task.objectives
    assert scores.policy_set().vertex_values == pytest.approx(
        PolicySet.from_policies(policies).vertex_values
    )


@pytest.fixture(scope="module")
def population() -> PromptScores:
    """Nine exact policies of a task, on many prompts: what samples of prompts are drawn from."""
    task = make_task(n_prompts=3000, n_responses=30, seed=3)
    oracle = TabularOracle(task.rewards, task.reference, 0.05, task.objectives)
    return PromptScores.from_policies(list(oracle.solve(uniform_lattice(2, 8))))


@pytest.mark.parametrize(
    ("times", "least", "most"),
    [(100, 84, 100), pytest.param(300, 265, 299, marks=pytest.mark.scheduled)],
)
def test_coverage(population, times, least, most):
    """Nominal 95 %, for J_w, ε(P) and δ(P) of the population, from samples of 100 prompts.

    Of 300 intervals 285 ± 3.8 should cover; 93–97 % widened by 3.5 binomial standard
    errors on either side is 265 to 299 (four intervals in a thousand such tests fail by
    chance at 93 %, none in ten thousand at 95 %); of 100 it is 84 to all.
    benchmarks/interval_coverage.py takes 1000 and other settings.
    """

    def statistic(values: np.ndarray) -> np.ndarray:
        served = (values[..., 4, :] @ CENTRE)[..., np.newaxis]
        return np.concatenate([served, exact_gap_pairs(values, [0, 4, 8])], axis=-1)

    truth = statistic(population.values.mean(axis=1))
    assert (truth > 0.01).all()
    rng = np.random.default_rng(5)
    covered = {method: np.zeros(3, dtype=int) for method in METHODS}
    for seed in range(times):
        sample = PromptScores(population.values[:, rng.integers(0, 3000, size=100)])
        for method, count in covered.items():
            found = bootstrap(
                sample, statistic, vectorized=True, method=method, n_resamples=300, seed=seed
            )
            np.add(count, (found.lower <= truth) & (truth <= found.upper), out=count)
    for method, count in covered.items():
        assert ((count >= least) & (count <= most)).all(), (method, count)


def test_the_band_holds_where_many_candidates_tie():
    """δ(P) = 0 beside ten candidates as good as P's, with independent noise: 95 % at least.

    240 of 250 intervals or more; of a true 95 % fewer than 227 come by chance once in
    a thousand. The percentile interval misses nearly always.
    """
    rng = np.random.default_rng(2)
    band = percentile = 0
    for seed in range(250):
        scores = PromptScores(rng.normal(size=(11, 50, 2)) + 5)
        found = delta_band(scores, [0], n_resamples=200, seed=seed)
        assert found.upper > 0
        band += found.lower == 0.0
        percentile += (
            bootstrap(
                scores,
                lambda v: exact_gap_pairs(v, [0])[..., 1],
                vectorized=True,
                method="percentile",
                n_resamples=200,
                seed=seed,
            ).lower
            < 1e-3
        )
    assert 227 <= band < 250
    assert percentile < 100


def test_the_band_by_hand():
    # u(1) − u(0) is 1 on half of the prompts and 3 on the others, at both vertices.
    values = np.zeros((2, 100, 2))
    values[1, ::2], values[1, 1::2] = 1.0, 3.0
    found = delta_band(PromptScores(values), [0], n_resamples=20_000)
    assert found.value == pytest.approx(2.0)
    # The mean of 100 draws of 1 or 3 has standard error 0.1; one tail of 2.5 %.
    assert (found.lower, found.upper) == pytest.approx((1.8, 2.2), abs=0.021)
    assert found.method == "simultaneous"
    halved = delta_band(
        PromptScores(values),
        [0],
        normalization=Normalization(method="minmax", lower=(0, 0), upper=(2, 2)),
        n_resamples=20_000,
    )
    assert (halved.lower, halved.upper) == pytest.approx((found.lower / 2, found.upper / 2))
    # Only the portfolio's own policy: nothing is lost, with certainty.
    alone = delta_band(PromptScores(values[1:]), [0], n_resamples=100)
    assert (alone.value, alone.lower, alone.upper) == (0.0, 0.0, 0.0)


def test_the_band_is_over_all_pairs():
    # Errors ±h of the two policies of P, none of the third: max − min is 2·|h| both ways,
    # h ~ N(0, 0.1), whose 97.5 % quantile is 2 · 0.1 · 2.241.
    values = np.zeros((3, 100, 2))
    values[0, ::2], values[0, 1::2] = 1.0, -1.0
    values[1], values[2] = -values[0], 5.0
    found = delta_band(PromptScores(values), [0, 1], n_resamples=20_000)
    assert (found.value, found.lower, found.upper) == pytest.approx((5, 4.552, 5.448), abs=0.05)


def test_the_band_is_wider_than_the_interval_and_holds_each_end_s_direction():
    scores = some_scores(3)
    band = delta_band(scores, [0, 3], n_resamples=500)
    found = bootstrap(scores, DELTA, method="percentile", n_resamples=500)
    assert band.value == found.value
    assert band.upper - band.lower > found.upper - found.lower
    with pytest.raises(InputError, match="level = 2"):
        delta_band(scores, [0], level=2)


def policy(**values: object) -> Policy:
    base = {"id": "a", "weights": CENTRE, "rewards": CENTRE, "prompt_rewards": np.ones((3, 2))}
    return Policy(**{**base, **values})


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([], "policies: at least one"),
        ([policy(prompt_rewards=None)], "policy 'a': has no prompt_rewards"),
        ([policy(regularizer=0.5)], "regularizer = 0.5 without prompt_regularizer"),
        ([policy(), policy(id="b", prompt_rewards=np.ones((4, 2)))], "'b': measured on 4 prompts"),
    ],
)
def test_policies_that_cannot_be_resampled(policies, message):
    with pytest.raises(InputError, match=message):
        PromptScores.from_policies(policies)


@pytest.mark.parametrize(
    ("rewards", "regularizer", "message"),
    [
        (np.ones((2, 3)), None, r"rewards: must have shape \(m, n_prompts, d\), has \(2, 3\)"),
        (np.ones((2, 1, 2)), None, "rewards: 1 prompts, at least 2"),
        (np.ones((2, 3, 1)), None, "at least 2 objectives"),
        (np.full((2, 3, 2), np.nan), None, r"rewards\[0, 0, 0\]: must be a finite number"),
        (np.ones((2, 3, 2)), np.ones((3, 2)), r"regularizer: must have shape \(2, 3\)"),
        ("x", None, "rewards: must be numbers"),
    ],
)
def test_scores_that_are_none(rewards, regularizer, message):
    with pytest.raises(InputError, match=message):
        PromptScores(rewards, regularizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bcb"}, "method = 'bcb': must be one of"),
        ({"level": 1.0}, "level = 1: must be below 1"),
        ({"level": 0.0}, "level = 0"),
        ({"n_resamples": 99}, "n_resamples = 99: must be at least 100"),
        ({"normalization": "max"}, "normalization = 'max'"),
        (
            {"normalization": Normalization.none(3)},
            "normalization: 3 objectives, the",
        ),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        bootstrap(some_scores(), lambda p: 0.0, **options)


def test_more_refusals():
    with pytest.raises(InputError, match="per_prompt: must be finite"):
        bootstrap_mean([1.0, np.nan])
    scores = PromptScores(
        [[[0.1, 1.0], [-0.2, 1.0], [0.1, 1.0]], [[0.2, 0.0], [-0.1, 0.0], [0, 0]]]
    )
    with pytest.raises(WorkError, match=r"not finite in \d+ of 100 resamples"):
        bootstrap(scores, EPSILON, n_resamples=100)
