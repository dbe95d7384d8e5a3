from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from palm_core import (
    AdaptiveGrid,
    Execution,
    InputError,
    OracleAnswerError,
    Policy,
    Run,
    WorkError,
    build_portfolio,
    sample_weights,
)
from palm_core.oracles.tabular import load as tabular
from palm_core.plugin import Ledger
from palm_core.run.engine import (
    FAILURES_IN_A_ROW,
    MOST_LOST,
    Collector,
    Progress,
    in_order,
    round_size,
)
from palm_core.run.executors.protocol import (
    Answered,
    Call,
    Ended,
    Event,
    Failure,
    Given,
    Refused,
    Work,
    perform,
)

NAMES = ("a", "b")
TASK = {"oracle": {"name": "x"}, "grid": {"mu": 0.5, "alpha": 0.1}}


def policy(weights: np.ndarray) -> Policy:
    return Policy(id=str(weights.tolist()), weights=weights, rewards=1 + weights)


class Workers:
    """Several calls at once, whose events come in an order that a seed decides."""

    def __init__(self, slots: int, seed: int, fails: Callable[[Call, int], Failure | None]) -> None:
        self.slots = slots
        self.random = np.random.default_rng(seed)
        self.fails = fails
        self.running: dict[int, list[Event]] = {}
        self.calls: list[Call] = []
        self.tried: dict[bytes, int] = {}

    def submit(self, call: Call) -> None:
        assert len(self.running) < self.slots
        self.calls.append(call)
        events: list[Event] = []
        for row in call.weights:
            count = self.tried[row.tobytes()] = self.tried.get(row.tobytes(), 0) + 1
            failure = self.fails(Call(call.number, row), count)
            if failure is None:
                events.append(Answered(call.number, policy(row), None, 0.5))
            elif failure.kind == "refused":
                events.append(Refused(call.number, failure))
            else:
                events.append(Ended(call.number, failure))
                break
        else:
            events.append(Ended(call.number, None))
        self.running[call.number] = events

    def events(self) -> Sequence[Event]:
        assert self.running, "waits for nothing"
        number = int(self.random.choice(list(self.running)))
        event = self.running[number].pop(0)
        if not self.running[number]:
            del self.running[number]
        return [event]

    def close(self) -> None:
        self.running.clear()


def asked(n: int = 12, seed: int = 0) -> np.ndarray:
    return np.vstack([np.eye(2), sample_weights(n - 2, 2, seed=seed)])


@given(
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 3),
    st.integers(0, 1000),
    st.dictionaries(
        st.integers(0, 11),
        st.tuples(
            st.integers(1, 4),
            st.sampled_from(["raised", "refused", "timeout", "memory", "died", "lost"]),
        ),
        max_size=4,
    ),
)
@example(slots=1, batch=None, retries=0, seed=0, trouble={0: (1, "raised")})
@settings(max_examples=150)
def test_every_weight_is_answered_or_given_up_after_the_attempts_allowed(
    slots: int,
    batch: int | None,
    retries: int,
    seed: int,
    trouble: dict[int, tuple[int, str]],
) -> None:
    weights = asked()
    bad = {weights[i].tobytes(): (times, kind) for i, (times, kind) in trouble.items()}

    def fails(call: Call, count: int) -> Failure | None:
        times, kind = bad.get(call.weights.tobytes(), (0, "raised"))
        return Failure(kind, "trouble") if count <= times else None

    workers = Workers(slots, seed, fails)
    collector = Collector(workers, retries=retries, batch=batch)
    given_up = {row for row, (times, kind) in bad.items() if kind != "lost" and times > retries}
    assume(len(given_up) < FAILURES_IN_A_ROW[0])  # more of them may stop the run
    collector.collect(weights)
    assert {item.weights.tobytes() for item in collector.missing} == given_up
    assert {a.weights.tobytes() for a in collector.answers} == {
        row.tobytes() for row in weights
    } - given_up
    for row in weights:
        times, kind = bad.get(row.tobytes(), (0, "raised"))
        tries = times + 1 if kind == "lost" else min(times, retries) + 1
        # A weight may be set aside when another one breaks its call, never twice.
        assert tries <= workers.tried[row.tobytes()] <= tries + 1
    assert all(item.attempts == retries + 1 for item in collector.missing)
    expected = [row for row in weights.tolist() if np.array(row).tobytes() not in given_up]
    ordered = in_order(collector.answers, collector.rounds)
    assert [answer.weights.tolist() for answer in ordered] == expected
    assert not workers.running


