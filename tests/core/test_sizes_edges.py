"""Smallest portfolios and their curve at their edges: what is proven, passed on, and served."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import PolicySet, _cuts, gaps, selection, setcover, sizes, violations
from palm_core._cuts import CutLoop
from palm_core._intervals import fewest_intervals
from palm_core._pair import TOLERANCE
from palm_core._programs import AGREEMENT
from palm_core.cover import best_policies
from palm_core.envelope import serving_intervals
from palm_core.errors import InputError
from palm_core.minimal import minimal_portfolio, minimal_report
from palm_core.selection import select_models
from palm_core.setcover import solve_set_cover
from palm_core.sizes import size_gap_curve


@settings(max_examples=5)
@given(st.integers(0, 2**16), st.integers(2, 3))
def test_a_point_of_the_curve_has_the_gaps_of_its_portfolio(seed: int, d: int) -> None:
    rewards = np.random.default_rng(seed).uniform(0.1, 1, (6, d))
    curve = size_gap_curve(rewards)
    for point in curve:
        found = gaps(rewards[point.indices], rewards)
        assert (point.epsilon, point.delta) == (found.epsilon, found.delta)
        # as good as the best subset of its size, to the last of 4e-9
        best = min(
            gaps(rewards[list(chosen)], rewards).epsilon
            for chosen in combinations(range(6), point.size)
        )
        assert best - 1e-12 <= point.epsilon <= best + 8e-9
        assert point.proven
    assert [point.size for point in curve] == sorted({point.size for point in curve})


def test_what_is_asked_is_passed_on_and_nothing_is_proven_without_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rewards = np.random.default_rng(3).uniform(0.1, 1, (7, 3))
    asked = []

    def unproven(candidates, *, epsilon, solver, time_limit):
        asked.append((solver, time_limit))
        found = minimal_report(candidates, epsilon=epsilon)
        # a smaller one may exist: the bound is one below what was found
        return replace(found, lower_bound=len(found.indices) - 1)

    monkeypatch.setattr(sizes, "minimal_report", unproven)
    curve = size_gap_curve(rewards, most=2, solver="cbc", time_limit=7.0)
    assert set(asked) == {("cbc", 7.0)}
    assert [point.size for point in curve] == [1, 2]
    assert not any(point.proven for point in curve)
    assert [point.size for point in size_gap_curve(rewards, most=1)] == [1]


def test_by_default_nothing_may_be_lost() -> None:
    three = [[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]]
    assert minimal_portfolio(three).tolist() == [0, 1, 2]
    assert minimal_report(three).epsilon == minimal_report(three).delta == 0.0


@pytest.mark.parametrize(
    ("d", "epsilon", "shift", "exact"),
    [
        (3, 0.0, 0.0, True),
        (4, 0.1, 0.0, True),
        (3, 0.0, -0.55, True),  # ε = 0: the sign does not matter
        (3, 0.1, -0.55, False),  # opt changes its sign
        (3, 1.0, -0.55, False),
        (5, 0.1, 0.0, False),  # many corners: linear programs
        (5, 0.0, 0.0, False),
    ],
)
def test_covers_and_violations_share_one_tolerance(d, epsilon, shift, exact) -> None:
    values = np.eye(d) + shift
    loop = CutLoop(values, epsilon=epsilon, delta=0.0)
    assert loop.keeps_sign is (epsilon == 0 or shift == 0)
    assert loop.relative == (TOLERANCE if exact else AGREEMENT)


@pytest.mark.parametrize(("d", "epsilon"), [(3, 0.0), (3, 0.1), (5, 0.1)])
def test_a_cover_forgives_what_counts_as_equal_among_violations(d: int, epsilon: float) -> None:
    # or a weight could be violated and covered at once, and the two would never agree
    loop = CutLoop(np.random.default_rng(d).uniform(0.1, 1, (12, d)), epsilon=epsilon, delta=0.0)
    cover = loop._cover(loop.weights)
    rounding = best_policies(loop.policies, loop.weights).rounding
    slack = loop.everyone.slack(loop.weights, loop.relative)
    np.testing.assert_array_equal(cover.best.rounding, rounding + slack)
    assert (slack >= loop.relative * (loop.weights @ loop.everyone.spread)).all()
    assert (cover.mu, cover.alpha) == (epsilon, 0.0)
    chosen = np.array([0, 3, 7])
    assert (_cuts._covered(cover, chosen) == cover.matrix()[chosen].any(axis=0)).all()


def test_a_proof_is_asked_for_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def recorded(bits, n_weights, **options):
        found = solve_set_cover(bits, n_weights, **options)
        asked.append((options, found))
        return found

    monkeypatch.setattr(setcover, "solve_set_cover", recorded)
    rewards = np.random.default_rng(11).uniform(0.1, 1, (30, 3))
    loop = CutLoop(rewards, epsilon=0.05, delta=0.0)
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
    late = CutLoop(rewards, epsilon=0.05, delta=0.0)
    late.run(solver=None, deadline=begun)
    assert late.solver == "greedy"
    assert len(late.valid) >= len(loop.valid)


def test_every_cover_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(make):
        def of(cover, *given, **options):
            n_weights = given[0] if given else cover.n_weights
            made.append(n_weights == len(loop.weights))  # else it completes another
            return make(cover, *given, **options)

        return of

    for name in ("_greedy", "_near_smallest"):
        monkeypatch.setattr(_cuts, name, counted(getattr(_cuts, name)))
    monkeypatch.setattr(setcover, "solve_set_cover", counted(solve_set_cover))
    for seed in range(3):
        made.clear()
        rewards = np.random.default_rng(seed).uniform(0.1, 1, (40, 3))
        loop = CutLoop(rewards, epsilon=0.02, delta=0.0)
        loop.run(solver=None, deadline=time.perf_counter() + 60)
        assert loop.rounds == sum(made) > 2


def test_a_smallest_portfolio_where_the_optimum_changes_its_sign() -> None:
    rewards = np.random.default_rng(5).uniform(-1, 1, (8, 3))
    for epsilon, delta in ((0.2, 0.1), (1.0, 0.3)):
        found = minimal_report(rewards, epsilon=epsilon, delta=delta)
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
    by_intervals = minimal_report([[1.0, 0.0], [0.0, 1.0]])
    assert (by_intervals.solver, by_intervals.rounds) == ("intervals", 0)
    assert 0 < by_intervals.seconds < 60
    for name in ("epsilon", "delta"):
        with pytest.raises(InputError, match=f"^{name} = -0.5: must be"):
            minimal_report(np.eye(2), **{name: -0.5})
    asked = []
    original = CutLoop.run

    def recorded(loop, *, solver, deadline):
        asked.append(solver)
        return original(loop, solver=solver, deadline=deadline)

    monkeypatch.setattr(CutLoop, "run", recorded)
    minimal_report(np.eye(3), solver="cbc")
    assert asked == ["cbc"]
