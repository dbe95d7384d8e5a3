"""What a plan says of an oracle that knows what its calls take."""

from __future__ import annotations

import json
import sys

import pytest

from palm_core.cli.app import run as palm
from palm_core.planning import make_plan
from palm_core.plugins import load_task_oracle
from palm_core.task import load_task

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
