"""Tiny models, made once for all tests; what helps tests stands beside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).parent
for folder in map(str, (HERE, HERE.parent / "language", HERE.parent / "commands")):
    if folder not in sys.path:  # at the end
        sys.path.append(folder)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def families(tmp_path_factory):
    """By kind of architecture: ``base`` and ``models``, folders of trained tiny models."""
    import tiny_models

    made = {}

    def get(kind: str):
        if kind not in made:
            made[kind] = tiny_models.save_family(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, families):
    """By kind of architecture: ``base`` and ``adapters``, folders of LoRA adapters."""
    import tiny_models

    made = {}

    def get(kind: str):
        if kind not in made:
            base = families(kind)["base"]
            folder = tmp_path_factory.mktemp(f"{kind}-lora")
            made[kind] = {"base": base, "adapters": tiny_models.save_adapters(folder, base)}
        return made[kind]

    return get
