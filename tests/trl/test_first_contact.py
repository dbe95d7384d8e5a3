"""The commands of palm-trl, typed for the first time or typed wrong."""

from __future__ import annotations

from pathlib import Path

import command_rules as rules
import pytest
from command_rules import palm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

COMMANDS = rules.commands_of("palm-trl")


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path_factory.mktemp("first")
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return place


def test_all_of_them_are_here() -> None:
    assert COMMANDS == ["export"]


@pytest.mark.parametrize("width", rules.WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rules.check_help(name, width)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_typed_wrong_is_told(name: str) -> None:
    rules.check_examples(name)
    rules.check_mistyped_options(name)
    rules.check_one_argument_too_many(name)


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_is_refused_in_one_line(name: str, folder: Path, data: st.DataObject) -> None:
    rules.check_refusal(name, data.draw(rules.bad_arguments(name)), folder)


def test_what_export_goes_to_is_named() -> None:
    assert palm("export", "run").err == (
        "palm: export needs --to (vllm or hf); for example: palm export runs/first --to vllm "
        "--out served\n"
    )
    assert palm("export", "run", "--to", "onnx").err == "palm: --to 'onnx': must be vllm or hf\n"
