"""The smallest set of scored models: what is chosen, and what is said about each one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    Cover,
    InputError,
    PolicySet,
    Selection,
    gaps,
    select_models,
    serving_intervals,
    serving_shares,
)
from palm_core.plugin import package_versions

FEW = settings(max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)


def some_models(seed: int, m: int, d: int) -> PolicySet:
    rng = np.random.default_rng(seed)
    rewards = rng.uniform(0.1, 1.0, (m, d)) * 10.0 ** rng.integers(-2, 3, d)
    return PolicySet(rewards, names=[f"model {i}" for i in range(m)])


def chosen_of(candidates: PolicySet, found: Selection) -> PolicySet:
    return found.normalization.apply(candidates).subset(found.cover)


@FEW
@given(SEEDS, st.integers(2, 7), st.integers(2, 4), st.sampled_from([0.0, 0.05, 0.3]))
def test_no_smaller_set_is_within_the_tolerance(seed: int, m: int, d: int, epsilon: float) -> None:
    candidates = some_models(seed, m, d)
    found = select_models(candidates, epsilon=epsilon)
    scaled = found.normalization.apply(candidates)
    assert found.status == "optimal"
    assert found.lower_bound == len(found.models)
    assert gaps(scaled.subset(found.cover), scaled).epsilon <= epsilon + 1e-9
    assert found.gaps.epsilon == pytest.approx(
        gaps(scaled.subset(found.cover), scaled).epsilon, abs=1e-12
    )
    for fewer in combinations(range(m), len(found.models) - 1):
        if fewer:
            assert gaps(scaled.subset(fewer), scaled).epsilon > epsilon - 1e-9


@FEW
@given(SEEDS, st.integers(2, 12), st.integers(2, 5))
def test_each_model_is_told_as_it_is(seed: int, m: int, d: int) -> None:
    candidates = some_models(seed, m, d)
    found = select_models(candidates, epsilon=0.02)
    chosen = chosen_of(candidates, found)
    assert len(found.candidates) == m
    assert found.objectives == candidates.objectives
    assert found.cover.tolerance == (0.02, 0.0)
    assert found.normalization.over == f"{m} models"
    assert sum(model.share for model in found.models) == pytest.approx(1.0)
    np.testing.assert_allclose([one.share for one in found.models], serving_shares(chosen))
    # by falling weight on the first objective
    assert (np.diff(chosen.vertex_values[:, 0]) <= 0).all()
    for place, (model, index) in enumerate(zip(found.models, found.cover, strict=True)):
        assert model.name == candidates.names[index]
        np.testing.assert_array_equal(model.scores, candidates.rewards[index])
        assert model.weights.shape == (d,)
        assert model.weights.sum() == pytest.approx(1.0)
        if model.share > 0.01:  # where there is room for a sample
            values = chosen.objective(model.weights)[0]
            assert values[place] == pytest.approx(values.max(), abs=1e-12)


@FEW
@given(SEEDS, st.integers(2, 9), st.integers(2, 3))
def test_what_is_lost_without_a_model(seed: int, m: int, d: int) -> None:
    candidates = some_models(seed, m, d)
    found = select_models(candidates, epsilon=0.02)
    scaled = found.normalization.apply(candidates)
    for place, model in enumerate(found.models):
        others = np.delete(found.cover, place)
        if not len(others):
            assert model.gap_without is None
            continue
        left = gaps(scaled.subset(others), scaled).epsilon
        assert model.gap_without == pytest.approx(left)
        # or it would not be among the fewest
        assert left > 0.02 - 1e-9


@FEW
@given(SEEDS, st.integers(2, 9))
def test_intervals_of_two_objectives_tile_the_segment(seed: int, m: int) -> None:
    candidates = some_models(seed, m, 2)
    found = select_models(candidates, epsilon=0.0)
    expected = serving_intervals(chosen_of(candidates, found))
    ends = [model.interval for model in found.models]
    np.testing.assert_array_equal(np.array(ends), expected)
    assert ends[0][1] == 1.0
    assert ends[-1][0] == 0.0
    for model in found.models:
        low, high = model.interval
        assert model.weights[0] == pytest.approx((low + high) / 2)
        assert model.weights.sum() == 1.0
        assert model.share == pytest.approx(high - low)


def test_three_objectives_have_no_intervals() -> None:
    found = select_models(some_models(0, 5, 3))
    assert {model.interval for model in found.models} == {None}


def test_a_model_that_serves_a_point_alone_gets_the_middle() -> None:
    # both are best at every weight up to rounding: the second has no interval of its own
    found = select_models(
        PolicySet([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]), epsilon=0.0, normalize="none"
    )
    assert [model.name for model in found.models] == ["1", "0"]
    np.testing.assert_array_equal(
        [model.weights for model in found.models], [[0.75, 0.25], [0.25, 0.75]]
    )


def test_the_additive_tolerance_counts() -> None:
    models = PolicySet([[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]])
    assert len(select_models(models, epsilon=0.0).models) == 3
    within = select_models(models, epsilon=0.0, delta=0.3)
    assert within.cover.tolerance == (0.0, 0.3)
    assert [model.name for model in within.models] == ["1"]
    assert within.gaps.delta == pytest.approx(0.3)
    assert within.models[0].gap_without is None


def test_the_default_tolerance_is_a_hundredth() -> None:
    models = PolicySet([[1.0, 0.0], [0.992, 0.5], [0.0, 1.0]])
    assert [model.name for model in select_models(models).models] == ["1", "2"]
    assert select_models(models).cover.tolerance == (0.01, 0.0)


def test_raw_units_are_kept_when_asked() -> None:
    models = PolicySet([[100.0, 0.0], [0.0, 1.0], [99.0, 0.4]], objectives=("helpful", "safe"))
    raw = select_models(models, epsilon=0.05, normalize="none")
    assert raw.normalization.method == "none"
    assert raw.gaps.delta == pytest.approx(
        gaps(models.rewards[raw.cover], models.rewards).delta, abs=1e-12
    )
    scaled = select_models(models, epsilon=0.05)
    assert scaled.normalization.upper == (100.0, 1.0)
    assert select_models(models, over="mine").normalization.over == "mine"


def test_a_gap_that_no_share_makes_good_is_none() -> None:
    # without "a" nothing is left that is worth anything at (1, 0), where opt = 0
    models = PolicySet([[0.0, -1.0], [-1.0, 1.0]], names=("a", "b"))
    found = select_models(models, epsilon=0.0, normalize="none")
    assert {model.name: model.gap_without for model in found.models}["a"] is None


def test_as_a_portfolio() -> None:
    models = PolicySet([[3.0, 0.0], [2.0, 2.0], [0.0, 3.0]], names="abc", objectives=("x", "y"))
    found = select_models(models)
    portfolio = found.portfolio()
    assert [policy.id for policy in portfolio.policies] == ["a", "b", "c"]
    assert portfolio.objectives == ("x", "y")
    assert portfolio.candidates == 3
    assert portfolio.normalization == found.normalization
    assert portfolio.gaps is not None
    assert portfolio.gaps.epsilon == found.gaps.epsilon
    for policy, model in zip(portfolio.policies, found.models, strict=True):
        np.testing.assert_array_equal(policy.rewards, model.scores)
        np.testing.assert_array_equal(policy.weights, model.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 1.5}, r"epsilon = 1.5: must be in \[0, 1\]"),
        ({"epsilon": -0.5}, r"epsilon = -0.5: must be in \[0, 1\]"),
        ({"delta": -1.0}, "delta = -1.0: must be a finite number of at least 0"),
        ({"normalize": "max"}, "normalize = 'max': must be one of minmax, none"),
        ({"solver": "gurobi"}, "solver = 'gurobi': must be one of"),
        ({"time_limit": 0.0}, "time_limit = 0.0: must be a finite number above 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_models(PolicySet([[1.0, 0.0], [0.0, 1.0]]), **change)
    with pytest.raises(InputError, match="must have at least 2 models, has 1"):
        select_models(PolicySet([[1.0, 0.0]]))


def test_the_solver_asked_for_is_taken() -> None:
    models = some_models(3, 8, 3)
    for solver in ("cbc", "highs"):
        found = select_models(models, epsilon=0.1, solver=solver)
        np.testing.assert_array_equal(found.cover, select_models(models, epsilon=0.1).cover)


@pytest.mark.parametrize(
    ("rows", "tolerance", "solver"),
    [
        ([[1.0, 0.0], [0.9, 0.6], [0.6, 0.9], [0.0, 1.0]], (0.1, 0.02), "intervals"),
        ([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.5, 0.5, 0.5]], (0.05, 0.0), "reduction"),
    ],
)
def test_its_portfolio_tells_what_was_asked_and_proven(
    rows: list[list[float]], tolerance: tuple[float, float], solver: str
) -> None:
    epsilon, delta = tolerance
    found = select_models(PolicySet(rows), epsilon=epsilon, delta=delta, normalize="none")
    kept = found.portfolio()
    cover = kept.pruning
    assert cover is not None
    assert (cover.tolerance, cover.everywhere, cover.method) == (tolerance, True, "minimal")
    assert (cover.status, cover.solver) == ("optimal", solver)
    assert cover.lower_bound == len(cover) == len(found.models)
    assert [rows[i] for i in cover] == [model.scores.tolist() for model in found.models]
    assert kept.made_with == package_versions()
    assert (kept.oracle_calls, kept.candidates) == (0, len(rows))


def test_what_is_not_proven_is_not_told_as_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    from palm_core.cover import minimal

    report = minimal.minimal_portfolio

    def unproven(*given: object, **options: object) -> Cover:
        return replace(report(*given, **options), status="feasible", lower_bound=1)

    monkeypatch.setattr(minimal, "minimal_portfolio", unproven)
    record = select_models(PolicySet([[1.0, 0.0], [0.0, 1.0]])).portfolio().pruning
    assert record is not None
    assert (record.status, record.lower_bound, record.upper_bound) == ("feasible", 1, 2)
