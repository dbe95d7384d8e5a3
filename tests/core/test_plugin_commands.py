from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from palm_command import run

from palm_core.cli import commands as plugin_commands

MODULE = """
from palm_core.errors import WorkError

def greet(name: str, /, *, loud: bool = False) -> None:
    '''Say hello to somebody.'''
    print(f"Hello {name}" + "!" * loud)

def fail() -> None:
    '''Fail.'''
    raise WorkError("nobody is there")

nothing = 7
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "greeting_for_palm.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "greeting_for_palm", raising=False)
    entries = [
        EntryPoint(name, f"greeting_for_palm:{function}", plugin_commands.GROUP)
        for name, function in (
            ("greet", "greet"),
            ("fail", "fail"),
            ("select", "greet"),
            ("absent", "other"),
            ("nothing", "nothing"),
            ("twice", "greet"),
            ("twice", "fail"),
        )
    ]
    entries.append(EntryPoint("broken", "no_such_module:command", plugin_commands.GROUP))
    monkeypatch.setattr(plugin_commands, "entry_points", lambda group: entries)


def test_commands_of_other_packages_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["greet", "Ada", "--loud"]) == 0
    assert capsys.readouterr().out == "Hello Ada!\n"
    assert run(["fail"]) == 1
    assert capsys.readouterr().err == "palm: nobody is there\n"


def test_they_are_listed_the_broken_ones_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "Say hello to somebody." in listed
    assert "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'" in listed
    assert "twice" not in listed  # which of the two?


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("absent", "AttributeError: module 'greeting_for_palm' has no attribute 'other'"),
        ("nothing", "TypeError: greeting_for_palm:nothing"),
    ],
)
def test_broken_ones_say_why(capsys: pytest.CaptureFixture[str], name: str, reason: str) -> None:
    assert run([name, "x"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"palm: palm {name}: ")
    assert reason in told
    assert told.count("\n") == 1


def test_our_commands_are_not_replaced_and_load_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["select", "Ada"]) == 2
    assert "Hello" not in capsys.readouterr().out
    assert "greeting_for_palm" not in sys.modules


def test_a_mistyped_name_is_compared_with_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gret", "Ada"]) == 2
    told = capsys.readouterr().err
    assert "greet" in told
    assert "greeting_for_palm" not in sys.modules


def test_which_commands_there_are_is_known_without_loading_them() -> None:
    assert plugin_commands.has_command("greet")
    assert plugin_commands.has_command("broken")
    assert not plugin_commands.has_command("report")
    assert not plugin_commands.has_command("twice")  # two packages bring it: neither does


TASK = """
[oracle]
name = "tabular"
objectives = ["a", "b"]
beta = 0.1
[grid]
mu = 1.0
alpha = 0.5
[prune]
epsilon = 0.1
"""


@pytest.mark.parametrize("there", [True, False])
def test_build_tells_of_the_report_where_it_is_installed(
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = [EntryPoint("report", "no_such_module:command", plugin_commands.GROUP)] * there
    monkeypatch.setattr(plugin_commands, "entry_points", lambda group: entries)
    (tmp_path / "task.toml").write_text(TASK)
    run_folder = tmp_path / "run"
    assert run(["build", str(tmp_path / "task.toml"), "--out", str(run_folder)]) == 0
    assert (f"palm report {run_folder}" in capsys.readouterr().out) is there
