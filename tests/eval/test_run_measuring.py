"""`palm evaluate RUN --prompts N`: every policy is measured again, once, and that counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import InputError, OracleAnswerError, Policy, Run
from palm_core.plugin import ARTIFACTS
from palm_eval import evaluate_run
from palm_eval.analysis.remeasurement import MeasuredOracle, Remeasurer, measured_run

ORACLE = '''
"""Policies on a quarter circle, each measured on the first of endless prompts."""
import json, zlib
from dataclasses import replace
from pathlib import Path
import numpy as np
from palm_core import Policy
from palm_core.plugin import write_artifact

class Circle:
    objectives = ("east", "north")
    fingerprint = "circle"
    delta = 0.1

    def __init__(self, log=None, artifact_dir=None):
        self.log, self.artifact_dir = log, artifact_dir

    def solve(self, weights):
        for w in weights:
            name = f"p{w[0]:.4f}"
            with write_artifact(self.artifact_dir, name) as folder:
                (folder / "model.json").write_text(json.dumps(list(w)))
            policy = Policy(id=name, weights=w, rewards=[0, 0], artifact=name)
            yield self.measured(policy, w, 10)

    def measured(self, policy, w, prompts):
        best = 1 + w / np.linalg.norm(w)
        chance = np.random.default_rng(zlib.crc32(policy.id.encode()))
        each = best + 0.3 * chance.normal(size=(5000, 2))[:prompts]
        f = 0.1 * np.ones(prompts)
        return replace(policy, rewards=each.mean(axis=0), prompt_rewards=each, regularizer=0.1,
                       prompt_regularizer=f)
'''
AGAIN = """
class Again(Circle):
    def remeasure(self, policy, *, artifact, prompts):
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(policy.id + chr(10))
        w = np.array(json.loads((artifact / "model.json").read_text()))
        return self.measured(policy, w, prompts)

class Modest(Again):
    epsilon = 1.0  # claims nothing: there is no certificate, which takes seconds to resample
"""
TASK = """
[oracle]
name = "{name}"
{log}
[grid]
mu = 0.5
alpha = 0.2
[prune]
epsilon = 0.03
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A run of each oracle, and beside them the module of both."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "circles.py").write_text(ORACLE + AGAIN)
    task = folder / "task.toml"
    for oracle in ("Again", "Modest"):
        task.write_text(TASK.format(name=f"circles:{oracle}", log=""))
        assert palm(["build", str(task), "--out", str(folder / oracle)]) == 0
    return folder


def copied(built: Path, oracle: str, folder: Path) -> Path:
    """A run in a folder of its own, and its task, whose oracle writes what it measures again."""
    shutil.copytree(built / oracle, folder / "run")
    log = f'log = "{folder / "log.txt"}"'
    (built / "task.toml").write_text(TASK.format(name=f"circles:{oracle}", log=log))
    (folder / "task.toml").symlink_to(built / "task.toml")
    return folder


@pytest.fixture
def made(built, tmp_path):
    return copied(built, "Again", tmp_path)


@pytest.fixture
def modest(built, tmp_path):
    return copied(built, "Modest", tmp_path)


def task_of(made: Path) -> Path:
    return (made / "task.toml").resolve()


def evaluated(made: Path, capsys, *more: str) -> dict:
    capsys.readouterr()
    assert palm(["evaluate", str(made / "run"), *more, "--json", "--samples", "50"]) == 0
    return json.loads(capsys.readouterr().out)


def names(made: Path) -> list[str]:
    file = made / "log.txt"
    return file.read_text().split() if file.exists() else []


