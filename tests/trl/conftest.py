"""A tiny model and its prompts, made once for all tests; what helps tests stands beside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Calls in processes of their own inherit it; two threads are slower than one, and resuming is
# the same to the last bit with one only.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
for folder in map(str, (HERE, *(HERE.parent / name for name in ("language", "commands", "core")))):
    if folder not in sys.path:  # at the end
        sys.path.append(folder)

#: Of third parties, about what they call among themselves.
NOT_OURS = (
    # peft and TRL still ask transformers by the old name
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)


def pytest_collection_modifyitems(items):
    """Let the warnings above pass in this folder."""
    for item in items:
        if HERE in item.path.parents:
            for warning in NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a random model with its tokenizer."""
    import tiny_tasks

    return tiny_tasks.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory):
    """Twelve prompts as JSON lines, with a column "answer"."""
    import tiny_tasks

    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    return tiny_tasks.save_prompts(path, answer=[str(number) for number in range(12)])


@pytest.fixture
def make_oracle(tiny_model, prompt_file):
    """An oracle of two steps in this process: takes its options."""
    import tiny_tasks

    def make(**options):
        model = options.pop("model", tiny_model)
        return tiny_tasks.make_oracle(model, options.pop("prompts", prompt_file), **options)

    return make
