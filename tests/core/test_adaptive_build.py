from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    InputError,
    Policy,
    Portfolio,
    RefutedClaimWarning,
    Run,
    TabularOracle,
    WorkError,
    build_portfolio,
    load_oracle,
    run_status,
    sample_weights,
)
from palm_core.plugin import Ledger
from palm_core.run.config import parse_task
from palm_core.run.engine import Progress
from palm_core.run.plan import make_plan

GRID = {"mu": 0.5, "alpha": 0.1}
NAMES = ("helpful", "brief", "safe", "humour")


def tabular(d: int = 2, seed: int = 0, beta: float = 0.05) -> TabularOracle:
    return load_oracle(
        "tabular", objectives=list(NAMES[:d]), prompts=5, responses=30, seed=seed, beta=beta
    )


def true_gaps(portfolio: Portfolio, oracle: TabularOracle, n: int = 4000) -> tuple[float, float]:
    weights = np.vstack([np.eye(len(oracle.objectives)), sample_weights(n, len(oracle.objectives))])
    opt = oracle.value(weights)
    ours = portfolio.policy_set.objective(weights).max(axis=1)
    return float((1 - ours / opt).max()), float((opt - ours).max())


@given(
    st.integers(0, 500),
    st.integers(2, 3),
    st.sampled_from([0.02, 0.05, 0.2]),
    st.sampled_from([None, 0.0, 0.01]),
)
@settings(max_examples=12)
def test_the_portfolio_is_certified_to_the_target_and_truly_within_it(
    seed: int, d: int, target: float, prune_mu: float | None
) -> None:
    oracle = tabular(d, seed)
    portfolio = build_portfolio(oracle, target_epsilon=target, epsilon=prune_mu)
    found = portfolio.certificate
    assert found is not None
    assert found.epsilon is not None
    assert found.stopped == "target"
    assert found.conditional_on is None
    assert found.epsilon <= target
    epsilon, delta = true_gaps(portfolio, oracle)
    assert epsilon <= found.epsilon + 1e-9
    assert delta <= found.delta + 1e-9
    assert portfolio.theorem is None
    assert len(portfolio) <= portfolio.candidates <= portfolio.oracle_calls


def test_pruning_by_more_than_the_target_is_certified_as_such() -> None:
    oracle = tabular(3)
    portfolio = build_portfolio(oracle, target_epsilon=0.02, epsilon=0.1)
    assert portfolio.certificate is not None
    assert portfolio.certificate.epsilon is not None
    assert 0.02 < portfolio.certificate.epsilon <= 1 - 0.98 * 0.9
    assert true_gaps(portfolio, oracle)[0] <= portfolio.certificate.epsilon + 1e-9


def test_stopping_early_leaves_a_wider_certificate_that_holds() -> None:
    oracle = tabular(3)
    widths = []
    for most in (3, 6, 12, 30):
        portfolio = build_portfolio(oracle, target_epsilon=1e-4, max_calls=most)
        assert portfolio.oracle_calls == most
        assert portfolio.certificate is not None
        assert portfolio.certificate.stopped == "calls"
        assert portfolio.certificate.epsilon is not None
        assert true_gaps(portfolio, oracle)[0] <= portfolio.certificate.epsilon + 1e-9
        widths.append(portfolio.certificate.epsilon)
    assert widths == sorted(widths, reverse=True)


class Sloppy:
    """A tabular oracle whose answers are another's, worse by at most ``delta``."""

    def __init__(self, oracle: TabularOracle, delta: float, claim: float) -> None:
        self.oracle, self.size = oracle, delta
        self.objectives = oracle.objectives
        self.delta = claim

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for policy in self.oracle.solve(weights):
            rng = np.random.default_rng(policy.weights.view(np.uint64))
            loss = float(rng.uniform(0, self.size))
            yield replace(policy, regularizer=policy.regularizer + loss)


def test_claimed_slack_is_in_the_certificate_and_ends_the_search() -> None:
    exact = tabular(3)
    portfolio = build_portfolio(Sloppy(exact, 0.02, 0.02), target_epsilon=0.01)
    found = portfolio.certificate
    assert found is not None
    assert found.epsilon is not None
    assert found.stopped == "slack"
    assert found.conditional_on is not None
    assert portfolio.slack.claimed_delta == 0.02
    epsilon, delta = true_gaps(portfolio, exact)
    assert epsilon <= found.epsilon + 1e-9
    assert delta <= found.delta + 1e-9


