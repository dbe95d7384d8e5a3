from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from palm_command import run as palm

import palm_core
from palm_core import (
    InputError,
    OracleAnswerError,
    Policy,
    PolicySet,
    Run,
    TabularOracle,
    build_portfolio,
    gaps,
    load_oracle,
    open_run,
    sample_weights,
)
from palm_eval import Evaluation, evaluate_run
from palm_eval.analysis.intervals import plain_intervals

TASK = """
[oracle]
name = "tabular"
objectives = ["helpful", "brief", "safe"]
prompts = 8
responses = 30
[grid]
mu = 0.7
alpha = 0.3
[prune]
epsilon = 0.04
"""


def oracle() -> TabularOracle:
    return load_oracle("tabular", objectives=["helpful", "brief", "safe"], prompts=8, responses=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    build_portfolio(oracle(), mu=0.7, alpha=0.3, epsilon=0.04, run_dir=made / "run")
    (made / "task.toml").write_text(TASK)
    return made / "run"


@pytest.fixture(scope="module")
def found(folder: Path) -> Evaluation:
    return evaluate_run(Run.open(folder), oracle=oracle(), resamples=200)


def test_figures_are_those_of_the_definitions(folder: Path, found: Evaluation) -> None:
    opened = Run.open(folder)
    portfolio = opened.prune(opened.settings)
    assert found.portfolio == tuple(policy.id for policy in portfolio.policies)
    own = found.figures
    assert own.size == len(portfolio)
    assert own.oracle_calls == portfolio.oracle_calls
    # With the baselines' policies among the candidates no gap can be smaller than without.
    alone = PolicySet.from_policies([answer.policy for answer in opened.answers])
    least = gaps(portfolio.policy_set, alone)
    assert own.epsilon >= least.epsilon - 1e-12
    assert own.delta >= least.delta - 1e-12
    assert found.candidates > len(alone)
    weights = sample_weights(1000, 3, seed=0)
    opt = oracle().value(weights)
    ours = portfolio.policy_set.objective(weights).max(axis=1)
    assert own.sampled_delta <= (opt - ours).max() + 1e-12
    for one in (own, *found.baselines.values()):
        assert one.sampled_epsilon <= one.epsilon + 1e-12
        assert one.sampled_delta <= one.delta + 1e-12
        assert 1 <= one.perplexity <= one.size + 1e-9
    assert sum(own.usage) == pytest.approx(1)


def test_baselines_have_the_size_and_the_budget_of_the_portfolio(found: Evaluation) -> None:
    size, calls = found.figures.size, found.figures.oracle_calls
    assert set(found.baselines) == {
        "uniform",
        "random",
        "uniform_palm",
        "best_single",
        "centre_single",
    }
    assert found.not_asked == {}
    assert found.baselines["uniform"].size == found.baselines["random"].size == size
    assert found.baselines["uniform"].oracle_calls == size
    assert found.baselines["random"].oracle_calls == 3 * size
    assert found.baselines["uniform_palm"].oracle_calls == calls
    assert found.baselines["uniform_palm"].size <= size
    assert found.baselines["best_single"].size == found.baselines["centre_single"].size == 1
    assert found.baselines["best_single"].delta <= found.baselines["centre_single"].delta


def test_intervals_hold_the_value_and_say_where_they_are_from(found: Evaluation) -> None:
    assert found.intervals is not None
    for name, one in found.intervals.items():
        assert one.lower <= one.value <= one.upper
        assert one.n_prompts == 8
        assert one.lower >= 0
        if name == "utility":  # of the sampled weights, the figure is of all
            assert one.value == pytest.approx(found.figures.expected_utility, abs=0.01)
        else:
            assert one.value == pytest.approx(getattr(found.figures, name), abs=1e-9)


def test_baselines_have_intervals_too_but_for_means(found: Evaluation) -> None:
    assert set(found.baseline_intervals) == set(found.baselines) - {"random"}
    for name, own in found.baseline_intervals.items():
        figures = found.baselines[name]
        assert own["delta"].lower <= figures.delta <= own["delta"].upper
        assert own["perplexity"].value == pytest.approx(figures.perplexity)
    assert found.document()["baseline_intervals"]["uniform"]["epsilon"]["prompts"] > 1


def test_intervals_are_of_the_exact_gaps_for_two_objectives(tmp_path: Path) -> None:
    build_portfolio(
        load_oracle("tabular", prompts=10, responses=20), mu=0.5, alpha=0.1, run_dir=tmp_path
    )
    found = evaluate_run(Run.open(tmp_path), resamples=200)
    assert found.intervals is not None
    assert found.intervals["epsilon"].value == pytest.approx(found.figures.epsilon, abs=1e-9)
    assert found.intervals["delta"].value == pytest.approx(found.figures.delta, abs=1e-9)


class Silent:
    """Knows no rewards per prompt."""

    objectives = ("a", "b")

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            yield Policy(id=f"{row[0]:.5f}", weights=row, rewards=np.sqrt(row))


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    build_portfolio(Silent(), mu=0.5, alpha=0.1, prune_mu=0.02, run_dir=tmp_path)
    found = evaluate_run(Run.open(tmp_path))
    assert found.intervals is None
    assert "has no prompt_rewards" in found.no_intervals
    assert set(found.not_asked) <= {"uniform", "random", "uniform_palm"}
    assert "weights have no policy in the run" in found.not_asked["random"]
    assert "random" not in found.baselines


def test_what_a_reward_is_counted_in_makes_no_difference_under_minmax(tmp_path: Path) -> None:
    class Counted:
        def __init__(self, unit: float) -> None:
            self.oracle, self.unit = load_oracle("tabular", prompts=6, responses=20), unit
            self.objectives = self.oracle.objectives

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for policy in self.oracle.solve(weights):
                yield Policy(
                    id=policy.id, weights=policy.weights, rewards=policy.rewards * [1.0, self.unit]
                )

    found = []
    for unit in (1.0, 1024.0):
        place = tmp_path / str(unit)
        settings: dict[str, Any] = {"mu": 0.4, "alpha": 0.05, "prune_mu": 0.05}
        build_portfolio(Counted(unit), **settings, normalize="minmax", run_dir=place)
        found.append(evaluate_run(Run.open(place)))
    one, two = found
    assert one.normalization == two.normalization
    assert one.normalization.startswith("minmax over")
    assert one.portfolio == two.portfolio
    for name in ("epsilon", "delta", "sampled_delta", "perplexity", "expected_utility"):
        assert getattr(one.figures, name) == pytest.approx(getattr(two.figures, name), abs=1e-9)
    assert one.figures.delta > 0


def test_another_oracle_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"oracle.objectives = \('helpful', 'brief'\): must be"):
        evaluate_run(Run.open(folder), oracle=load_oracle("tabular"))
    with pytest.raises(InputError, match="samples = 0"):
        evaluate_run(Run.open(folder), samples=0)


