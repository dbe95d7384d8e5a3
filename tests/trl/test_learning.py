"""Real GRPO, seen in what the policies say: each weight gets what it asks for."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_tasks

from palm_trl import Measurement, measure
from palm_trl.process import run_call


@pytest.mark.parametrize(
    "names", [["short"], pytest.param(["short", "long"], marks=pytest.mark.scheduled)]
)
def test_one_vertex_shortens_answers_and_the_other_lengthens_them(speaking_model, tmp_path, names):
    limit = 24
    oracle = tiny_tasks.make_oracle(
        speaking_model,
        tiny_tasks.save_prompts(tmp_path / "prompts.jsonl", 24),
        format="USER: {prompt} ASSISTANT: ",
        steps=10,
        new_tokens=limit,
        beta=0.01,
        trainer={
            "learning_rate": 3e-3,
            "num_generations": 8,
            "per_device_train_batch_size": 16,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
        },
    )
    base = measure(oracle, None)
    found = {}
    for name in names:
        weights = np.array([name == "short", name == "long"], dtype=float)
        run_call(oracle, weights, tmp_path / name)
        found[name] = Measurement.load(tmp_path / name / "measurement.json")

    # Longer by more than half of what the limit leaves, wherever the model began.
    begun = base.tokens.mean()
    assert found["short"].tokens.mean() < 0.6 * begun
    if "long" in found:
        assert found["long"].tokens.mean() > (begun + limit) / 2
    for index, name in enumerate(names):
        gain = found[name].rewards[..., index].mean() - base.rewards[..., index].mean()
        assert gain > 0.05
        assert found[name].kl.mean() > 0.05


@pytest.fixture(scope="module")
def speaking_model(tmp_path_factory):
    """A model whose answers end."""
    return tiny_tasks.save_model(tmp_path_factory.mktemp("speaking") / "model", steps=60)