def test_an_oracle_that_claims_nothing_is_not_asked(tmp_path: Path) -> None:
    class Modest:
        objectives = ("a", "b")
        epsilon = 1.0

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            raise AssertionError("asked")

    oracle = Modest()
    with pytest.raises(InputError, match=r"\[adaptive\]: .*epsilon = 1, must claim less than 1"):
        build_portfolio(oracle, target_epsilon=0.1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    tables = {"oracle": {"name": "tabular"}, "adaptive": {"target_epsilon": 0.1}}
    task = parse_task(tables)
    with pytest.raises(InputError, match="epsilon = 1, must claim less than 1"):
        make_plan(task, oracle)


@pytest.mark.parametrize("asked", [{"target_epsilon": 0.05, "max_calls": 40}, GRID])
def test_a_refuted_claim_is_told_and_warned_about(asked: dict[str, Any], tmp_path: Path) -> None:
    oracle = Sloppy(tabular(3), 0.05, 0.001)
    with pytest.warns(RefutedClaimWarning, match=r"within \(0, 0.001\) of the best.* 0\.0"):
        portfolio = build_portfolio(oracle, **asked, run_dir=tmp_path)
    assert portfolio.slack.measured > 0.001
    assert portfolio.certificate is not None
    assert portfolio.certificate.conditional_on is not None
    written = json.loads((tmp_path / "portfolio.json").read_text(encoding="utf-8"))
    assert written["slack"]["refuted"]
    assert written["certificate"]["refuted"]
    assert run_status(tmp_path).document()["certificate"]["refuted"]


def test_a_claim_that_holds_is_not_warned_about() -> None:
    portfolio = build_portfolio(Sloppy(tabular(3), 0.05, 0.05), **GRID)
    assert portfolio.slack.claimed
    assert portfolio.slack.measured > 0
    assert not portfolio.slack.refuted


class Costly:
    """A tabular oracle whose rewards are those of another less ``cost``."""

    epsilon = 0.0

    def __init__(self, oracle: TabularOracle, cost: float) -> None:
        self.oracle, self.cost, self.objectives = oracle, cost, oracle.objectives

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for policy in self.oracle.solve(weights):
            yield replace(policy, rewards=policy.rewards - self.cost)


@pytest.mark.parametrize("most", [3, 40])
def test_optima_below_0_are_not_blamed_on_the_oracle(most: int) -> None:
    portfolio = build_portfolio(Costly(tabular(3), 0.9), target_epsilon=0.01, max_calls=most)
    found = portfolio.certificate
    assert found is not None
    assert found.stopped == "negative"
    assert portfolio.oracle_calls == 3  # no answer would help
    assert found.epsilon == np.inf
    assert portfolio.policy_set.objective([found.epsilon_weights]).max() < 0


def test_optima_above_0_everywhere_are_asked_for_to_the_target() -> None:
    portfolio = build_portfolio(Costly(tabular(3), 0.2), target_epsilon=0.05)
    assert portfolio.certificate is not None
    assert portfolio.certificate.stopped == "target"


class Silent:
    """Exact, and claims nothing."""

    def __init__(self, oracle: TabularOracle) -> None:
        self.objectives, self.solve = oracle.objectives, oracle.solve


@pytest.mark.parametrize("asked", [{"target_epsilon": 0.05}, GRID])
def test_what_is_certified_without_a_claim_is_conditional(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    exact = build_portfolio(tabular(), **asked)
    found = build_portfolio(Silent(tabular()), **asked, run_dir=tmp_path)
    assert exact.certificate is not None
    assert found.certificate is not None
    assert exact.certificate.conditional_on is None
    assert found.certificate.conditional_on is not None
    assert found.certificate.epsilon == exact.certificate.epsilon
    assert (found.slack.claimed, exact.slack.claimed) == (False, True)
    again = Run.open(tmp_path)
    pruned = again.prune(again.settings).certificate
    assert pruned is not None
    assert pruned.conditional_on == found.certificate.conditional_on
    assert run_status(tmp_path).conditional_on == found.certificate.conditional_on
    if found.theorem is not None and exact.theorem is not None:
        assert "conditional" in found.theorem.statement
        assert "conditional" not in exact.theorem.statement


class Counting:
    """Counts its calls, and fails at one."""

    epsilon = 0.0

    def __init__(self, oracle: TabularOracle, stop_at: int | None = None) -> None:
        self.oracle, self.stop_at, self.calls = oracle, stop_at, 0
        self.error: BaseException = KeyboardInterrupt()
        self.objectives, self.fingerprint = oracle.objectives, oracle.fingerprint

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            if self.calls == self.stop_at:
                raise self.error
            self.calls += 1
            yield from self.oracle.solve(row[np.newaxis])


@pytest.mark.parametrize("stop_at", [0, 1, 2, 5, 8])
def test_a_stopped_run_asks_the_same_and_ends_the_same(tmp_path: Path, stop_at: int) -> None:
    whole = build_portfolio(tabular(3), target_epsilon=0.05)
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(Counting(tabular(3), stop_at), target_epsilon=0.05, run_dir=tmp_path)
    again = Counting(tabular(3))
    portfolio = build_portfolio(again, target_epsilon=0.05, run_dir=tmp_path)
    assert again.calls == whole.oracle_calls - stop_at
    assert [p.id for p in portfolio.policies] == [p.id for p in whole.policies]
    assert portfolio.certificate == whole.certificate
    assert portfolio.gaps == whole.gaps


def test_answers_of_a_run_serve_pruning(tmp_path: Path) -> None:
    built = build_portfolio(tabular(3), target_epsilon=0.02, run_dir=tmp_path)
    run = Run.open(tmp_path)
    assert [p.id for p in run.prune(run.settings).policies] == [p.id for p in built.policies]
    small = run.prune(run.settings.with_pruning({"epsilon": 0.1}))
    assert len(small) < len(built)
    assert small.certificate is not None
    assert small.certificate.epsilon is not None
    assert true_gaps(small, tabular(3))[0] <= small.certificate.epsilon + 1e-9


def test_a_run_that_lacks_a_vertex_cannot_be_pruned(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(Counting(tabular(3), 2), target_epsilon=0.02, run_dir=tmp_path)
    message = "2 of 3 vertices of the simplex are done; finish the run first"
    with pytest.raises(InputError, match=message):
        Run.open(tmp_path)


def test_nothing_is_certified_without_a_vertex(tmp_path: Path) -> None:
    broken = Counting(tabular(3), 2)
    broken.error = RuntimeError("preempted")
    message = "failed at a vertex.*RuntimeError: preempted; the 2 finished calls are saved"
    with pytest.raises(WorkError, match=message):
        build_portfolio(broken, target_epsilon=0.02, run_dir=tmp_path)
    with Ledger.read(tmp_path) as ledger:
        assert [item.attempts for item in ledger.missing()] == [3]


def test_another_target_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    build_portfolio(tabular(), target_epsilon=0.1, run_dir=tmp_path)
    with pytest.raises(InputError, match=r"\[adaptive\] target_epsilon was 0.1, is 0.05"):
        build_portfolio(tabular(), target_epsilon=0.05, run_dir=tmp_path)


def test_batches_and_workers_reach_the_target_too() -> None:
    with ThreadPoolExecutor(2) as executor:
        portfolio = build_portfolio(tabular(3), target_epsilon=0.05, executor=executor)
    assert portfolio.certificate is not None
    assert portfolio.certificate.epsilon is not None
    assert portfolio.certificate.epsilon <= 0.05


def test_progress_tells_calls_and_certified_gap() -> None:
    seen: list[Progress] = []
    portfolio = build_portfolio(tabular(3), target_epsilon=0.05, progress=seen.append)
    assert seen[0] == Progress(0, None, None)
    assert seen[-1].done == portfolio.oracle_calls
    gaps = [now.certified for now in seen if now.certified is not None]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] <= 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_epsilon": 0.0}, r"target_epsilon = 0.0: must be in \(0, 1\]; 0.01 means"),
        ({"target_epsilon": 1.5}, "target_epsilon = 1.5"),
        ({"target_epsilon": 0.1, "mu": 0.5}, "mu and target_epsilon exclude"),
        ({"target_epsilon": 0.1, "alpha": 0.5}, "alpha and target_epsilon exclude"),
        ({"target_epsilon": 0.1, "max_calls": 0}, "max_calls = 0: must be at least 1"),
        ({"target_epsilon": 0.1, "normalize": "minmax"}, "normalize = 'minmax': requires a grid"),
        ({"mu": 0.5, "alpha": 0.5, "max_calls": 3}, "max_calls = 3: requires target_epsilon"),
    ],
)
def test_settings_that_do_not_go_together(arguments: dict[str, object], message: str) -> None:
    oracle = Counting(tabular())
    with pytest.raises(InputError, match=message):
        build_portfolio(oracle, **arguments)
    assert oracle.calls == 0


