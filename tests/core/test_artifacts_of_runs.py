"""Artifacts through a whole run: written by workers, hashed, and looked at again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from palm_command import run

from palm_core.plugin import ARTIFACTS, Ledger
from palm_core.run.artifacts import reached

ORACLE = """
from dataclasses import replace
from pathlib import Path
from palm_core.plugin import write_artifact
from palm_core import load_oracle

class Saving:
    def __init__(self, artifact_dir: Path | None, run_seed: int, fault: str = ""):
        self.oracle = load_oracle("tabular", prompts=2, responses=5)
        self.objectives, self.folder = self.oracle.objectives, artifact_dir
        self.seed, self.fault = run_seed, fault

    def solve(self, weights):
        for policy in self.oracle.solve(weights):
            name = policy.id
            with write_artifact(self.folder, name) as folder:
                (folder / "adapter.bin").write_text(f"{self.seed} {policy.rewards.tolist()}")
            if policy.weights[0] == 0.5:
                name = {"": name, "nothing": "nowhere", "outside": "../../x"}[self.fault]
            yield replace(policy, artifact=name)
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"saving_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(ORACLE)
    file = tmp_path / "task.toml"
    file.write_text(
        f'[oracle]\nname = "{module}:Saving"\n[grid]\nmu = 0.5\nalpha = 0.2\n[run]\nseed = 7\n'
    )
    return file


def palm(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def test_artifacts_are_hashed_and_verified(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = palm(capsys, "build", task, "--out", "run", "--workers", 2)
    assert code == 0, told
    with Ledger.read(tmp_path / "run") as ledger:
        answers = ledger.answers()
    assert len(answers) == 11
    for answer in answers:
        assert answer.artifact is not None
        assert answer.artifact.path == answer.policy.artifact == answer.policy.id
        file = tmp_path / "run" / ARTIFACTS / answer.artifact.path / "adapter.bin"
        assert file.read_text() == f"7 {answer.policy.rewards.tolist()}"
        assert answer.artifact.bytes == file.stat().st_size
    assert palm(capsys, "status", "run", "--verify")[:2] == (
        0,
        palm(capsys, "status", "run")[1] + "Every artifact matches its recorded hash.\n",
    )
    (route,) = json.loads(
        palm(capsys, "route", "run", "--weights", "helpful=0.5,brief=0.5", "--json")[1]
    )["routes"]
    assert route["artifact"] == f"run/{ARTIFACTS}/{route['policy']}"
    assert palm(capsys, "route", "run", "--weights", "helpful=0.5,brief=0.5")[1].endswith(
        f"   {route['artifact']}\n"
    )
    assert reached("run", "../portfolio.json") == "../portfolio.json"
    assert reached("run", "hub://x/y") == "hub://x/y"
    file.write_text("another")
    code, out, told = palm(capsys, "status", "run", "--verify", "--json")
    assert code == 1
    assert len(json.loads(out)["damaged"]) == 1
    assert told.count("\n") == 1
    assert f"artifact '{answer.policy.id}': has changed since it was recorded" in told


@pytest.mark.parametrize(
    ("fault", "message"),
    [("nothing", "no such file"), ("outside", "must be a path inside the run's")],
)
def test_an_artifact_that_is_not_there_is_a_failed_call(
    task: Path, capsys: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    task.write_text(task.read_text().replace("[grid]", f'fault = "{fault}"\n[grid]'))
    code, out, _ = palm(capsys, "build", task, "--out", "run", "--json")
    assert code == 0
    (missing,) = json.loads(out)["missing"]
    assert missing["weights"] == [0.5, 0.5]
    assert missing["kind"] == "refused"
    assert message in missing["message"]
