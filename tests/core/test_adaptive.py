"""The adaptive grid: few calls, certificates that only improve, and an end in every case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    AdaptiveGrid,
    InputError,
    PolicySet,
    TabularOracle,
    certify,
    construct_grid,
    corner_weights,
    sample_weights,
)
from palm_core.guarantees import adaptive
from palm_core.guarantees.subdivision import Subdivision
from palm_core.oracles.task_table import make_task

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=15)
NAMES = ("helpful", "brief", "safe", "humour")


def small_oracle(d, seed=0, beta=0.1, shift=0.0):
    return TabularOracle(np.random.default_rng(seed).random((3, 12, d)) + shift, beta=beta)


def big_oracle(d, kind):
    if kind == "uniform":
        return TabularOracle(np.random.default_rng(0).random((20, 200, d)), beta=0.05)
    task = make_task(NAMES[:d], n_prompts=20, n_responses=200)
    return TabularOracle(task.rewards, task.reference, beta=0.05)


def exactly(oracle):
    def answer(weights):
        policy = next(oracle.solve([weights]))
        return policy.rewards, policy.regularizer

    return answer


def behind(oracle, most, seed=0):
    """Answers whose value at their weight is up to ``most`` behind opt."""
    rng = np.random.default_rng(seed)

    def answer(weights):
        policy = next(oracle.solve([weights]))
        return policy.rewards - most * rng.random(), policy.regularizer

    return answer


def run(grid, answer, *, workers=1, most=500):
    """Keep ``workers`` calls under way until the grid stops; the gap after every answer."""
    queue, gaps = [], []
    while grid.stopped is None and grid.n_answers < most:
        queue.extend(grid.ask(workers - len(queue)) if len(queue) < workers else [])
        assert queue, "neither stopped nor anything to wait for"
        weights = queue.pop(0)
        grid.tell(weights, *answer(weights))
        if grid.certificate is not None:
            gaps.append((grid.certificate.epsilon, grid.certificate.delta))
    return np.array(gaps)


def true_gaps(oracle, policies, seed=5):
    weights = np.vstack(
        [sample_weights(2000, policies.n_objectives, seed=seed), corner_weights(policies)]
    )
    opt = oracle.value(weights)
    best = policies.objective(weights).max(axis=1)
    return (1 - best / opt).max(), (opt - best).max()


def told(grid):
    return PolicySet(grid._known.values)


class TestCalls:
    @pytest.mark.parametrize("kind", ["task", "uniform"])
    @pytest.mark.parametrize(("d", "most"), [(2, 9), (3, 70)])
    def test_one_per_cent(self, d, most, kind):
        grid = AdaptiveGrid(d, target_epsilon=0.01, oracle_epsilon=0.0)
        run(grid, exactly(big_oracle(d, kind)))
        assert grid.stopped == "target"
        assert grid.n_answers <= most
        assert grid.certificate.epsilon <= 0.01
        assert grid.certificate.conditional_on is None

    @pytest.mark.parametrize(
        ("d", "mu", "alpha"), [(2, 14 / 30, 7 / 100), (3, 18 / 30, 8 / 10), (3, 18 / 30, 3 / 10)]
    )
    @pytest.mark.parametrize("kind", ["task", "uniform"])
    def test_ahead_of_the_papers_grid_at_equal_calls(self, d, mu, alpha, kind):
        oracle = big_oracle(d, kind)
        weights = construct_grid(d, mu, alpha)
        policies = list(oracle.solve(weights))
        paper = certify(PolicySet.from_policies(policies), weights)
        for target in ({"target_epsilon": paper.epsilon}, {"target_delta": paper.delta}):
            grid = AdaptiveGrid(d, **target)
            run(grid, exactly(oracle), most=len(weights))
            assert grid.stopped == "target"
            assert grid.n_answers < len(weights)

    def test_a_finite_class_is_solved_exactly(self):
        values = np.random.default_rng(0).random((40, 3)) ** 0.3

        def answer(weights):
            return values[np.argmax(values @ weights)], 0.0

        grid = AdaptiveGrid(3, target_epsilon=0.0)
        run(grid, answer)
        # Weights are rounded, so that the last bits may stay open where corners were asked.
        assert grid.stopped == "target"
        assert max(grid.certificate.epsilon, grid.certificate.delta) < 1e-14
        # Linear support asks once for every policy found and every corner left.
        found = np.unique(told(grid).rewards, axis=0)
        corners = np.unique(np.round(corner_weights(values), 9), axis=0)
        assert grid.n_answers <= len(found) + len(corners)

    def test_expected_calls(self):
        grid = AdaptiveGrid(3, target_epsilon=0.02)
        assert grid.expected_calls is None
        answer, totals = exactly(big_oracle(3, "task")), []
        while grid.stopped is None:
            for weights in grid.ask():
                grid.tell(weights, *answer(weights))
            if grid.expected_calls is not None:
                totals.append(grid.n_answers + grid.expected_calls)
        assert grid.expected_calls == 0
        later = np.array(totals[len(totals) // 2 :])
        assert (np.abs(later / grid.n_answers - 1) < 0.6).all()


class TestCertificates:
    @given(seed=SEEDS, d=st.integers(2, 4))
    @FEW
    def test_only_improve_and_hold_at_any_time(self, seed, d):
        oracle = small_oracle(d, seed=seed % 1000)
        grid = AdaptiveGrid(d, target_epsilon=0.02)
        before = (math.inf, math.inf)
        while grid.stopped is None and grid.n_answers < 40:
            weights = grid.ask()[0]
            grid.tell(weights, *exactly(oracle)(weights))
            if grid.certificate is None:
                continue
            now = (grid.certificate.epsilon, grid.certificate.delta)
            assert now[0] <= before[0] * (1 + 1e-9)
            assert now[1] <= before[1] * (1 + 1e-9)
            before = now
            if grid.n_answers in {d, d + 2, 12}:
                epsilon, delta = true_gaps(oracle, told(grid))
                assert epsilon <= now[0] + 1e-12
                assert delta <= now[1] + 1e-12

    @given(seed=SEEDS, d=st.integers(2, 3))
    @FEW
    def test_only_improve_with_declared_slack(self, seed, d):
        oracle = small_oracle(d, seed=seed % 1000)
        grid = AdaptiveGrid(d, target_delta=0.02, oracle_delta=0.03)
        gaps = run(grid, behind(oracle, 0.03, seed), most=60)
        assert (np.diff(gaps, axis=0) <= 1e-12).all()
        _, delta = true_gaps(oracle, told(grid))
        assert delta <= gaps[-1, 1]
        assert grid.certificate.conditional_on is not None
        assert 0 < grid.certificate.measured_slack <= 0.03

    @given(seed=SEEDS, d=st.integers(2, 4))
    @FEW
    def test_are_those_of_certify(self, seed, d):
        oracle = small_oracle(d, seed=seed % 1000)
        grid = AdaptiveGrid(d, target_epsilon=0.05, oracle_epsilon=0.01, evaluation_error=0.001)
        run(grid, exactly(oracle), most=20)
        weights, policies = grid._known.weights, told(grid)
        once = certify(
            policies,
            weights,
            oracle_epsilon=0.01,
            evaluation_error=0.001,
            answers=np.arange(len(weights)),
        )
        assert grid.certificate.epsilon == pytest.approx(once.epsilon, rel=1e-9)
        assert grid.certificate.delta == pytest.approx(once.delta, rel=1e-9)
        assert grid.certificate.conditional_on == once.conditional_on

    def test_a_refuted_claim(self):
        oracle = small_oracle(2, seed=1)
        grid = AdaptiveGrid(2, target_epsilon=0.005)
        run(grid, behind(oracle, 0.02), most=25)
        found = grid.certificate
        assert found.refuted
        assert "best policy found" in found.conditional_on
        once = certify(told(grid), grid._known.weights, answers=np.arange(grid.n_answers))
        assert found.delta == pytest.approx(once.delta, rel=1e-9)


class TestStopping:
    @pytest.mark.parametrize("d", [2, 3])
    @pytest.mark.parametrize(
        "claim", [{"oracle_delta": 0.01}, {"oracle_epsilon": 0.02}, {"evaluation_error": 0.005}]
    )
    def test_what_is_left_is_the_oracles_slack(self, d, claim):
        oracle = small_oracle(d)
        grid = AdaptiveGrid(d, target_epsilon=0.001, **claim)
        run(grid, behind(oracle, 0.005), most=300)
        assert grid.stopped == "slack"
        assert grid.n_answers < 300
        # Near what the claim alone may hide, and no two weights the same.
        opt = oracle.value(grid.certificate.epsilon_weights)[0]
        hidden = claim.get("oracle_delta", 0) + 2 * claim.get("evaluation_error", 0)
        hidden = hidden / opt + claim.get("oracle_epsilon", 0)
        assert 0.001 < grid.certificate.epsilon < 1.5 * hidden
        weights = grid._known.weights
        apart = np.abs(weights[:, np.newaxis] - weights[np.newaxis]).max(axis=2)
        assert (apart + np.eye(len(weights)) > 1e-6).all()
        assert not len(grid.ask(3))

    def test_optima_below_zero_have_no_epsilon_but_a_delta(self):
        oracle = small_oracle(2, shift=-0.9)
        grid = AdaptiveGrid(2, target_epsilon=0.01)
        run(grid, exactly(oracle), most=15)
        assert (grid.n_answers, grid.stopped) == (2, "negative")
        assert grid.certificate.epsilon == math.inf
        assert grid.expected_calls is None
        other = AdaptiveGrid(2, target_delta=0.01)
        run(other, exactly(oracle), most=40)
        assert other.stopped == "target"

    def test_without_a_target_the_caller_stops(self):
        grid = AdaptiveGrid(2)
        run(grid, exactly(small_oracle(2)), most=30)
        assert grid.n_answers == 30
        assert grid.expected_calls is None
        assert grid.certificate.delta < 1e-3

    def test_one_policy_for_all(self):
        grid = AdaptiveGrid(3, target_epsilon=0.01)
        run(grid, lambda w: ([0.4, 0.5, 0.6], 0.1))
        assert (grid.n_answers, grid.stopped) == (3, "target")


class TestAsking:
    @pytest.mark.parametrize("workers", [2, 4, 9])
    def test_workers_reach_the_target_too(self, workers):
        oracle = small_oracle(3, seed=2)
        alone = AdaptiveGrid(3, target_epsilon=0.02)
        run(alone, exactly(oracle))
        grid = AdaptiveGrid(3, target_epsilon=0.02)
        run(grid, exactly(oracle), workers=workers)
        assert grid.stopped == "target"
        assert grid.n_answers <= 1.3 * alone.n_answers + workers

    def test_a_batch_has_no_weight_twice(self):
        oracle = small_oracle(3)
        grid = AdaptiveGrid(3, target_epsilon=1e-4)
        for weights in grid.ask(3):
            grid.tell(weights, *exactly(oracle)(weights))
        rows = np.vstack([grid.ask(5), grid.ask(5)])
        assert len(np.unique(np.round(rows, 6), axis=0)) == 10
        np.testing.assert_array_equal(grid.pending, rows)
        np.testing.assert_allclose(rows.sum(axis=1), 1)

    def test_never_next_to_an_asked_weight(self):
        grid = AdaptiveGrid(3)
        grid.tell(np.eye(3), np.eye(3))
        first = grid._choose(grid._model, np.eye(3))
        near = first * (1 - 1e-12) + 1e-12 / 3
        second = grid._choose(grid._model, np.vstack([np.eye(3), near]))
        assert np.abs(first - second).max() > 0.1

    def test_vertices_first_and_then_patience(self):
        grid = AdaptiveGrid(3)
        np.testing.assert_array_equal(grid.ask(2), np.eye(3)[:2])
        np.testing.assert_array_equal(grid.ask(7), np.eye(3)[2:])
        assert grid.ask().shape == (0, 3)
        assert grid.certificate is None
        assert grid.stopped is None
        grid.forget([0.0, 1.0, 0.0])
        np.testing.assert_array_equal(grid.ask(), [[0.0, 1.0, 0.0]])

    def test_a_call_that_failed_may_be_asked_again(self):
        grid = AdaptiveGrid(2)
        grid.tell(np.eye(2), np.eye(2))
        first = grid.ask()
        grid.forget(first)
        assert not len(grid.pending)
        np.testing.assert_array_equal(grid.ask(), first)

    @given(seed=SEEDS)
    @FEW
    def test_any_answers_count_in_any_order(self, seed):
        rng = np.random.default_rng(seed)
        oracle = small_oracle(3, seed=seed % 1000)
        weights = np.vstack([construct_grid(3, 0.9, 0.3), sample_weights(4, 3, seed=rng)])
        policies = list(oracle.solve(weights))
        grids = []
        for order in (np.arange(len(weights)), rng.permutation(len(weights))):
            grid = AdaptiveGrid(3, target_epsilon=0.01)
            for i in order:
                grid.tell(weights[i], policies[i].rewards, policies[i].regularizer)
            grids.append(grid)
        one, two = (grid.certificate for grid in grids)
        assert one.epsilon == pytest.approx(two.epsilon, rel=1e-9)
        assert one.delta == pytest.approx(two.delta, rel=1e-9)
        at_once = AdaptiveGrid(3, target_epsilon=0.01)
        at_once.tell(weights, [p.rewards for p in policies], [p.regularizer for p in policies])
        assert at_once.certificate.epsilon == pytest.approx(one.epsilon, rel=1e-9)
        fresh = at_once.ask(2)
        assert (np.abs(fresh[:, np.newaxis] - weights).max(axis=2) > 1e-6).all()

    def test_a_stopped_run_goes_on_as_if_it_had_not(self):
        oracle, asked = small_oracle(3), []
        straight = AdaptiveGrid(3, target_epsilon=0.01)

        def answer(weights):
            asked.append(weights)
            return exactly(oracle)(weights)

        run(straight, answer)
        resumed = AdaptiveGrid(3, target_epsilon=0.01)
        for weights in asked[:9]:
            resumed.tell(weights, *exactly(oracle)(weights))
        run(resumed, exactly(oracle))
        np.testing.assert_array_equal(resumed._known.weights, straight._known.weights)

    def test_an_answer_is_recognised_after_a_round_trip_through_text(self):
        grid = AdaptiveGrid(2)
        grid.tell(np.eye(2), [[1.0, 0.0], [0.1, 0.8]])
        asked = grid.ask()[0]
        grid.tell([float(f"{value:.12g}") for value in asked], [0.6, 0.6])
        assert not len(grid.pending)

    def test_faces_first_unless_much_better(self):
        # The gap is 2/3 in the centre and 1/2 halfway between two vertices.
        grid = AdaptiveGrid(3)
        grid.tell(np.eye(3), np.eye(3))
        assert sorted(grid.ask()[0]) == pytest.approx([0.0, 0.5, 0.5])
        # With (0.4, 0.4) halfway the edges have gaps of 0.1, the centre of 4/15.
        edges = (1 - np.eye(3)) / 2
        grid.tell(edges, 0.8 * edges)
        np.testing.assert_allclose(grid.ask()[0], 1 / 3)

    def test_a_point_beside_the_corner_where_that_saves_calls(self):
        # A gap of 8 times the target is for three steps: two thirds of the way.
        grid = AdaptiveGrid(2, target_delta=0.5 / 8)
        grid.tell(np.eye(2), np.eye(2))
        assert sorted(grid.ask()[0]) == pytest.approx([1 / 3, 2 / 3])
        other = AdaptiveGrid(2, target_delta=0.5 / 3.4)
        other.tell(np.eye(2), np.eye(2))
        np.testing.assert_allclose(other.ask()[0], 0.5)


class TestManyObjectives:
    def test_where_corners_are_too_many(self, monkeypatch):
        oracle = small_oracle(4)
        weights = np.vstack([np.eye(4), sample_weights(6, 4)])
        answer = exactly(oracle)
        exact = AdaptiveGrid(4, target_epsilon=0.1)
        monkeypatch.setattr(adaptive, "_PROGRAMS", 60)
        grid = AdaptiveGrid(4, target_epsilon=0.1)
        for row in weights:
            exact.tell(row, *answer(row))
        monkeypatch.setattr(adaptive, "MOST_VERTICES", 30)
        for row in weights:
            grid.tell(row, *answer(row))
        assert isinstance(grid._model, Subdivision)
        assert grid.certificate.epsilon >= exact.certificate.epsilon * (1 - 1e-9)
        before = grid.certificate.delta
        batch = grid.ask(2)
        assert len(batch) == 2
        assert np.abs(batch[0] - batch[1]).max() > 1e-6
        for row in batch:
            grid.tell(row, *answer(row))
        assert grid.certificate.delta <= before

    def test_six_objectives(self):
        grid = AdaptiveGrid(6, target_epsilon=0.35)
        oracle = small_oracle(6)
        run(grid, exactly(oracle), most=60)
        assert grid.stopped == "target"
        weights = sample_weights(2000, 6)
        share = 1 - told(grid).objective(weights).max(axis=1) / oracle.value(weights)
        assert share.max() <= grid.certificate.epsilon


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_objectives": 1}, "n_objectives = 1"),
            ({"target_epsilon": 0.1, "target_delta": 0.1}, "exclude each other"),
            ({"target_epsilon": 1.5}, "target_epsilon = 1.5"),
            ({"target_delta": -1.0}, "target_delta = -1"),
            ({"oracle_epsilon": 1.0}, "oracle_epsilon = 1"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(InputError, match=message):
            AdaptiveGrid(**{"n_objectives": 2, **options})

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (([0.5, 0.5], [1.0, 0.0, 0.0]), "must have shape"),
            (([0.5, 0.6], [1.0, 0.0]), "must add to 1"),
            (([0.5, 0.5], [math.nan, 0.0]), "finite"),
            (([0.5, 0.5], [1.0, 0.0], -0.1), "at least 0"),
            (([[1, 0], [0, 1]], [[1.0, 0.0]]), "must have shape"),
        ],
    )
    def test_answers(self, answer, message):
        grid = AdaptiveGrid(2)
        with pytest.raises(InputError, match=message):
            grid.tell(*answer)
        assert grid.n_answers == 0

    def test_a_batch_of_none(self):
        with pytest.raises(InputError, match="n = 0"):
            AdaptiveGrid(2).ask(0)
