from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    InputError,
    OracleAnswerError,
    Policy,
    Portfolio,
    Run,
    WorkError,
    build_portfolio,
    construct_grid,
    sample_weights,
)
from palm_core.oracles.tabular import load as tabular
from palm_core.plugin import Ledger, weight_id


class Finite:
    """The best of a finite set of policies; keeps what it was asked."""

    objectives = ("a", "b")

    def __init__(self, rewards: np.ndarray, stop_at: int | None = None) -> None:
        self.rewards = np.asarray(rewards, dtype=float)
        self.objectives = tuple("abcdef"[: self.rewards.shape[1]])
        self.asked: list[np.ndarray] = []
        self.stop_at = stop_at
        self.error: BaseException = KeyboardInterrupt()

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            if self.stop_at is not None and len(self.asked) == self.stop_at:
                raise self.error
            self.asked.append(row)
            best = int(np.argmax(self.rewards @ row))
            yield Policy(id=f"policy {best}", weights=row, rewards=self.rewards[best])


def finite(seed: int, m: int = 12, d: int = 2) -> Finite:
    return Finite(np.random.default_rng(seed).uniform(0.1, 1, (m, d)))


@given(
    st.integers(0, 10_000),
    st.integers(2, 4),
    st.sampled_from(["greedy", "exact"]),
    st.floats(0, 0.3),
    st.floats(0, 0.1),
)
@settings(max_examples=40)
def test_every_grid_weight_is_covered_and_gaps_hold_everywhere(
    seed: int, d: int, method: str, prune_mu: float, prune_alpha: float
) -> None:
    oracle = finite(seed, 15, d)
    portfolio = build_portfolio(
        oracle, mu=0.6, alpha=0.2, prune_mu=prune_mu, prune_alpha=prune_alpha, method=method
    )
    grid = construct_grid(d, 0.6, 0.2)
    assert portfolio.oracle_calls == len(grid) == len(oracle.asked)
    kept = np.array([policy.rewards for policy in portfolio.policies])
    found = np.unique([oracle.rewards[np.argmax(oracle.rewards @ w)] for w in grid], axis=0)
    assert portfolio.candidates == len(found)
    opt = (grid @ found.T).max(axis=1)
    assert ((grid @ kept.T).max(axis=1) >= (1 - prune_mu) * opt - prune_alpha - 1e-12).all()
    sampled = sample_weights(500, d, seed=seed)
    best, ours = (sampled @ found.T).max(axis=1), (sampled @ kept.T).max(axis=1)
    assert portfolio.gaps is not None
    assert portfolio.gaps.epsilon is not None
    assert (best - ours).max() <= portfolio.gaps.delta + 1e-9
    assert (1 - ours / best).max() <= portfolio.gaps.epsilon + 1e-9
    assert portfolio.slack.measured == 0.0


def test_measured_slack_is_what_another_policy_gains() -> None:
    class Sloppy(Finite):
        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for row in weights:
                index = 2 if np.allclose(row, [1.0, 0.0]) else int(np.argmax(self.rewards @ row))
                yield Policy(id=f"policy {index}", weights=row, rewards=self.rewards[index])

    portfolio = build_portfolio(
        Sloppy(np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.3]])), mu=0.5, alpha=0.5
    )
    assert portfolio.slack.measured == 0.0  # nobody else was ever found at (1, 0)
    found = build_portfolio(
        Sloppy(np.array([[1.0, 0.3], [0.0, 1.0], [0.9, 0.0]])), mu=0.5, alpha=0.5
    )
    assert found.slack.measured == pytest.approx(0.1)
    assert found.slack.measured_at == "policy 2"


def test_algorithm_1_prunes_with_the_grids_mu() -> None:
    portfolio = build_portfolio(finite(1), mu=0.5, alpha=0.1)
    assert portfolio.pruning is not None
    assert (portfolio.pruning.mu, portfolio.pruning.alpha) == (0.5, 0.0)


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = build_portfolio(finite(5), mu=0.3, alpha=0.05)
    broken = finite(5)
    broken.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(broken, mu=0.3, alpha=0.05, run_dir=tmp_path)
    again = finite(5)
    portfolio = build_portfolio(again, mu=0.3, alpha=0.05, run_dir=tmp_path)
    assert len(again.asked) == 27 - 7
    assert [p.id for p in portfolio.policies] == [p.id for p in whole.policies]
    assert portfolio.gaps == whole.gaps
    loaded = Portfolio.load(tmp_path)
    assert [p.id for p in loaded.policies] == [p.id for p in whole.policies]
    last = finite(5)
    build_portfolio(last, mu=0.3, alpha=0.05, run_dir=tmp_path)
    assert last.asked == []


