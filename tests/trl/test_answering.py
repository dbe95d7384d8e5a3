"""From a call's folder to a policy: what is kept, what is taken up again, where training starts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from palm_core import InputError, WorkError
from palm_core.plugin import ARTIFACTS, check_answer, locate_artifact, weight_id
from palm_eval import read_responses
from palm_trl import GrpoOracle, Measurement
from palm_trl import policies as answering
from palm_trl.policies import answer

REWARDS = {"short": {"name": "length", "sign": -1}, "long": "length"}
PROMPTS = ["one", "two", "three"]


def measured(weights, seed=0):
    """A measurement that depends on the weights alone."""
    rng = np.random.default_rng([seed, *(np.asarray(weights) * 1000).astype(int)])
    n, samples = len(PROMPTS), 2
    return Measurement(
        objectives=("short", "long"),
        prompts=(0, 1, 2),
        texts=tuple(tuple(f"{p} {rng.integers(99)}" for _ in range(samples)) for p in PROMPTS),
        rewards=rng.random((n, samples, 2)),
        kl=rng.random((n, samples)),
        kl_k1=rng.random((n, samples)),
        tokens=rng.integers(1, 9, (n, samples)),
        ended=rng.random((n, samples)) < 0.5,
        temperature=1.0,
        new_tokens=9,
    )


class Calls:
    """Stands in for training: remembers what was asked, and fails where it is told to."""

    def __init__(self):
        self.made, self.failing = [], False

    def __call__(self, oracle, weights, folder, *, start=None):
        self.made.append((weight_id(weights), start, sorted(p.name for p in folder.iterdir())))
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "step").write_text("1", encoding="utf-8")
        if self.failing:
            raise WorkError("step 3: loss is nan")
        (folder / "policy").mkdir()
        (folder / "policy" / "adapter_config.json").write_text("{}", encoding="utf-8")
        (folder / "training.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
        measured(weights).save(folder / "measurement.json")


@pytest.fixture
def calls(monkeypatch):
    made = Calls()
    monkeypatch.setattr("palm_trl.process.run_call", made)
    return made


@pytest.fixture
def asked(tmp_path):
    rows = [{"prompt": p, "ground_truth": p[0]} for p in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "model").mkdir()

    def make(**options):
        run = {"artifact_dir": tmp_path / "run" / ARTIFACTS, "work_dir": tmp_path / "run" / "work"}
        given = {"model": "model", "rewards": REWARDS, "prompts": "prompts.jsonl"}
        return GrpoOracle(**(given | {"task_dir": tmp_path} | run | options))

    return make


def same(one, other):
    assert one.id == other.id
    assert (one.rewards == other.rewards).all()
    assert one.regularizer == other.regularizer
    assert one.info == other.info
    assert one.artifact == other.artifact


W = np.array([0.25, 0.75])


def test_it_is_kept_whole(calls, asked, tmp_path):
    oracle = asked(beta=0.5)
    policy = check_answer(answer(oracle, W), W, oracle.objectives)
    found = measured(W)
    np.testing.assert_array_equal(policy.rewards, found.rewards.mean(axis=(0, 1)))
    assert policy.regularizer == pytest.approx(0.5 * found.kl.mean())
    assert policy.prompt_regularizer.shape == (3,)
    assert policy.id == "grpo-w0.25-0.75"
    assert policy.info["steps"] == 200
    assert policy.info["kl_k1"] == found.mean_kl_k1
    folder = locate_artifact(tmp_path / "run" / ARTIFACTS, policy.artifact)
    names = ["adapter_config.json", "answer.json", "measurement.json", "responses.jsonl"]
    assert sorted(p.name for p in folder.iterdir()) == [*names, "training.jsonl"]
    assert list(read_responses(folder).completions) == list(found.texts)
    assert read_responses(folder).columns["ground_truth"] == ("o", "t", "t")
    assert list((tmp_path / "run" / "work").iterdir()) == []
    assert calls.made == [("w0.25-0.75", None, ["answer.json"])]


def test_kl_per_token_and_none(calls, asked, tmp_path):
    found = measured(W)
    policy = answer(asked(beta=0.5, kl="token"), W)
    assert policy.regularizer == pytest.approx(0.5 * (found.kl / found.tokens).mean())
    shutil.rmtree(tmp_path / "run")
    policy = answer(asked(beta=0), W)
    assert (policy.regularizer, policy.prompt_regularizer) == (0.0, None)


def test_it_is_not_trained_twice(calls, asked):
    first = answer(asked(), W)
    same(answer(asked(), W), first)
    assert len(calls.made) == 1
    answer(asked(steps=7), W)
    assert len(calls.made) == 2
    answer(asked(steps=7), np.array([0.5, 0.5]))
    assert len(calls.made) == 3


def test_a_call_that_failed_finds_its_folder(calls, asked):
    calls.failing = True
    for _ in range(2):
        with pytest.raises(WorkError, match="step 3"):
            answer(asked(), W)
    # ... but not that of another task, which would go on from another's checkpoints
    with pytest.raises(WorkError, match="step 3"):
        answer(asked(steps=7), W)
    assert [files for *_, files in calls.made] == [
        ["answer.json"],
        ["answer.json", "checkpoints"],
        ["answer.json"],
    ]
    calls.failing = False
    answer(asked(steps=7), W)
    assert calls.made[-1][2] == ["answer.json", "checkpoints"]


def test_killed_while_it_is_kept(calls, asked, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(answering, "write_responses", killed)
        with pytest.raises(KeyboardInterrupt):
            answer(asked(), W)
    assert list((tmp_path / "run" / ARTIFACTS).iterdir()) == []
    work = tmp_path / "run" / "work" / weight_id(W)
    assert (work / "policy" / "adapter_config.json").exists()
    # what was trained is there still, so that a real call has nothing to do
    monkeypatch.setattr("palm_trl.process.run_call", lambda *_, **__: None)
    answer(asked(), W)
    assert not work.exists()


def test_without_a_run_nothing_is_kept(calls, asked, tmp_path):
    policy = answer(asked(artifact_dir=None, work_dir=None), W)
    assert policy.artifact is None
    assert not (tmp_path / "run").exists()


class TestStarts:
    @pytest.fixture
    def weights(self):
        return [np.array([w, 1 - w]) for w in (0.0, 1.0, 0.5, 0.75, 0.25)]

    def test_the_nearest_that_is_finished(self, calls, asked, tmp_path, weights):
        oracle = asked(start="nearest", warm_steps=7)
        answers = [answer(oracle, w) for w in weights]
        assert [a.info["start"] for a in answers] == [
            None,
            "w0-1",  # the only one
            "w0-1",  # as near as w1-0, and the first by name
            "w0.5-0.5",
            "w0-1",  # as near as w0.5-0.5
        ]
        assert [a.info["steps"] for a in answers] == [200, 7, 7, 7, 7]
        assert calls.made[3][1] == tmp_path / "run" / ARTIFACTS / "w0.5-0.5"
        same(answer(oracle, weights[3]), answers[3])

    def test_not_that_of_another_task(self, calls, asked, weights):
        answer(asked(start="nearest"), weights[0])
        assert answer(asked(start="nearest", beta=0.9), weights[1]).info["start"] is None

    def test_it_stays_what_it_was_begun_with(self, calls, asked, weights):
        oracle = asked(start="nearest")
        answer(oracle, weights[0])
        calls.failing = True
        with pytest.raises(WorkError):
            answer(oracle, weights[3])
        calls.failing = False
        answer(oracle, weights[2])  # would have been nearer
        assert answer(oracle, weights[3]).info["start"] == "w0-1"

    def test_a_start_that_is_gone_is_chosen_anew(self, calls, asked, tmp_path, weights):
        oracle = asked(start="nearest")
        answer(oracle, weights[0])
        calls.failing = True
        with pytest.raises(WorkError):
            answer(oracle, weights[3])
        calls.failing = False
        shutil.rmtree(tmp_path / "run" / ARTIFACTS / "w0-1")
        assert answer(oracle, weights[3]).info["start"] is None
        assert calls.made[-1][2] == ["answer.json"]  # its checkpoints were of the other start


def test_a_damaged_measurement_is_told(calls, asked, tmp_path):
    answer(asked(), W)
    file = tmp_path / "run" / ARTIFACTS / weight_id(W) / "measurement.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="measurement.json: is not a measurement"):
        answer(asked(), W)