def test_what_breaks_a_call_breaks_it_for_the_others_only_once() -> None:
    weights = asked(6)
    bad = weights[2].tobytes()
    workers = Workers(
        1, 0, lambda call, _: Failure("died", "x") if call.weights.tobytes() == bad else None
    )
    Collector(workers, retries=2, batch=None).collect(weights)
    assert [len(call.weights) for call in workers.calls] == [6, 1, 1, 1, 1, 1]
    assert workers.tried[bad] == 3


def test_a_lost_worker_costs_no_attempt_but_not_for_ever() -> None:
    weights = asked(3)
    workers = Workers(2, 0, lambda *_: Failure("lost", "its node died"))
    collector = Collector(workers, retries=0, batch=1)
    with pytest.raises(WorkError, match="failed at 3 weights in a row; last: its node died"):
        collector.collect(weights)
    assert max(workers.tried.values()) == MOST_LOST + 1


def test_a_hopeless_failure_stops_the_run_and_blames_no_weight(tmp_path: Path) -> None:
    workers = Workers(2, 0, lambda *_: Failure("raised", "OSError: no space", hopeless=True))
    with Ledger.begin(tmp_path, TASK, NAMES) as ledger:
        with pytest.raises(WorkError, match="the oracle failed: OSError: no space"):
            Collector(workers, ledger=ledger, retries=0, batch=1).collect(asked(4))
        assert ledger.missing() == []
        assert ledger.counts().failures == 1


@pytest.mark.parametrize(("good", "limit"), [(0, 3), (2, 3), (6, 6), (20, 10)])
def test_failures_in_a_row_stop_the_run(good: int, limit: int) -> None:
    weights = asked(40)
    fine = {row.tobytes() for row in weights[:good]}
    workers = Workers(
        1, 0, lambda call, _: None if call.weights.tobytes() in fine else Failure("raised", "no")
    )
    collector = Collector(workers, retries=1, batch=1)
    with pytest.raises(WorkError, match=f"failed at {limit} weights in a row; last: no"):
        collector.collect(weights)
    assert len(collector.answers) == good
    assert len(collector.missing) == limit


def test_one_id_for_two_policies_is_a_failure(tmp_path: Path) -> None:
    class Confused:
        objectives = NAMES

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for row in weights:
                name = "same" if row[0] >= 0.5 else str(row[0])
                yield Policy(id=name, weights=row, rewards=1 + row)

    portfolio = build_portfolio(Confused(), mu=1.0, alpha=0.3, run_dir=tmp_path)
    assert [item.kind for item in portfolio.missing] == ["refused"] * len(portfolio.missing)
    assert portfolio.missing
    assert "two answers with different rewards" in portfolio.missing[0].message