def test_another_task_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    build_portfolio(finite(5), mu=0.3, alpha=0.05, run_dir=tmp_path)
    with pytest.raises(InputError, match=r"another task: \[grid\] mu was 0.3, is 0.25"):
        build_portfolio(finite(5), mu=0.25, alpha=0.05, prune_mu=0.3, run_dir=tmp_path)


def test_changed_data_behind_the_same_options_is_another_task(tmp_path: Path) -> None:
    build_portfolio(tabular(prompts=3, responses=5), mu=1, alpha=0.5, run_dir=tmp_path)
    with pytest.raises(InputError, match=r"\[oracle\] fingerprint was"):
        build_portfolio(tabular(prompts=3, responses=5, seed=1), mu=1, alpha=0.5, run_dir=tmp_path)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_workers_change_nothing(tmp_path: Path, pool: type) -> None:
    oracle = tabular(prompts=4, responses=20)
    alone = build_portfolio(oracle, mu=0.5, alpha=0.2)
    with pool(max_workers=2) as executor:
        together = build_portfolio(oracle, mu=0.5, alpha=0.2, executor=executor, run_dir=tmp_path)
    assert [p.id for p in together.policies] == [p.id for p in alone.policies]
    assert together.gaps == alone.gaps


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
def test_an_oracle_that_fails_everywhere_stops_the_run(tmp_path: Path, pool: type | None) -> None:
    broken = finite(5)
    broken.stop_at, broken.error = 7, RuntimeError("out of\nmemory")
    message = (
        "failed at 7 weights in a row; last: RuntimeError: out of memory; "
        "the 7 finished calls are saved"
    )
    opened = nullcontext() if pool is None else pool(1)
    with opened as executor, pytest.raises(WorkError, match=message):
        build_portfolio(broken, mu=0.3, alpha=0.05, run_dir=tmp_path, executor=executor)
    with Ledger.read(tmp_path) as ledger:
        assert len(ledger.answers()) == 7
        assert len(ledger.missing()) == 7


class Wrong(Finite):
    def __init__(self, answer: object) -> None:
        super().__init__(np.array([[1.0, 0.0], [0.0, 1.0]]))
        self.answer = answer

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            yield self.answer(row) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "yielded a NoneType, must be a palm_core.Policy"),
        (lambda w: Policy(id="x", weights=w, rewards=[1.0, np.nan]), "must be finite"),
        (lambda w: Policy(id="x", weights=w, rewards=[1.0]), r"must have shape \(2\)"),
        (lambda w: Policy(id="x", weights=w, rewards=w), "two answers with different rewards"),
        (lambda w: Policy(id="x", weights=w[::-1] + 1, rewards=w), r"weights = .*: must be"),
    ],
)
def test_answers_are_checked_at_the_door(answer: object, message: str) -> None:
    with pytest.raises(OracleAnswerError, match=message):
        build_portfolio(Wrong(answer), mu=0.5, alpha=0.5)


def test_an_oracle_that_stops_early_is_told() -> None:
    class Lazy(Finite):
        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            yield from super().solve(weights[:2])

    # Asked again for the others, alone, it has nothing to say at all.
    portfolio = build_portfolio(Lazy(np.eye(2)), mu=0.5, alpha=0.5)
    assert portfolio.oracle_calls == 7

    class Silent(Finite):
        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            return iter(())

    with pytest.raises(OracleAnswerError, match="answered 0 of 1 weights and stopped"):
        build_portfolio(Silent(np.eye(2)), mu=0.5, alpha=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mu": 0.0, "alpha": 0.5}, r"^mu = 0.0: must be in \(0, 1\]"),
        ({"mu": 1.5, "alpha": 0.5}, "^mu = 1.5"),
        ({"mu": 0.5, "alpha": 0.0}, "^alpha = 0.0"),
        ({"mu": 0.5}, "^alpha: is missing"),
        ({}, "^mu: is missing"),
        ({"mu": 0.5, "alpha": 0.5, "prune_mu": 2.0}, "^prune_mu = 2.0"),
        ({"mu": 0.5, "alpha": 0.5, "method": "best"}, "^method = 'best'"),
        ({"mu": 0.5, "alpha": 0.5, "solver": "best"}, "^solver = 'best'"),
        ({"mu": 0.5, "alpha": 0.5, "normalize": "best"}, "^normalize = 'best'"),
    ],
)
def test_bad_settings_cost_no_call(arguments: dict[str, object], message: str) -> None:
    oracle = finite(0)
    with pytest.raises(InputError, match=message):
        build_portfolio(oracle, **arguments)
    assert oracle.asked == []