def test_fewer_calls_than_vertices_are_refused() -> None:
    oracle = Counting(tabular(3))
    with pytest.raises(InputError, match="max_calls = 2: must be at least 3, one per objective"):
        build_portfolio(oracle, target_epsilon=0.1, max_calls=2)
    assert oracle.calls == 0


def test_tasks_are_adaptive_or_on_a_grid() -> None:
    task = parse_task({"oracle": {"name": "x"}, "adaptive": {"target_epsilon": 0.01}})
    assert task.settings.asked.target_epsilon == 0.01
    assert task.settings.pruning.method == "minimal"
    grid = {"mu": 0.5, "alpha": 0.1}
    for content, message in (
        ({"adaptive": {"target_epsilon": 0.1}, "grid": grid}, "exclude each other"),
        ({"adaptive": {}}, r"\[adaptive\] target_epsilon: is missing"),
        ({"adaptive": {"target_epsilon": 2}}, r"\[adaptive\] target_epsilon = 2"),
        (
            {"adaptive": {"target_epsilon": 0.1, "calls": 3}},
            "unknown key; did you mean 'max_calls'",
        ),
        (
            {"adaptive": {"target_epsilon": 0.1}, "prune": {"normalize": "minmax"}},
            r"\[prune\] normalize = 'minmax'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            parse_task({"oracle": {"name": "x"}, **content})
