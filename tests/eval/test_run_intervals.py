"""Intervals of gaps: of the exact gaps, in the space of the run, or a reason why there are none."""

from __future__ import annotations

import numpy as np
import pytest

from palm_core import Normalization, Policy, PolicySet, gaps, load_oracle, sample_weights
from palm_eval import PromptScores, bootstrap, exact_gap_pairs, perplexity
from palm_eval.analysis.intervals import gap_intervals, portfolio_intervals, usage_intervals
from palm_eval.metrics import tracked_gap_pairs, usage_at

NAMES = ("helpful", "brief", "safe")


def answered(d: int, n: int = 12, prompts: int = 9) -> list[Policy]:
    oracle = load_oracle("tabular", objectives=list(NAMES[:d]), prompts=prompts, responses=20)
    return list(oracle.solve(sample_weights(n, d, seed=3)))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("method", ["none", "minmax"])
def test_each_portfolio_has_intervals_about_its_exact_gaps(d: int, method: str) -> None:
    policies = answered(d)
    raw = PolicySet.from_policies(policies, NAMES[:d])
    space = Normalization.fit(raw, method, over="all")
    candidates = space.apply(raw)
    portfolios = [[0], [1, 4], [0, 2, 5, 7]]
    each, why = gap_intervals(
        policies,
        NAMES[:d],
        portfolios,
        space=space,
        weights=sample_weights(20, d, seed=0),
        resamples=200,
    )
    assert why == ""
    assert each is not None
    for portfolio, found in zip(portfolios, each, strict=True):
        exact = gaps(candidates.subset(portfolio), candidates)
        for name in ("epsilon", "delta"):
            one = found[name]
            assert one.value == pytest.approx(getattr(exact, name), abs=1e-9)
            assert 0 <= one.lower <= one.value <= one.upper
            assert one.upper > one.lower
            assert (one.level, one.n_resamples, one.n_prompts) == (0.95, 200, 9)


def test_two_objectives_are_the_bootstrap_of_exact_gaps() -> None:
    policies = answered(2)
    space = Normalization.none(2)
    each, _ = gap_intervals(
        policies,
        NAMES[:2],
        [[1, 4]],
        space=space,
        weights=np.eye(2),
        gaps=("delta",),
        resamples=150,
        seed=5,
    )
    direct = bootstrap(
        PromptScores.from_policies(policies, NAMES[:2]),
        lambda values: exact_gap_pairs(values, [1, 4])[..., 1],
        n_resamples=150,
        seed=5,
        vectorized=True,
        least=0.0,
    )
    assert each is not None
    (found,) = each
    assert list(found) == ["delta"]
    assert (found["delta"].lower, found["delta"].upper) == (direct.lower, direct.upper)


def test_without_rewards_per_prompt_the_reason_is_told() -> None:
    bare = [Policy(id=f"p{i}", weights=w, rewards=w) for i, w in enumerate(np.eye(2))]
    found = gap_intervals(
        bare, NAMES[:2], [[0]], space=Normalization.none(2), weights=np.eye(2), resamples=100
    )
    assert found == (None, "policy 'p0': has no prompt_rewards, cannot resample")


def test_where_epsilon_is_not_defined_the_reason_is_told() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 6, 2)) - 5
    low = [
        Policy(
            id=f"p{i}",
            weights=np.eye(2)[i],
            rewards=each.mean(axis=0),
            prompt_rewards=each,
        )
        for i, each in enumerate(rows)
    ]
    found, why = gap_intervals(
        low, NAMES[:2], [[0]], space=Normalization.none(2), weights=np.eye(2), resamples=100
    )
    assert found is None
    assert "the statistic is not finite" in why


@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_corners_are_followed_where_the_gaps_go(d: int, scale: float) -> None:
    rng = np.random.default_rng(d)
    measured = np.abs(rng.normal(size=(20, d))) + 1
    measured *= scale / np.linalg.norm(measured, axis=1, keepdims=True)
    portfolio = [0, 3, 5, 9, 11]
    others = measured + 0.005 * scale * rng.normal(size=(40, 20, d))
    everyone = np.concatenate([measured[np.newaxis], others])
    found = tracked_gap_pairs(everyone, portfolio, measured, [])
    exact = [gaps(values[portfolio], values) for values in everyone]
    for column, name in enumerate(("epsilon", "delta")):
        true = np.array([getattr(one, name) for one in exact])
        unit = 1.0 if name == "epsilon" else scale
        assert (found[:, column] <= true + 1e-9 * unit).all()
        assert found[0, column] == pytest.approx(true[0], abs=1e-9 * unit)
        assert (true - found[:, column] <= 1e-9 * unit).mean() >= 0.97


def test_equal_policies_and_single_ones_have_corners_too() -> None:
    values = np.array([[1.0, 0.2, 0.1], [1.0, 0.2, 0.1], [0.1, 1.0, 0.2], [0.5, 0.5, 0.6]])
    for portfolio in ([0], [0, 1], [0, 1, 2]):
        exact = gaps(values[portfolio], values)
        stack = np.stack([values, np.ones_like(values)])
        found = tracked_gap_pairs(stack, portfolio, values, np.eye(3))
        np.testing.assert_allclose(found, [[exact.epsilon, exact.delta], [0, 0]], atol=1e-9)


@pytest.mark.parametrize("method", ["none", "minmax"])
def test_usage_has_intervals_about_what_is_measured(method: str) -> None:
    policies = answered(3)
    raw = PolicySet.from_policies(policies)
    space = Normalization.fit(raw, method, over="all")
    weights = sample_weights(150, 3, seed=1)
    portfolios = [[0, 3, 5], [2]]
    objectives = raw.objectives
    found, why = usage_intervals(policies, objectives, portfolios, space=space, weights=weights)
    assert why == ""
    assert found is not None
    values = space.apply(raw).vertex_values
    for own, portfolio in zip(found, portfolios, strict=True):
        ours = values[portfolio]
        evenness, utility = own["perplexity"], own["utility"]
        assert evenness.value == pytest.approx(perplexity(usage_at(ours, weights)))
        assert utility.value == pytest.approx((weights @ ours.T).max(axis=1).mean())
        assert 1 <= evenness.lower <= evenness.upper <= len(portfolio)
        assert utility.lower < utility.value < utility.upper
        assert utility.n_prompts == 9
    assert found[0]["perplexity"].lower < found[0]["perplexity"].upper


def test_one_portfolio_has_them_all_from_the_same_resamples() -> None:
    policies = answered(2)
    raw = PolicySet.from_policies(policies)
    space = Normalization.fit(raw, "none", over="all")
    weights = sample_weights(60, 2, seed=1)
    found, _ = portfolio_intervals(
        policies, raw.objectives, [0, 4], space=space, weights=weights, resamples=300, seed=5
    )
    assert found is not None
    assert list(found) == ["epsilon", "delta", "perplexity", "utility"]
    gap, _ = gap_intervals(
        policies, raw.objectives, [[0, 4]], space=space, weights=weights, resamples=300, seed=5
    )
    assert gap is not None
    assert found["delta"].upper == gap[0]["delta"].upper
    bare = [Policy(id="a", weights=[1.0, 0.0], rewards=[1.0, 0.0])]
    none, why = portfolio_intervals(bare, raw.objectives, [0], space=space, weights=weights)
    assert none is None
    assert "prompt_rewards" in why
