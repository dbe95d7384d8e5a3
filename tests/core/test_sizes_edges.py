"""Smallest portfolios and their curve at their edges: what is proven, passed on, and served."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    CoverMatrix,
    InputError,
    PolicySet,
    gaps,
    minimal_portfolio,
    select_models,
    serving_intervals,
    size_gap_curve,
    violations,
)
from palm_core.cover import minimal as _cuts
from palm_core.cover import minimal as sizes
from palm_core.cover import set_cover as setcover
from palm_core.cover.minimal import CutLoop, fewest_intervals, least_policies
from palm_core.cover.set_cover import solve_set_cover
from palm_core.tables import select as selection


@settings(max_examples=5)
@given(st.integers(0, 2**16), st.integers(2, 3))
def test_a_point_of_the_curve_has_the_gaps_of_its_portfolio(seed: int, d: int) -> None:
    rewards = np.random.default_rng(seed).uniform(0.1, 1, (6, d))
    curve = size_gap_curve(rewards)
    for point in curve:
        found = gaps(rewards[point.indices], rewards)
        assert (point.epsilon, point.delta) == (found.epsilon, found.delta)
        # the best subset of its size, to the last bit
        best = min(
            gaps(rewards[list(chosen)], rewards).epsilon
            for chosen in combinations(range(6), point.size)
        )
        assert point.epsilon == best
        assert point.proven
    assert [point.size for point in curve] == sorted({point.size for point in curve})


def test_what_is_asked_is_passed_on_and_nothing_is_proven_without_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rewards = np.random.default_rng(3).uniform(0.1, 1, (7, 3))
    asked = []

    def unproven(candidates, *, epsilon, solver, time_limit):
        asked.append((solver, time_limit))
        found = least_policies(candidates, epsilon=epsilon)
        # a smaller one may exist: the bound is one below what was found
        return replace(found, lower_bound=len(found.indices) - 1)

    monkeypatch.setattr(sizes, "least_policies", unproven)
    curve = size_gap_curve(rewards, most=2, solver="cbc", time_limit=7.0)
    assert {solver for solver, _ in asked} == {"cbc"}
    # What is left of the time for the whole curve.
    limits = [limit for _, limit in asked]
    assert limits == sorted(limits, reverse=True)
    assert 0 < limits[-1] < limits[0] <= 7.0
    assert [point.size for point in curve] == [1, 2]
    assert not any(point.proven for point in curve)
    assert [point.size for point in size_gap_curve(rewards, most=1)] == [1]


def test_by_default_nothing_may_be_lost() -> None:
    three = [[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]]
    assert minimal_portfolio(three).tolist() == [0, 1, 2]
    assert minimal_portfolio(three).epsilon == minimal_portfolio(three).delta == 0.0


@pytest.mark.parametrize(
    ("share", "options"),
    [
        (0.5, {"epsilon": 0.5}),
        (0.5, {"delta": 0.5}),
        (0.7, {"epsilon": 0.3}),
        (0.95, {"delta": 0.05}),
    ],
)
@pytest.mark.parametrize("d", [2, 3, 5])
def test_a_tolerance_is_met_exactly_and_missed_by_the_last_bit(d, share, options) -> None:
    """Cover, violations and proof agree, or they would never come to an end."""
    values = np.vstack([np.eye(d), np.full((1, d), share)])
    kept = minimal_portfolio(values, **options)
    assert (kept.status, kept.indices.tolist()) == ("optimal", [d])
    assert getattr(kept.gaps, next(iter(options))) <= next(iter(options.values()))
    less = {name: value - 2.0**-50 for name, value in options.items()}
    kept = minimal_portfolio(values, **less)
    assert (kept.status, kept.indices[:d].tolist()) == ("optimal", [*range(d)])


def test_a_proof_is_asked_for_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def recorded(bits, n_weights, **options):
        found = solve_set_cover(bits, n_weights, **options)
        asked.append((options, found))
        return found

    monkeypatch.setattr(setcover, "solve_set_cover", recorded)
    rewards = np.random.default_rng(11).uniform(0.1, 1, (30, 3))
    numbers = PolicySet(rewards).values()
    loop = CutLoop(numbers, epsilon=0.05, delta=0.0)
    assert (loop.solver, loop.rounds, loop.lower) == ("greedy", 0, 1)
    begun = time.perf_counter()
    loop.run(solver="cbc", deadline=begun + 50.0)
    options, found = asked[-1]
    assert options["solver"] == "cbc"
    assert 0 < options["time_limit"] <= 50.0
    assert len(options["incumbent"]) >= len(loop.valid)
    assert loop.solver == found.solver
    assert loop.lower == found.lower_bound == len(loop.valid)
    assert loop.rounds > len(asked)
    late = CutLoop(numbers, epsilon=0.05, delta=0.0)
    late.run(solver=None, deadline=begun)
    assert late.solver == "greedy"
    assert len(late.valid) >= len(loop.valid)


def test_every_cover_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(make):
        def of(cover, *given, **options):
            n_weights = cover.n_weights if isinstance(cover, CoverMatrix) else given[0]
            made.append(n_weights == loop._n_columns)  # else it completes another
            return make(cover, *given, **options)

        return of

    for name in ("_greedy", "_near_smallest"):
        monkeypatch.setattr(_cuts, name, counted(getattr(_cuts, name)))
    monkeypatch.setattr(setcover, "solve_set_cover", counted(solve_set_cover))
    for seed in range(3):
        made.clear()
        rewards = np.random.default_rng(seed).uniform(0.1, 1, (40, 3))
        loop = CutLoop(PolicySet(rewards).values(), epsilon=0.02, delta=0.0)
        loop.run(solver=None, deadline=time.perf_counter() + 60)
        assert loop.rounds == sum(made) > 2


def test_a_smallest_portfolio_where_the_optimum_changes_its_sign() -> None:
    rewards = np.random.default_rng(5).uniform(-1, 1, (8, 3))
    for epsilon, delta in ((0.2, 0.1), (1.0, 0.3)):
        found = minimal_portfolio(rewards, epsilon=epsilon, delta=delta)
        fits = [
            len(chosen)
            for size in range(1, 9)
            for chosen in combinations(range(8), size)
            if not _violated(rewards, list(chosen), epsilon, delta)
        ]
        assert found.status == "optimal"
        assert len(found.indices) == min(fits)


def _violated(rewards, chosen, epsilon, delta) -> bool:
    return len(violations(rewards[chosen], rewards, epsilon=epsilon, delta=delta)) > 0


def test_of_intervals_the_one_that_reaches_furthest_and_the_empty_are_left_out() -> None:
    nothing = [np.nan, np.nan]
    assert fewest_intervals(
        np.array([nothing, [0.0, 0.5], [0.0, 0.6], [0.4, 1.0], nothing, [0.0, 0.6]]), 1.0
    ).tolist() == [2, 3]
    assert fewest_intervals(np.array([[0.0, 1.0], nothing]), 1.0).tolist() == [0]


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match="^delta = -0.5: must be a finite number of at least 0"):
        select_models(PolicySet(np.eye(2)), delta=-0.5)


@pytest.mark.parametrize("d", [2, 3])
def test_a_policy_that_serves_nothing_is_given_the_middle(d: int) -> None:
    chosen = PolicySet(np.concatenate([np.eye(d), np.full((1, d), -1.0)]))
    intervals = serving_intervals(chosen) if d == 2 else None
    served = selection._served(chosen, intervals)
    assert served[-1] == pytest.approx(np.full(d, 1 / d))
    for index in range(d):
        assert served[index].argmax() == index
        assert served[index].sum() == pytest.approx(1.0)
        assert chosen.objective(served[index]).argmax() == index


def test_a_report_tells_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    by_intervals = minimal_portfolio([[1.0, 0.0], [0.0, 1.0]])
    assert (by_intervals.solver, by_intervals.rounds) == ("intervals", 0)
    assert 0 < by_intervals.seconds < 60
    for name in ("epsilon", "delta"):
        with pytest.raises(InputError, match=f"^{name} = -0.5: must be"):
            minimal_portfolio(np.eye(2), **{name: -0.5})
    asked = []
    original = CutLoop.run

    def recorded(loop, *, solver, deadline):
        asked.append(solver)
        return original(loop, solver=solver, deadline=deadline)

    monkeypatch.setattr(CutLoop, "run", recorded)
    minimal_portfolio(np.eye(3), solver="cbc")
    assert asked == ["cbc"]
