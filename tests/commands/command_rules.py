"""What every command of ``palm`` keeps to, whichever package brings it; tests call these."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from palm_command import make_app, run

from palm_core.validation import is_plain

WIDTHS = (40, 80, 200)
#: A task of few weights that answers at once.
TASK = """[oracle]
name = "tabular"
prompts = 2
responses = 10
[grid]
mu = 0.5
alpha = 0.5
[prune]
epsilon = 0.05
[run]
executor = "here"
"""
#: What people, shells and programs put where something else was asked for. Nothing of it
#: is there, but "folder"; no slash, so that no command walks through this machine.
JUNK = (
    *("", " ", "-", "--", "---", "-x", "=", "--=", ",", "0", "-1", "2", "0.5", "1e999", "nan"),
    *(
        "inf",
        "~nobody-here",
        "0,5",
        "5%",
        "1/0",
        "true",
        "x",
        "none",
        "a=1",
        "a=1,b=0",
        "=1",
        "missing.csv",
    ),
    *("missing.toml", "missing.json", "missing", ".", "folder", "é", "💥", "\x1b[31m", "a\nb"),
    *("[bold]", "\udcff", "n" * 300, "9" * 5000, "--\x1b[31m", "-\u202e", "--é\n"),
)


class Result(NamedTuple):
    code: int
    out: str
    err: str


def palm(*arguments: object) -> Result:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def commands_of(package: str) -> list[str]:
    """The commands that an installed package announces."""
    found = entry_points(group="palm.commands")
    return sorted({entry.name for entry in found if entry.dist and entry.dist.name == package})


def options_of(name: str) -> list[str]:
    """The options that a command has."""
    found = make_app([name])[name].assemble_argument_collection()
    return [option for one in found for option in one.names if option.startswith("--")]


def examples_of(name: str) -> list[str]:
    """The examples in a command's help, as they are shown."""
    lines = palm(name, "--help").out.splitlines()
    return [line.strip() for line in lines if line.startswith("palm ")]


def check_help(name: str, width: int) -> None:
    """Help is plain, narrow, and shows an example before all that the command takes."""
    code, out, err = palm(name, "--help")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith(f"Usage: palm {name}")
    assert lines[2].rstrip().endswith(".") or width < 80, "a line that says what it does"
    examples = [index for index, line in enumerate(lines) if line.startswith("palm ")]
    assert examples, "an example"
    assert all(len(line) <= width for line in lines if not line.startswith("Usage: "))
    panel = next(index for index, line in enumerate(lines) if "Parameters" in line)
    assert examples[0] < panel, "the example comes first"
    required = {one.name for one in arguments_of(name) if one.required}
    marked = [line for line in lines[panel:] if re.match(r"\W+\* ", line)]
    assert len(marked) == len(required)
    assert all(any(one in line for line in marked) for one in required)
    assert "--json" in out or name == "completion"


def arguments_of(name: str):
    """What a command takes."""
    return make_app([name])[name].assemble_argument_collection()


def check_examples(name: str) -> None:
    """Every example is a command line that is understood, of this command."""
    for example in examples_of(name):
        words = shlex.split(example)[1:]
        app = make_app(words)
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__name__ == name == words[0], example
        assert bound.arguments or len(words) == 1, example


def check_mistyped_options(name: str) -> None:
    """An option with a letter too many is refused in one line, which names the right one."""
    for option in options_of(name):
        for typo in (f"{option}s", option.replace("--", "--x", 1)):
            if typo in options_of(name):
                continue
            told = palm(name, typo, "1")
            assert told.code == 2, told
            assert told.out == ""
            line = rf"palm: {name} has no option {typo}; did you mean (--\S+)\?\n"
            assert (found := re.fullmatch(line, told.err)), told.err
            assert found[1] == option or f"{found[1]}s" == typo, told.err


def check_one_argument_too_many(name: str) -> None:
    """What is left over is named."""
    needed = [one for one in arguments_of(name) if one.required]
    given = []
    for one in needed:
        value = (one.get_choices() or ("missing",))[0]
        given += [value] if one.index is not None else [one.name, value]
    if name in {"compare", "tables"}:  # take any number
        return
    several = ["folder"] if name == "runs" else []
    told = palm(name, *several, *given, "leftover")
    assert (told.code, told.out) == (2, ""), told
    assert parts_in_order(f"palm: … 'leftover' … palm {name} --help\n", told.err), told


def parts_in_order(parts: str, text: str) -> bool:
    """Whether ``text`` has the parts that " … " separates, in this order."""
    return re.search(".*".join(map(re.escape, parts.split(" … "))), text) is not None


def bad_arguments(name: str) -> st.SearchStrategy[list[str]]:
    """Options of a command and junk, in any order."""
    words = st.text(st.characters(codec="utf-8", exclude_characters="./\\~\0"), max_size=8)
    # --install and --open act outside of the folder that the tests are in
    options = [one for one in options_of(name) if one not in {"--install", "--open"}]
    options += [f"{option}=x" for option in options]
    return st.lists(st.sampled_from([*options, *JUNK]) | words, max_size=8)


def check_refusal(name: str, arguments: list[str], folder: Path) -> None:
    """Whatever is typed: an exit code, and one plain line if it is not 0."""
    (folder / "folder").mkdir(exist_ok=True)
    told = palm(name, *arguments)
    assert told.code in {0, 1, 2}, told
    assert "Traceback" not in told.out + told.err
    if told.code:
        assert told.err.startswith("palm: "), told
        assert told.err.endswith("\n")
        assert is_plain(told.err[:-1]), told
        assert told.code == 1 or told.out == "", told


def clean_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder, gone to, of a person who has nothing yet, on a terminal of 80 columns."""
    place = tmp_path_factory.mktemp("first")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return place


class EveryCommand:
    """The rules as tests: a subclass is parametrised by the names of its package's commands.

    It needs a fixture ``folder`` that calls :func:`clean_place`.
    """

    @pytest.mark.parametrize("width", WIDTHS)
    def test_help(self, name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        check_help(name, width)

    def test_examples_are_understood(self, name: str) -> None:
        check_examples(name)

    def test_mistyped_options_are_corrected(self, name: str) -> None:
        check_mistyped_options(name)

    def test_what_is_too_much_is_named(self, name: str, folder: Path) -> None:
        (folder / "folder").mkdir()
        check_one_argument_too_many(name)

    @given(data=st.data())
    @settings(
        max_examples=25,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,  # a folder for all of a command's examples
            HealthCheck.differing_executors,  # a subclass for each package
        ],
    )
    def test_junk_is_refused_in_one_line(
        self, name: str, folder: Path, data: st.DataObject
    ) -> None:
        for file in ("models.csv", "task.toml"):
            (folder / file).unlink(missing_ok=True)
        check_refusal(name, data.draw(bad_arguments(name)), folder)