@given(st.integers(2, 4), st.integers(0, 10**6))
def test_rounds_depend_on_what_was_asked_alone(d: int, n: int) -> None:
    assert round_size(n, d) == (d if n < d else min(64, max(2, n // 4)))


@pytest.mark.parametrize("d", [2, 3])
def test_an_adaptive_run_is_the_same_for_any_number_of_workers(d: int) -> None:
    oracle = tabular(objectives=["helpful", "brief", "safe"][:d], prompts=4, responses=20)
    work = Work(Given(oracle), oracle.objectives)

    class Shuffled(Workers):
        def submit(self, call: Call) -> None:
            self.calls.append(call)
            self.running[call.number] = list(perform(work, oracle, call))

    found = []
    for slots, seed in ((1, 0), (2, 1), (3, 2), (8, 3)):
        collector = Collector(Shuffled(slots, seed, lambda *_: None), batch=1)
        grid = AdaptiveGrid(d, target_epsilon=0.02)
        assert collector.collect_adaptively(grid, most=None) == "target"
        ordered = in_order(collector.answers, collector.rounds)
        found.append([answer.weights.tobytes() for answer in ordered])
    assert len(found[0]) > d + 4
    assert all(other == found[0] for other in found)


def test_an_adaptive_run_goes_round_what_the_oracle_fails_at() -> None:
    oracle = tabular(prompts=4, responses=20)
    whole = build_portfolio(oracle, target_epsilon=0.02)
    inner = next(a for a in whole.policies if 0 < a.weights[0] < 1).weights

    class Failing:
        objectives = oracle.objectives

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for row in weights:
                if np.allclose(row, inner):
                    raise RuntimeError("diverged")
                yield from oracle.solve(row[np.newaxis])

    portfolio = build_portfolio(Failing(), target_epsilon=0.02)
    (missing,) = portfolio.missing
    np.testing.assert_allclose(missing.weights, inner)
    assert missing.message == "RuntimeError: diverged"
    assert portfolio.certificate is not None
    assert portfolio.certificate.stopped in ("target", "failures")
    weights = sample_weights(2000, 2)
    opt = oracle.value(weights)
    ours = portfolio.policy_set.objective(weights).max(axis=1)
    assert portfolio.certificate.epsilon is not None
    assert (1 - ours / opt).max() <= portfolio.certificate.epsilon + 1e-9
    assert (opt - ours).max() <= portfolio.certificate.delta + 1e-9


class Holes:
    """A tabular oracle that fails at some weights."""

    def __init__(self, holes: np.ndarray) -> None:
        self.oracle = tabular(prompts=4, responses=20)
        self.objectives = self.oracle.objectives
        self.holes = holes
        self.calls = 0

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            self.calls += 1
            if len(self.holes) and (np.abs(self.holes - row).max(axis=1) < 1e-9).any():
                raise RuntimeError("diverged")
            yield from self.oracle.solve(row[np.newaxis])


def test_the_guarantee_does_without_what_is_missing_and_says_so(tmp_path: Path) -> None:
    inner, vertex = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]])
    whole = build_portfolio(Holes(inner[:0]), mu=0.5, alpha=0.1, prune_mu=0.05)
    assert whole.missing == ()
    found = build_portfolio(Holes(inner), mu=0.5, alpha=0.1, prune_mu=0.05, run_dir=tmp_path)
    assert found.oracle_calls == whole.oracle_calls - 1
    assert [item.weights.tolist() for item in found.missing] == inner.tolist()
    assert whole.certificate is not None
    assert found.certificate is not None
    assert found.certificate.delta >= whole.certificate.delta
    assert found.theorem is not None
    assert not found.theorem.applies
    assert "a weight of its grid has no answer" in found.theorem.statement

    run = Run.open(tmp_path)  # what is missing does not keep the rest from being used
    again = run.prune(run.settings)
    assert again.missing == found.missing
    assert again.gaps == found.gaps

    bare = build_portfolio(Holes(vertex), mu=0.5, alpha=0.1, prune_mu=0.05)
    assert bare.certificate is None
    assert [item.weights.tolist() for item in bare.missing] == vertex.tolist()

    mended = Holes(inner[:0])  # the same command again tries again, and only there
    portfolio = build_portfolio(mended, mu=0.5, alpha=0.1, prune_mu=0.05, run_dir=tmp_path)
    assert mended.calls == 1
    assert portfolio.missing == ()
    assert portfolio.certificate == whole.certificate


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_are_as_many_as_asked(retries: int) -> None:
    oracle = Holes(np.array([[0.5, 0.5]]))
    execution = Execution(executor="here", retries=retries)
    portfolio = build_portfolio(oracle, mu=0.5, alpha=0.1, execution=execution)
    assert [item.attempts for item in portfolio.missing] == [retries + 1]
    assert oracle.calls == portfolio.oracle_calls + retries + 1


