"""What language models take, before anything is loaded."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from palm_eval.lm.estimates import PEAK, TRAINING
from palm_eval.plugin import Source, computing, downloads, gigabytes, judges_of, sized


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", 3e9),
        ("PKU-Alignment/alpaca-7b-reproduced", 7e9),
        ("PKU-Alignment/beaver-7b-v1.0-cost", 7e9),
        ("Skywork/Skywork-Reward-Llama-3.1-8B", 8e9),
        ("org/smollm2-360m", 3.6e8),
        ("Ray2333/gpt2-large-helpful-reward_model", None),
        ("org/model-v2b-thing", None),
        ("7b/plain", None),
    ],
)
def test_a_name_says_how_large(name, parameters):
    found = sized(Source(name))
    assert (found.parameters, found.here) == (parameters, False)


def test_files_say_it_better(tmp_path):
    folder = tmp_path / "model-7b"
    folder.mkdir()
    save_file({"a": np.zeros((30, 4), "f4"), "b": np.zeros(5, "f2")}, folder / "one.safetensors")
    save_file({"c": np.zeros((2, 2), "f4")}, folder / "two.safetensors")
    found = sized(Source(str(folder)))
    assert (found.parameters, found.here) == (129.0, True)
    assert downloads([found]) == "none"
    (folder / "two.safetensors").write_bytes(b"\xff" * 20)
    assert sized(Source(str(folder))).parameters == 125.0


def test_downloads_name_what_is_missing_once():
    three, unknown = sized(Source("org/three-3b")), sized(Source("org/some"))
    assert downloads([three, unknown, three]) == (
        "about 6 GB: org/three-3b (3 billion), org/some (size unknown)"
    )
    assert downloads([unknown]) == "org/some (size unknown)"


def test_judges_are_the_models_that_rewards_ask():
    def asks(prompts, completions):
        return [0.0] * len(completions)

    def counts(prompts, completions):
        return [0.0] * len(completions)

    asks.models = ("org/judge-3b", "org/other-1b")
    judges = judges_of({"brief": counts, "kind": asks})
    assert [str(one) for one in judges] == ["org/judge-3b (3 billion)", "org/other-1b (1 billion)"]


def test_hours_follow_the_operations():
    hour = 3600 * TRAINING * PEAK
    assert computing(hour, 0, None).startswith("about 1 GPU hours a call, on an H100")
    assert computing(2.5 * hour, 0, 10).startswith("about 2.5 GPU hours a call, about 25 GPU")
    assert computing(hour / 1000, 0, 2000).startswith("less than a GPU minute a call, about 2 ")
    assert computing(0, 1e6, 3).startswith("less than a GPU minute a call, less than")


def test_gigabytes():
    assert gigabytes(6e9) == "about 6 GB"
    assert gigabytes(1e7) == "less than 0.1 GB"
