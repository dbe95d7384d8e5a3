"""Fails when TRL's private methods that PALM overrides or reads change under it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

ALGORITHMS = ("grpo", "rloo")


def _theirs(algorithm):
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer

    return GRPOTrainer if algorithm == "grpo" else RLOOTrainer


def _named(method):
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_methods_have_the_signatures_that_are_overridden(algorithm):
    theirs = _theirs(algorithm)
    assert _named(theirs._tokenize_prompts) == ["self", "prompts"]
    assert _named(theirs._calculate_rewards) == [
        *("self", "inputs", "prompts", "completions", "completion_ids_list")
    ]
    assert _named(theirs._save_checkpoint) == ["self", "model", "trial"]
    assert _named(theirs.training_step) == ["self", "model", "inputs", "num_items_in_batch"]
    assert _named(theirs._log_metric) == ["self", "name", "value"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_step_goes_through_them_all(algorithm, make_oracle, tmp_path, monkeypatch):
    from palm_trl import trainers
    from palm_trl.training import train

    ours = trainers.Grpo if algorithm == "grpo" else trainers.Rloo
    seen = []
    for name in ("_tokenize_prompts", "_calculate_rewards", "_save_checkpoint", "training_step"):
        method = getattr(ours, name)

        def spy(self, *given, method=method, name=name, **options):
            seen.append(name)
            return method(self, *given, **options)

        monkeypatch.setattr(ours, name, spy)
    train(make_oracle(algorithm=algorithm, steps=2), np.array([0.5, 0.5]), tmp_path)
    # two rounds of four completions: generated at once, rewarded at once
    step = ["training_step", "_tokenize_prompts", "_calculate_rewards", "training_step"]
    assert seen == [*step, "_save_checkpoint", *step]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_calculate_rewards_returns_is_what_advantages_are_made_of(
    algorithm, make_oracle, tmp_path, monkeypatch
):
    import torch

    from palm_trl import trainers
    from palm_trl.trainer_config import trainer_config
    from palm_trl.training import prepared

    # One objective tells the samples of a prompt apart, by numbers no reward function gave.
    made = torch.tensor([[float(i % 4), 7.0] for i in range(8)])
    theirs = _theirs(algorithm)
    monkeypatch.setattr(theirs, "_calculate_rewards", lambda self, *_: made.clone())
    oracle = make_oracle(algorithm=algorithm, steps=1, beta=0.0)
    config = trainer_config(oracle, np.array([0.5, 0.5]), tmp_path)
    trainer = prepared(oracle, config, tmp_path).trainer
    assert isinstance(trainer, trainers.Grpo if algorithm == "grpo" else trainers.Rloo)
    trainer.train()

    found = np.array(trainer._logs["advantages"])
    totals = 0.5 * np.tile(np.arange(4.0), 2)
    scale = 1.0 if algorithm == "grpo" else 4 / 3  # against the mean of the other three
    np.testing.assert_allclose(found, scale * (totals - totals.mean()), atol=1e-6)


def test_normalized_rewards_are_what_advantages_are_made_of(make_oracle, tmp_path, monkeypatch):
    import torch

    from palm_trl.trainer_config import trainer_config
    from palm_trl.training import prepared

    made = torch.tensor([[float(i), 7.0] for i in range(8)])
    monkeypatch.setattr(_theirs("grpo"), "_calculate_rewards", lambda self, *_: made.clone())
    oracle = make_oracle(preset="paper", steps=1, trainer={"scale_rewards": "none"})
    config = trainer_config(oracle, np.array([0.5, 0.5]), tmp_path)
    trainer = prepared(oracle, config, tmp_path).trainer
    trainer.train()

    group = 0.5 * np.arange(4) / 7  # the weight, of rewards from 0 to 1 over the batch
    found = np.array(trainer._logs["advantages"])
    np.testing.assert_allclose(found, np.tile(group - group.mean(), 2), atol=1e-6)


def test_min_max_scales_each_objective_and_a_constant_one_to_0():
    import torch

    from palm_trl.trainers import min_max

    given = torch.tensor([[1.0, 5.0, -3.0], [3.0, 5.0, -1.0], [2.0, 5.0, -7.0]])
    expected = [[0.0, 0.0, 2 / 3], [1.0, 0.0, 1.0], [0.5, 0.0, 0.0]]
    torch.testing.assert_close(min_max(given), torch.tensor(expected))


def test_min_max_leaves_what_has_no_score():
    import torch

    from palm_trl.trainers import min_max

    nan = torch.nan
    given = torch.tensor([[1.0, nan, nan], [nan, nan, 4.0], [3.0, nan, 4.0]])
    expected = torch.tensor([[0.0, nan, nan], [nan, nan, 0.0], [1.0, nan, 0.0]])
    torch.testing.assert_close(min_max(given), expected, equal_nan=True)