def test_everything_printed_is_of_the_new_measurement(made, capsys) -> None:
    task = ("--task", str(task_of(made)))
    before = evaluated(made, capsys, *task)
    assert not names(made), "without --prompts nothing is measured again"
    assert "measured" not in before
    after = evaluated(made, capsys, *task, "--prompts", "2000")
    assert after["portfolio"] == before["portfolio"], "chosen before, measured after"
    assert after["intervals"]["delta"]["prompts"] == 2000
    assert after["certificate"]["prompts"] == 2000
    assert before["certificate"]["prompts"] == 10

    def width(found):
        one = found["intervals"]["delta"]
        return one["upper"] - one["lower"]

    assert width(after) < width(before) / 3
    gap = after["certificate"]["delta_upper"] - after["certificate"]["delta"]
    assert 0 < gap < (before["certificate"]["delta_upper"] - before["certificate"]["delta"]) / 3
    run = Run.open(made / "run")
    assert len(names(made)) == len(set(names(made))) == after["measured"]["policies"]
    assert set(names(made)) > {answer.policy.id for answer in run.answers}, "baselines too"
    # what it prints is what the evaluation of such policies is
    from circles import Again  # the task's own module

    oracle = Again()
    known = {
        answer.policy.id: oracle.measured(answer.policy, answer.weights, 2000)
        for answer in run.answers
    }
    kept = sorted((made / "run" / "measured" / "2000").glob("*.json"))
    assert len(kept) == after["measured"]["policies"]
    files = [json.loads(file.read_text()) for file in kept]
    for file in files:
        if file["policy"] in known:
            assert file["rewards"] == known[file["policy"]].rewards.tolist()
    assert known.keys() <= {file["policy"] for file in files}


def test_what_is_kept_is_not_measured_again(modest, capsys) -> None:
    more = ("--task", str(task_of(modest)), "--prompts", "40")
    first = evaluated(modest, capsys, *more)
    (modest / "log.txt").unlink()
    assert evaluated(modest, capsys, *more) == first
    assert not names(modest)
    # as after a kill: one is missing, and only that one is measured
    one = next((modest / "run" / "measured" / "40").glob("*.json"))
    was = json.loads(one.read_text())["policy"]
    one.unlink()
    assert evaluated(modest, capsys, *more) == first
    assert names(modest) == [was]
    evaluated(modest, capsys, *more[:-1], "41")
    assert len(names(modest)) == 1 + first["measured"]["policies"]


def test_people_are_told_in_one_line(made, capsys) -> None:
    capsys.readouterr()
    task = str(task_of(made))
    assert palm(["evaluate", str(made / "run"), "--task", task, "--prompts", "30"]) == 0
    said = capsys.readouterr()
    count = len(names(made))
    line = f"Measured again, baselines included: {count} policies on 30 prompts (kept in"
    assert line in said.out
    assert "measured p0.0000 on 30 prompts, " in said.err
    assert "Against every policy there is, at every weight:\n  certified ε " in said.out
    assert "with the measurement error on 30 prompts: ε at most " in said.out
    assert "(95% confidence, 400 resamples)" in said.out


def test_an_oracle_that_cannot_is_named(built, made, capsys) -> None:
    task = built / "task.toml"  # the same answers, by its fingerprint
    task.write_text(TASK.format(name="circles:Circle", log=""))
    capsys.readouterr()
    run = str(made / "run")
    assert palm(["evaluate", run, "--task", str(task), "--prompts", "30"]) == 2
    told = "--prompts: oracle 'circles:Again' has no method remeasure and cannot"
    assert told in capsys.readouterr().err
    assert palm(["evaluate", run, "--prompts", "30"]) == 2
    assert "--prompts 30: requires --task" in capsys.readouterr().err


class Simple:
    """Adds one to every reward."""

    objectives = ("a", "b")

    def __init__(self, **changes):
        self.changes = changes

    def remeasure(self, policy, *, artifact, prompts):
        given = {
            "id": policy.id,
            "weights": policy.weights,
            "rewards": policy.rewards + 1,
            "prompt_rewards": np.tile(policy.rewards + 1, (prompts, 1)),
        }
        return Policy(**(given | self.changes))

    def solve(self, weights):
        for row in weights:
            yield Policy(id=f"new {row[0]}", weights=row, rewards=row, artifact="model")


def remeasurer(folder, oracle=None, **changes) -> Remeasurer:
    given = {"name": "simple", "fingerprint": "x", "prompts": 3}
    return Remeasurer(oracle or Simple(), folder, ("a", "b"), **(given | changes))


def policy(**changes) -> Policy:
    given = {"id": "p", "weights": np.array([1.0, 0.0]), "rewards": np.array([0.5, 0.25])}
    return Policy(**(given | {"artifact": "model"} | changes))


@pytest.fixture
def models(tmp_path):
    (tmp_path / ARTIFACTS / "model").mkdir(parents=True)
    return tmp_path / ARTIFACTS


