"""``palm export`` to the targets of palm-trl, typed for the first time or typed wrong."""

from __future__ import annotations

from pathlib import Path

import command_rules as rules
import pytest
from command_rules import palm


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return rules.clean_place(tmp_path_factory, monkeypatch)


def test_targets_are_named() -> None:
    for arguments in (["--to", "onnx"], ["--to", "vlm"]):
        ran = palm("export", "run", *arguments)
        assert ran.code == 2
        assert ran.err.count("\n") == 1
        assert "hf, vllm" in ran.err
    ran = palm("export", "run")
    assert ran.code == 2
    assert "--to" in ran.err
