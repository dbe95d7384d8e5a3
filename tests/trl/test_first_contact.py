"""The commands of palm-trl, typed for the first time or typed wrong."""

from __future__ import annotations

from pathlib import Path

import command_rules as rules
import pytest
from command_rules import palm

COMMANDS = rules.commands_of("palm-trl")


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return rules.clean_place(tmp_path_factory, monkeypatch)


def test_all_of_them_are_here() -> None:
    assert COMMANDS == ["export"]


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand(rules.EveryCommand):
    pass


def test_what_export_goes_to_is_named() -> None:
    assert palm("export", "run").err == (
        "palm: export needs --to (vllm or hf); for example: palm export runs/first --to vllm "
        "--out served\n"
    )
    assert palm("export", "run", "--to", "onnx").err == "palm: --to 'onnx': must be vllm or hf\n"
