"""Tiny tasks for GRPO: a random model in a folder, prompts in a file, rewards of lengths."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from pathlib import Path

import tiny_models

from palm_trl import GrpoOracle

#: Small enough for a step in a tenth of a second.
TRAINER = {
    "num_generations": 4,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
}
QUESTIONS = tuple(tiny_models.PROMPTS)


def short(prompts, completions, **_):
    """The fewer characters the better, in [0, 1]."""
    return [1 / (1 + len(text)) for text in completions]


def lengthy(prompts, completions, *, completion_ids, **_):
    """The more tokens the better."""
    return [len(ids) / 16 for ids in completion_ids]


def ranked(prompts, completions, *, completion_ids, trainer_state=None):
    """The number of the process that asks."""
    return [float(os.environ["RANK"])] * len(completions)


def deadly(prompts, completions, *, completion_ids, trainer_state=None):
    """As lengthy, but kills its process at step 3, once: as a machine short of memory does."""
    died = Path(os.environ["PALM_TEST_DEADLY"])
    if trainer_state is not None and trainer_state.global_step == 2 and not died.exists():
        died.touch()
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return lengthy(prompts, completions, completion_ids=completion_ids)


def holding(prompts, completions, *, completion_ids, trainer_state=None):
    """Says that it is computed, then holds Python's lock in compiled code for a minute."""
    (Path(os.environ["PALM_TEST_HOLDING"]) / str(os.getpid())).touch()
    ctypes.PyDLL(None).sleep(60)
    return lengthy(prompts, completions, completion_ids=completion_ids)


REWARDS = {"short": "tiny_tasks:short", "long": "tiny_tasks:lengthy"}


def save_model(folder: Path, kind: str = "llama", steps: int = 0) -> str:
    """A model that answers at random, or after ``steps`` of training as in tiny_models."""
    tokenizer = tiny_models.make_tokenizer()
    model = tiny_models.new_model(kind, len(tokenizer))
    if steps:
        tiny_models.train(model, tokenizer, -1, steps)
    return tiny_models.save_model(folder, model, tokenizer)


def save_prompts(path: Path, count: int = 12, **columns) -> str:
    """A file of prompts, with columns of one value for each prompt."""
    rows = [
        {"prompt": QUESTIONS[number], **{name: values[number] for name, values in columns.items()}}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_oracle(model: str, prompts: str, **options) -> GrpoOracle:
    """An oracle of two steps in this process, unless ``options`` say otherwise."""
    options["trainer"] = {**TRAINER, **options.get("trainer", {})}
    defaults = {
        "rewards": REWARDS,
        "steps": 2,
        "new_tokens": 12,
        "samples": 2,
        "checkpoint_every": 1,
        "launcher": "here",
        "device": "cpu",
        "task_dir": Path(__file__).parent,
        "beta": 0.05,
    }
    return GrpoOracle(model=model, prompts=prompts, **{**defaults, **options})
