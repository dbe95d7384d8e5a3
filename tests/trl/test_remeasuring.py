"""Measuring a policy again: it stays the same policy, and its values those of other prompts."""

from __future__ import annotations

from dataclasses import replace

import measured_tasks
import numpy as np
import pytest

from palm_core import InputError, Policy
from palm_eval.analysis.remeasurement import Remeasurer
from palm_trl import measure, measuring


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return measured_tasks.save_task(tmp_path_factory.mktemp("task"))


def policy_of(number):
    return Policy(
        id=f"grpo-{number}",
        weights=np.array([0.25, 0.75]),
        rewards=np.zeros(2),
        artifact=f"w{number}",
        info={"steps": 7, "start": None, "mine": 1},
    )


def test_the_same_policy_on_more_prompts(task, monkeypatch):
    prompts = {"path": "prompts.jsonl", "first": 6}
    oracle = measured_tasks.make_oracle(task, prompts=prompts, beta=0.2, samples=2)
    assert len(oracle.evaluation_prompts.texts) == 6
    loads, counts = [], []
    load = measuring.load_base
    monkeypatch.setattr(measuring, "load_base", lambda one: loads.append(1) or load(one))
    for number in (0, 1, 0):
        was, folder = policy_of(number), task / "adapters" / f"adapter-{number}"
        found = oracle.remeasure(was, artifact=folder, prompts=20)
        counts.append(len(loads))
        assert (found.id, found.artifact) == (was.id, was.artifact)
        assert found.weights.tolist() == was.weights.tolist()
        expected = measure(oracle, folder, oracle.more_prompts(20))
        loads.clear()
        assert np.array_equal(found.prompt_rewards, expected.prompt_rewards)
        assert found.rewards == pytest.approx(expected.mean_rewards)
        assert found.prompt_regularizer == pytest.approx(0.2 * expected.kl.mean(axis=1))
        assert found.regularizer == pytest.approx(0.2 * expected.mean_kl)
        assert found.regularizer > 0
        assert len(found.prompt_rewards) == 20
        assert found.info["mine"] == 1
        assert found.info["kl"] == pytest.approx(expected.mean_kl)
    assert counts == [1, 0, 0], "π_ref is loaded once"
    # an adapter that was measured leaves nothing behind
    base = measuring._LOADED[oracle]
    assert np.array_equal(measure(oracle, None, base=base).rewards, measure(oracle, None).rewards)


def test_palm_evaluate_can_ask_for_it(task, tmp_path):
    oracle = measured_tasks.make_oracle(task, beta=0.2, samples=2)
    was = replace(policy_of(0), artifact="adapter-0")
    for attempt in ("measured", "kept"):
        asked = Remeasurer(
            oracle if attempt == "measured" else NoMore(),
            tmp_path,
            oracle.objectives,
            name="grpo",
            fingerprint=oracle.fingerprint,
            prompts=15,
        )
        found = asked.again(was, task / "adapters")
        direct = oracle.remeasure(was, artifact=task / "adapters" / "adapter-0", prompts=15)
        for name in ("rewards", "prompt_rewards", "prompt_regularizer", "reward_errors"):
            assert np.array_equal(getattr(found, name), getattr(direct, name)), name
        assert found.info == direct.info
        assert found.regularizer == direct.regularizer > 0


class NoMore:
    def remeasure(self, policy, *, artifact, prompts):
        raise AssertionError("is known already")


def test_more_samples(task):
    oracle = measured_tasks.make_oracle(task, samples=2)
    folder = task / "adapters" / "adapter-0"
    few = oracle.remeasure(policy_of(0), artifact=folder, prompts=24)
    many = oracle.remeasure(policy_of(0), artifact=folder, prompts=24, samples=12)
    assert many.reward_errors[0] < 0.8 * few.reward_errors[0]


def test_what_cannot_be_measured_again_is_told(task, tmp_path):
    oracle = measured_tasks.make_oracle(task)
    with pytest.raises(InputError, match="24 prompts, must have 25 after skip = 0"):
        oracle.remeasure(policy_of(0), artifact=task / "adapters" / "adapter-0", prompts=25)
    with pytest.raises(InputError, match="policy 'grpo-0': .* must be its model's folder"):
        oracle.remeasure(policy_of(0), artifact=tmp_path / "none", prompts=2)