def test_an_id_that_means_two_policies_is_refused(folder: Path) -> None:
    class Counting:
        """Names its answers afresh in every process."""

        objectives = oracle().objectives

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            taken = Run.open(folder).answers[0].policy.id
            for policy in oracle().solve(weights):
                yield Policy(id=taken, weights=policy.weights, rewards=policy.rewards)

    with pytest.raises(OracleAnswerError, match="policy id .* different rewards"):
        evaluate_run(Run.open(folder), oracle=Counting())


def test_usage_is_of_the_weights_that_gaps_are_sampled_at(folder: Path) -> None:
    for seed in (0, 3):
        opened = Run.open(folder)
        found = evaluate_run(opened, samples=40, resamples=100, seed=seed)
        values = opened.prune(opened.settings).policy_set.objective(
            sample_weights(40, 3, seed=seed)
        )
        shares = np.bincount(values.argmax(axis=1), minlength=values.shape[1]) / 40
        assert found.figures.usage == pytest.approx(shares.tolist())


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = palm([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def test_the_command_prints_a_table_and_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two objectives: the certificate of three takes seconds in each of 400 resamples together.
    task, folder = tmp_path / "task.toml", tmp_path / "run"
    task.write_text(TASK.replace(', "safe"', ""))
    assert command(capsys, "build", task, "--out", folder)[0] == 0
    code, out, _ = command(capsys, "evaluate", folder, "--samples", 50)
    assert code == 0
    assert "perplexity" in out
    assert "Not measured: random weights:" in out
    code, out, told = command(capsys, "evaluate", folder, "--task", task, "--samples", 50, "--json")
    assert code == 0, told
    document: dict[str, Any] = json.loads(out)
    assert {"size", "epsilon", "delta", "perplexity", "baselines"} <= document.keys()
    assert set(document["baselines"]) >= {"uniform", "random", "best_single"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such run folder"),
        (["RUN", "--samples", "0"], "samples = 0: must be at least 1"),
        (["RUN", "--task", "none.toml"], "none.toml"),
        (["RUN", "--normalize", "z"], "normalize"),
        (["RUN", "--task", "BETA"], "[oracle] beta was not set, is 0.2"),
        (["RUN", "--seed", "-1"], "seed = -1"),
    ],
)
def test_bad_requests_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    other = folder.parent / "other.toml"
    other.write_text(TASK.replace("[grid]", "beta = 0.2\n[grid]"))
    places = {"RUN": str(folder), "BETA": str(other)}
    given = [places.get(argument, argument) for argument in arguments]
    code, out, told = command(capsys, "evaluate", *given)
    assert code == 2
    assert out == ""
    assert told.startswith("palm: ")
    assert told.count("\n") == 1
    assert message in told


class Few:
    """Has four policies; one of them is the best at many weights."""

    objectives = ("a", "b")

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        known = np.array([[1.0, 0.1], [0.9, 0.5], [0.5, 0.9], [0.1, 1.0]])
        for row in weights:
            best = int(np.argmax(known @ row))
            yield Policy(id=f"p{best}", weights=row, rewards=known[best])


def test_one_policy_may_answer_many_weights(tmp_path: Path) -> None:
    build_portfolio(Few(), mu=0.5, alpha=0.1, prune_mu=0.15, run_dir=tmp_path)
    found = evaluate_run(Run.open(tmp_path), oracle=Few())
    assert found.candidates == 4
    pruned = found.baselines["uniform_palm"]
    assert (pruned.oracle_calls, pruned.size) == (len(Run.open(tmp_path).answers), 2)
    assert pruned.epsilon == pytest.approx(0.1)


def test_an_evaluation_is_stored_in_its_run(tmp_path: Path) -> None:
    oracle = palm_core.TabularOracle(np.random.default_rng(0).random((3, 8, 2)), beta=0.1)
    palm_core.build_portfolio(oracle, mu=0.3, alpha=0.05, run_dir=tmp_path)
    first = evaluate_run(palm_core.open_run(tmp_path), oracle=oracle, resamples=100)
    again = evaluate_run(palm_core.open_run(tmp_path), oracle=oracle, resamples=100)
    assert json.dumps(again.document()) == json.dumps(first.document())
    (file,) = (tmp_path / "results").glob("evaluation-*.json")
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"candidates": 7}))
    again = evaluate_run(palm_core.open_run(tmp_path), oracle=oracle, resamples=100)
    assert again.candidates == 7
    # Of other arguments it is another one.
    other = evaluate_run(palm_core.open_run(tmp_path), oracle=oracle, resamples=100, seed=1)
    assert other.candidates != 7
    # So it is of another oracle, or with damage in the file.
    unlike = palm_core.TabularOracle(np.random.default_rng(1).random((3, 8, 2)), beta=0.1)
    assert evaluate_run(palm_core.open_run(tmp_path), oracle=unlike, resamples=100).candidates != 7
    file.write_text(json.dumps(stored | {"candidates": "many"}))
    mended = evaluate_run(palm_core.open_run(tmp_path), oracle=oracle, resamples=100)
    assert mended.candidates == first.candidates


def test_a_run_has_its_baselines_and_intervals(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(folder)
    expected = evaluate_run(Run.open(folder))
    assert run.baselines.keys() == expected.baselines.keys()
    assert plain_intervals(run.intervals) == plain_intervals(expected.intervals)
    assert run.diversity is None  # the oracle has no responses
    # Kept in the folder: another process reads them.
    monkeypatch.setattr("palm_eval.analysis.evaluation._evaluate", None)
    again = open_run(folder)
    assert plain_intervals(again.intervals) == plain_intervals(expected.intervals)
    assert again.baselines["best_single"] == expected.baselines["best_single"]
