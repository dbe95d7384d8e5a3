"""Command lines of a page: taken apart, and checked without being run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import CycloptsError
from packaging.requirements import InvalidRequirement, Requirement

from palm_core.cli.app import make_app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: What a page tells its reader to install or to check is not done while it is checked.
ELSEWHERE = re.compile(r"(python3? -m (pip|venv)|pip|pipx|nox|source|\.) ")
_EXIT = re.compile(r"#\s*exit (\d+)\s*$")
_REDIRECTION = re.compile(r"\d?>{1,2}\s*(&\d|[^\s;&|)]+)")


def lines(code: str) -> Iterator[tuple[str, int]]:
    """Each command of a block, continued lines joined, and the exit code it announces."""
    command = ""
    for line in code.splitlines():
        command += line
        if command.endswith("\\") or not _closed(command):
            command += "\n"
            continue
        if command.strip() and not command.lstrip().startswith("#"):
            announced = _EXIT.search(command)
            yield command, int(announced[1]) if announced else 0
        command = ""
    assert not command.strip(), f"the block ends within a command: {command}"


def _closed(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def simple_commands(command: str) -> Iterator[list[str]]:
    """The words of every command within pipes, lists and substitutions."""
    bare = _REDIRECTION.sub(" ", command.replace("\\\n", " ")).replace("$(", " ( ")
    lexer = shlex.shlex(bare, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def check_not_run(command: str, folder: Path) -> None:
    """What can be known of a command that is not run: its syntax, its options, its files."""
    shell = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    assert shell.returncode == 0, f"{command}: {shell.stderr}"
    for words in simple_commands(command):
        for word in words:
            if word.startswith("examples/") and "*" not in word:
                assert (folder / word).exists(), f"{command}: there is no {word}"
        if "palm" in words:
            check_palm(words[words.index("palm") + 1 :], folder)


def check_palm(arguments: list[str], folder: Path) -> None:
    """The real command line accepts the arguments, and the task file that they name is there."""
    try:
        make_app(arguments).parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise AssertionError(f"palm {' '.join(arguments)}: {error}") from error
    for word in arguments:
        if word.endswith(".toml") and not word.startswith("TASK"):
            assert (folder / word).exists(), (
                f"palm {' '.join(arguments)}: the page has no {word}; give a block before it "
                f'title="{word}"'
            )


def check_elsewhere(command: str) -> None:
    """Of a line that installs, or runs nox: the packages, extras and sessions exist."""
    for words in simple_commands(command):
        if "nox" in words:
            _check_nox(words[words.index("nox") + 1 :], command)
        elif "install" in words:
            for word in words[words.index("install") + 1 :]:
                if not word.startswith("-"):
                    _check_installable(word, command)


def own_package(command: str, folder: Path) -> str:
    """The package that a page wrote by itself and that this line installs; or ""."""
    found = re.match(r"python -m pip install (?:-e )?\./([\w.-]+)\s*(#.*)?$", command)
    return found[1] if found and (folder / found[1] / "pyproject.toml").exists() else ""


def _check_nox(arguments: list[str], command: str) -> None:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for flag in ("-s", "--session", "--sessions"):
        if flag in own:
            after = own[own.index(flag) + 1 :]
            named = [word for word in after if not word.startswith("-")]
            assert named, f"{command}: names no session"
            assert set(named) <= sessions(), f"{command}: the sessions are {sorted(sessions())}"


@cache
def sessions() -> frozenset[str]:
    """The sessions of the noxfile, as nox itself reads it."""
    code = "import json, noxfile, nox.registry; print(json.dumps(list(nox.registry.get())))"
    command = [sys.executable, "-c", code]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return frozenset(json.loads(listed.stdout))


def _check_installable(word: str, command: str) -> None:
    if word.endswith(".txt"):
        assert (ROOT / word).exists(), f"{command}: there is no {word}"
        return
    place, bracket, extras = word.partition("[")
    if "/" in place:
        assert (ROOT / place / "pyproject.toml").exists(), f"{command}: there is no {place}"
        name, wanted = Path(place).name, extras.rstrip("]").split(",") if bracket else []
    else:
        try:
            requirement = Requirement(word)
        except InvalidRequirement as error:
            raise AssertionError(f"{command}: {error}") from error
        name, wanted = requirement.name, sorted(requirement.extras)
    project = ROOT / "packages" / name / "pyproject.toml"
    if not project.exists():
        assert not name.startswith("palm"), f"{command}: there is no package {name}"
        return
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    known = set(declared.get("optional-dependencies", {}))
    assert set(wanted) <= known, f"{command}: {name} has the extras {sorted(known)}"
