"""What a plan says: what calls take, what is promised, what pruning may lose."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import PolicySet, TabularOracle, build_portfolio, certify, load_oracle
from palm_core.plugin import load_task, load_task_oracle
from palm_core.run.config import parse_task
from palm_core.run.plan import make_plan

ORACLE = """
class Priced:
    objectives = ("a", "b")

    def solve(self, weights):
        raise AssertionError("asked")

    def estimate(self, calls):
        return {"memory": "little", "computing": f"{calls} minutes"}


class Plain(Priced):
    estimate = None
"""
TASK = """
[oracle]
name = "priced:Priced"
[grid]
mu = 0.5
alpha = 0.05
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "priced.py").write_text(ORACLE, encoding="utf-8")
    path = tmp_path / "task.toml"
    path.write_text(TASK, encoding="utf-8")
    yield path
    sys.modules.pop("priced", None)


def planned(task, text):
    task.write_text(text, encoding="utf-8")
    asked = load_task(task)
    return make_plan(asked, load_task_oracle(asked))


def test_what_the_calls_take(task, capsys):
    made = planned(task, TASK)
    assert dict(made.estimate) == {"memory": "little", "computing": f"{made.calls} minutes"}
    assert palm(["plan", str(task), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimate"] == dict(made.estimate)
    assert palm(["plan", str(task)]) == 0
    said = capsys.readouterr().out
    assert "memory        little" in said
    assert f"computing     {made.calls} minutes" in said


def test_adaptively_as_many_as_there_may_be(task):
    adaptive = TASK.replace("[grid]\nmu = 0.5\nalpha = 0.05", "[adaptive]\ntarget_epsilon = 0.1")
    assert planned(task, adaptive).estimate["computing"] == "None minutes"
    assert planned(task, adaptive + "max_calls = 7\n").estimate["computing"] == "7 minutes"


def test_an_oracle_that_does_not_say(task):
    assert planned(task, TASK.replace("Priced", "Plain")).estimate == {}


class TestPromisesOfNothing:
    """ε of 100 % or more is no promise, and is called so wherever it is printed."""

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize(("mu", "nothing"), [(1.0, True), (0.3, True), (0.02, False)])
    def test_a_plan(self, mu: float, known: bool, nothing: bool) -> None:
        oracle = load_oracle("tabular", objectives=["a", "b"], prompts=2, responses=5)
        if not known:
            oracle = Unbounded(oracle)
        task = parse_task({"oracle": {"name": "tabular"}, "grid": {"mu": mu, "alpha": 0.001},
                           "prune": {"epsilon": mu}})  # fmt: skip
        line = make_plan(task, oracle).lines()[0]
        assert ("promises nothing" in line) is nothing, line

    def test_a_finished_run(self) -> None:
        oracle = load_oracle("tabular", objectives=["a", "b"], prompts=2, responses=5)
        for mu, nothing in ((0.5, True), (0.02, False)):
            theorem = build_portfolio(oracle, mu=mu, alpha=0.01).theorem
            assert theorem is not None
            assert ("promises nothing" in theorem.statement) is nothing

    def test_a_certificate(self) -> None:
        policies = PolicySet([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        answers = {"answers": [0, 2], "oracle_epsilon": 0.0}
        nothing = certify(policies, np.eye(2), portfolio=[1], **answers)
        assert nothing.epsilon == 1
        assert "promises nothing" in str(nothing)
        assert "promises nothing" not in str(certify(policies, np.eye(2), **answers))


class Unbounded:
    """Says nothing of R_max and f_max."""

    epsilon = 0.0

    def __init__(self, oracle: TabularOracle) -> None:
        self.objectives, self.solve = oracle.objectives, oracle.solve


@pytest.mark.parametrize(
    ("prune", "share"),
    [
        ({}, 0.05),
        ({"method": "minimal"}, 0.05),
        ({"method": "greedy"}, 0.5),
        ({"method": "exact"}, 0.5),
        ({"epsilon": 0.2}, 0.2),
        ({"mu": 0.2, "method": "greedy"}, 0.2),
    ],
)
def test_the_tolerance_without_one_is_5_per_cent_or_the_covers_mu(
    prune: dict[str, Any], share: float
) -> None:
    given = {"oracle": {"name": "tabular"}, "grid": {"mu": 0.5, "alpha": 0.1}, "prune": prune}
    assert parse_task(given).settings.pruning.share == share
    oracle = load_oracle("tabular", objectives=["a", "b"], prompts=2, responses=5)
    made = build_portfolio(
        oracle,
        mu=0.5,
        alpha=0.1,
        method=prune.get("method", "minimal"),
        epsilon=prune.get("epsilon"),
        prune_mu=prune.get("mu"),
    )
    assert made.pruning is not None
    assert made.pruning.tolerance[0] == share