def test_huge_grids_are_refused_with_their_count_before_any_call() -> None:
    oracle = Finite(np.eye(6))
    with pytest.raises(
        InputError,
        match="the grid has 701 057 393 127 weights, must have at most 1 000 000",
    ):
        build_portfolio(oracle, mu=0.01, alpha=0.2)
    assert oracle.asked == []
    with pytest.raises(InputError, match=r"about 10\^\d+ weights.*target_epsilon"):
        build_portfolio(oracle, mu=1e-6, alpha=1e-6)


def test_minmax_is_stored_and_routed_with() -> None:
    scale = np.array([1.0, 1000.0])
    rewards = np.random.default_rng(2).uniform(0, 1, (10, 2))
    portfolio = build_portfolio(
        Finite(rewards * scale), mu=0.2, alpha=0.05, prune_mu=0.0, normalize="minmax"
    )
    assert portfolio.normalization.method == "minmax"
    assert portfolio.theorem is not None
    assert not portfolio.theorem.applies
    scaled = portfolio.policy_set
    assert scaled.rewards.min() >= -1e-12
    assert scaled.rewards.max() <= 1 + 1e-12
    w = [0.5, 0.5]
    assert portfolio.route(w).id == scaled.names[int(np.argmax(scaled.objective(w)[0]))]


def test_progress_counts_what_was_there_already(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    broken = finite(5)
    broken.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(broken, mu=0.5, alpha=0.2, run_dir=tmp_path)
    build_portfolio(
        finite(5),
        mu=0.5,
        alpha=0.2,
        run_dir=tmp_path,
        progress=lambda now: seen.append((now.done, now.total)),
    )
    total = len(construct_grid(2, 0.5, 0.2))
    assert list(dict.fromkeys(seen)) == [(done, total) for done in range(3, total + 1)]


def test_weight_ids_tell_neighbouring_grid_weights_apart() -> None:
    for mu, alpha in ((0.001, 0.01), (0.5, 1e-9), (0.01, 0.3)):
        grid = construct_grid(2, mu, alpha)
        assert len({weight_id(row) for row in grid}) == len(grid)


def test_a_run_is_pruned_again_without_the_oracle(tmp_path: Path) -> None:
    oracle = finite(8, 30, 3)
    build_portfolio(oracle, mu=0.5, alpha=0.1, prune_mu=0.1, run_dir=tmp_path)
    run = Run.open(tmp_path)
    for prune_mu in (0.0, 0.02, 0.3):
        direct = build_portfolio(finite(8, 30, 3), mu=0.5, alpha=0.1, prune_mu=prune_mu)
        again = run.prune(run.settings.with_pruning({"mu": prune_mu}))
        assert [p.id for p in again.policies] == [p.id for p in direct.policies]
        assert again.gaps == direct.gaps
        assert again.theorem == direct.theorem
    assert len(Portfolio.load(tmp_path)) == len(run.prune(run.settings))


def test_the_curve_of_a_run_is_that_of_its_policies(tmp_path: Path) -> None:
    built = build_portfolio(finite(8, 30, 3), mu=0.3, alpha=0.05, run_dir=tmp_path)
    points = Run.open(tmp_path).curve(most=4)
    assert [point.size for point in points] == [1, 2, 3, 4]
    assert all(point.proven for point in points)
    run = Run.open(tmp_path)
    for point in points:
        made = run.prune(run.settings.with_pruning({"epsilon": point.epsilon}))
        assert made.candidates == built.candidates
        assert len(made) == point.size


def test_unfinished_runs_are_not_pruned(tmp_path: Path) -> None:
    broken = finite(5)
    broken.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(broken, mu=0.5, alpha=0.2, run_dir=tmp_path)
    with pytest.raises(InputError, match="3 of 11 oracle calls are done; finish the run first"):
        Run.open(tmp_path)