@pytest.mark.parametrize(
    ("artifact", "told"),
    [
        (None, "policy 'p': has no artifact, cannot be measured again"),
        ("s3://there", "policy 'p': lies at s3://there, cannot be measured again"),
        ("/no/where", "policy 'p': there is no /no/where, cannot be measured again"),
        ("gone", "policy 'p': cannot be measured again: artifact 'gone': no such file"),
        ("../run", "policy 'p': cannot be measured again: artifact '../run': must be a path"),
    ],
)
def test_a_policy_without_its_model_is_refused(models, artifact, told) -> None:
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        remeasurer(models.parent).again(policy(artifact=artifact), models)


def test_a_model_that_has_changed_is_refused(models) -> None:
    from palm_core.run.artifacts import seal

    sealed = seal(models, "model")
    assert remeasurer(models.parent, prompts=2).again(policy(), models, sealed).rewards[0] == 1.5
    (models / "model" / "weights").write_text("others")
    with pytest.raises(InputError, match="policy 'p': cannot be measured again: .* has changed"):
        remeasurer(models.parent).again(policy(), models, sealed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "q"}, "policy 'p': was measured again as 'q', must be the same"),
        ({"rewards": np.array([np.nan, 1])}, "rewards must be finite"),
        ({"rewards": np.zeros(3)}, "rewards must have shape"),
    ],
)
def test_an_answer_that_is_no_measurement_is_refused(models, changes, told) -> None:
    with pytest.raises(OracleAnswerError, match=told):
        remeasurer(models.parent, Simple(**changes)).again(policy(), models)
    assert not list(models.parent.glob("measured/**/*.json"))


def test_another_policy_or_oracle_of_that_name_is_measured_anew(models) -> None:
    folder = models.parent
    assert remeasurer(folder).again(policy(), models).rewards.tolist() == [1.5, 1.25]
    other = policy(rewards=np.zeros(2))
    assert remeasurer(folder).again(other, models).rewards.tolist() == [1.0, 1.0]
    two = Simple(rewards=np.array([7.0, 7.0]))
    assert remeasurer(folder, two).again(policy(), models).rewards.tolist() == [1.5, 1.25]
    found = remeasurer(folder, two, fingerprint="y").again(policy(), models)
    assert found.rewards.tolist() == [7.0, 7.0]
    with pytest.raises(InputError, match="prompts = 1: must be at least 2"):
        remeasurer(folder, prompts=1)


def test_a_damaged_file_is_told(models) -> None:
    remeasurer(models.parent).again(policy(), models)
    (file,) = models.parent.glob("measured/3/*.json")
    for content in ("", "{}", file.read_text().replace("1.5", "null"), "[" * 50_000):
        file.write_text(content)
        with pytest.raises(InputError, match="must be a measured policy: .* delete it"):
            remeasurer(models.parent).again(policy(), models)


def test_answers_to_several_weights_keep_theirs(models) -> None:
    from palm_core.plugin import Answer, Claims, Settings

    corners = np.eye(2)
    run = Run(
        answers=tuple(Answer(row, policy(weights=row), 1.0) for row in corners),
        objectives=("a", "b"),
        settings=Settings.read({"grid": {"mu": 0.5, "alpha": 0.5}}),
        claims=Claims(),
        task={},
    )
    again = remeasurer(models.parent)
    found = measured_run(run, models.parent, again)
    assert again.count == 1
    assert [answer.weights.tolist() for answer in found.answers] == corners.tolist()
    assert [answer.policy.weights.tolist() for answer in found.answers] == corners.tolist()
    assert all(answer.policy.rewards.tolist() == [1.5, 1.25] for answer in found.answers)
    oracle = MeasuredOracle(Simple(), models, again)
    assert [one.rewards.tolist() for one in oracle.solve(corners)] == [[2.0, 1.0], [1.0, 2.0]]


@pytest.mark.filterwarnings("ignore::palm_core.RefutedClaimWarning")  # scores are made up
def test_a_portfolio_chosen_before_is_the_one_that_is_evaluated(made) -> None:
    run = Run.open(made / "run")
    fewer = run.prune(run.settings.with_pruning({"epsilon": 0.5}))
    found = evaluate_run(run, chosen=fewer, samples=20, resamples=100)
    assert found.portfolio == tuple(one.id for one in fewer.policies)
    assert found.figures.size == len(fewer) < len(run.prune(run.settings))