def test_batches_are_as_large_as_asked_or_as_the_oracle_likes() -> None:
    sizes: list[int] = []

    class Counting:
        objectives = NAMES

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            sizes.append(len(weights))
            yield from map(policy, weights)

    def build(oracle: Counting, batch: int | None) -> list[int]:
        sizes.clear()
        execution = Execution(executor="here", batch=batch)
        build_portfolio(oracle, mu=0.5, alpha=0.1, execution=execution)
        return list(sizes)

    oracle = Counting()
    assert build(oracle, None) == [15]
    assert build(oracle, 4) == [4, 4, 4, 3]
    oracle.batch = 6
    assert build(oracle, None) == [6, 6, 3]
    oracle.batch = 0
    with pytest.raises(InputError, match=r"oracle.batch = 0: must be at least 1"):
        build(oracle, None)


def test_progress_tells_what_runs_and_what_failed() -> None:
    seen: list[Progress] = []
    weights = asked(6)
    bad = weights[3].tobytes()
    workers = Workers(
        3, 0, lambda call, _: Failure("died", "x") if call.weights.tobytes() == bad else None
    )
    Collector(workers, batch=1, progress=seen.append).collect(weights)
    assert seen[0] == Progress(0, 6)
    assert seen[-1] == Progress(5, 6, failed=1)
    assert max(now.running for now in seen) == 3
    assert all(one != two for one, two in pairwise(seen))


def test_an_extended_run_uses_all_its_answers(tmp_path: Path) -> None:
    first = Holes(np.zeros((0, 2)))
    build_portfolio(first, mu=0.5, alpha=0.2, run_dir=tmp_path)
    with pytest.raises(InputError, match="add --extend"):
        build_portfolio(Holes(np.zeros((0, 2))), mu=0.25, alpha=0.1, run_dir=tmp_path)
    finer = Holes(np.zeros((0, 2)))
    portfolio = build_portfolio(finer, mu=0.25, alpha=0.1, run_dir=tmp_path, extend=True)
    straight = Holes(np.zeros((0, 2)))
    alone = build_portfolio(straight, mu=0.25, alpha=0.1)
    assert finer.calls < straight.calls
    assert portfolio.oracle_calls == first.calls + finer.calls
    assert portfolio.certificate is not None
    assert alone.certificate is not None
    with Ledger.read(tmp_path) as ledger:
        assert ledger.task["grid"] == {"mu": 0.25, "alpha": 0.1}
    certified = build_portfolio(
        Holes(np.zeros((0, 2))), target_epsilon=0.1, run_dir=tmp_path, extend=True
    )
    assert certified.oracle_calls >= portfolio.oracle_calls
    assert certified.certificate is not None
    assert certified.certificate.stopped == "target"
    run = Run.open(tmp_path)
    assert run.prune(run.settings).gaps == certified.gaps


def test_refusals_keep_their_kind() -> None:
    class Nameless:
        objectives = NAMES

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for row in weights:
                yield Policy(id="", weights=row, rewards=row)

    with pytest.raises(OracleAnswerError, match="failed at 3 weights in a row"):
        build_portfolio(Nameless(), mu=0.5, alpha=0.1)


def test_a_request_that_is_wrong_is_not_asked_again() -> None:
    """An oracle's InputError is about its options, so that other weights would fail alike."""

    class Wrong:
        objectives = ("a", "b")
        calls = 0

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for row in weights:
                Wrong.calls += 1
                if Wrong.calls > 2:
                    raise InputError("prompts: must be shorter")
                yield policy(row)

    with pytest.raises(WorkError, match="the oracle failed: InputError: prompts: must be shorter"):
        build_portfolio(Wrong(), mu=0.5, alpha=0.05)
    assert Wrong.calls == 3
