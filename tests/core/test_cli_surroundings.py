"""The command line among shells, pipes, encodings and systems that are not like this one."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_rules import TASK, palm
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, WorkError
from palm_core.model.files import LONGEST_NAME
from palm_core.oracles.protocol import LONGEST_ID
from palm_core.plugin import unportable_name, weight_id, write_artifact, write_atomically

PALM = (sys.executable, "-m", "palm_core")
MODELS = "model,hilfreich,günstig\nä,40,60\nb,64,40\nc,52,55\n"
SELECT = ("select", "models.csv", "--maximize", "hilfreich", "günstig")
NEEDS_BASH = pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models.csv").write_text(MODELS, encoding="utf-8")
    return tmp_path


def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PALM, *arguments], capture_output=True, env=os.environ | more)


@pytest.mark.parametrize(
    "where", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C"}]
)
def test_any_encoding_of_the_output_will_do(where: dict[str, str]) -> None:
    told = command(*SELECT, **where)
    assert (told.returncode, told.stderr) == (0, b"")
    encoding = where.get("PYTHONIOENCODING", "utf-8")
    shown = told.stdout.decode(encoding)
    assert ("─" if encoding == "utf-8" else "\\u2500") in shown
    assert ("ä" if encoding != "ascii" else "\\xe4") in shown
    document = json.loads(command(*SELECT, "--json", **where).stdout.decode(encoding))
    assert "ä" in document["portfolio"]
    assert document["objectives"] == ["hilfreich", "günstig"]


@NEEDS_BASH
def test_a_reader_that_goes_away_is_no_failure() -> None:
    """Neither for text that rich writes nor for JSON; nor while it is still being written."""
    lines = [" ".join([*PALM, *SELECT, more, "| head -c 1 >/dev/null"]) for more in ("", "--json")]
    lines.append(" ".join([*PALM, "--help", "| true"]))
    script = "; ".join(f"{line}; echo ${{PIPESTATUS[0]}}" for line in lines)
    told = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True)
    assert (told.stdout.split(), told.stderr) == (["0", "0", "0"], "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk_is_told(more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # else it is told earlier
    with Path("/dev/full").open("wb") as full:
        told = subprocess.run([*PALM, *SELECT, *more], stdout=full, stderr=subprocess.PIPE)
    assert told.returncode == 1
    assert told.stderr == b"palm: the output: No space left on device\n"


@NEEDS_BASH
def test_without_anybody_to_tell_the_code_stays() -> None:
    line = " ".join([*PALM, "bild", "2>&-"])
    assert subprocess.run(["/bin/bash", "-c", line], capture_output=True).returncode == 2
    line = " ".join([*PALM, *SELECT, "<&-"])
    assert subprocess.run(["/bin/bash", "-c", line], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -F _palm palm"), ("zsh", "#compdef palm"), ("fish", "complete -c palm")],
)
def test_completion_scripts_name_commands_and_options(shell: str, mark: str) -> None:
    told = palm("completion", shell)
    assert (told.code, told.err) == (0, "")
    assert mark in told.out
    for word in ("select", "oracles", "completion", "maximize", "max-calls"):
        assert word in told.out


@NEEDS_BASH
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["palm", "se"], {"select"}),
        (["palm", "pru"], {"prune"}),
        (["palm", "build", "--max"], {"--max-calls"}),
        (["palm", "prune", "run", "--method", "g"], {"greedy"}),
        (["palm", "completion", ""], {"bash", "zsh", "fish", "powershell"}),
    ],
)
def test_bash_completes(typed: list[str], offered: set[str], folder: Path) -> None:
    script = folder / "palm.bash"
    script.write_text(palm("completion", "bash").out)
    subprocess.run(["/bin/bash", "-n", str(script)], check=True)
    words = " ".join(f"'{word}'" for word in typed)
    asked = (
        f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _palm; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    told = subprocess.run(["/bin/bash", "-c", asked], capture_output=True, text=True, check=True)
    assert set(told.stdout.split()) == offered


def test_completion_is_installed_where_bash_looks(folder: Path) -> None:
    told = palm("completion", "bash", "--install")
    assert told.code == 0
    written = Path(told.out.split("Written to ")[1].split(". ")[0])
    assert written.is_relative_to(folder)
    assert "complete -F _palm palm" in written.read_text()


# What Python has on Windows: these modules and functions are not there.
ELSEWHERE = """
import sys
GONE = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "readline", "syslog"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in GONE:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
import os, signal
for name in ("fork", "forkpty", "setsid", "killpg", "getpgid", "getuid", "geteuid", "sysconf"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGQUIT", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
from palm_core.cli.app import run
import palm_core
[getattr(palm_core, name) for name in palm_core.__all__]
for line in sys.argv[1:]:
    code = run(line.split())
    assert code == 0, (line, code)
"""


def elsewhere(*lines: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *lines]
    return subprocess.run(script, capture_output=True, text=True)


def test_what_needs_no_worker_processes_works_without_posix(folder: Path) -> None:
    (folder / "task.toml").write_text(TASK)
    told = elsewhere(
        " ".join([*SELECT, "--epsilon", "0.05", "--save", "p.json"]),
        "route p.json --weights hilfreich=1",
        "oracles",
        "plan task.toml",
        "build task.toml --out run",
        "status run --verify",
        "runs .",
        "prune run --epsilon 0.1",
        "prune run --curve --most 2",
        "route run --weights helpful=1",
        "--help",
        "--version",
        "completion powershell",
    )
    assert told.returncode == 0, told.stderr
    assert "Traceback" not in told.stderr


def test_worker_processes_say_what_they_need(folder: Path) -> None:
    (folder / "task.toml").write_text(TASK.replace('executor = "here"', ""))
    told = elsewhere("build task.toml --out run")
    assert "palm: executor = 'local': needs a POSIX system; use 'here'\n" in told.stderr, (
        told.stderr
    )


WEIGHTS = st.lists(st.floats(0, 1), min_size=2, max_size=60).filter(lambda row: sum(row) > 0.01)


@given(WEIGHTS)
def test_ids_of_weights_are_file_names_on_every_system(row: list[float]) -> None:
    weights = np.array(row) / sum(row)
    name = weight_id(weights)
    assert unportable_name(name) is None
    assert set(name) <= set(string.ascii_lowercase + string.digits + ".-+")
    assert len(name) <= LONGEST_ID
    assert name == name.casefold()


@given(WEIGHTS, st.data())
def test_ids_of_weights_differ_where_weights_do(row: list[float], data: st.DataObject) -> None:
    weights = np.array(row) / sum(row)
    other = weights.copy()
    index = data.draw(st.integers(0, len(row) - 1))
    other[index] += 0.001
    assert weight_id(weights) != weight_id(other)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a:b", "has ':'"),
        ('say "x"', "has '\"'"),
        ("a?", "has '?'"),
        ("a*", "has '*'"),
        ("<a>", "has '<'"),
        ("a|b", "has '|'"),
        ("a\tb", r"has '\t'"),
        ("end.", "ends in a dot or a space"),
        ("end ", "ends in a dot or a space"),
        ("CON", "is reserved on Windows"),
        ("nul.txt", "is reserved on Windows"),
        ("Com1", "is reserved on Windows"),
        ("é" * 101, "is longer than 200 bytes"),
    ],
)
def test_names_that_some_system_has_no_files_of(name: str, why: str, folder: Path) -> None:
    assert unportable_name(name) == why
    with pytest.raises(InputError, match="name = "), write_artifact(folder / "artifacts", name):
        pass


@given(st.text(st.characters(codec="ascii"), max_size=12))
def test_no_other_ascii_name_is_refused(name: str) -> None:
    bad = set('<>:"/\\|?*') | {chr(code) for code in range(32)}
    device = name.split(".", maxsplit=1)[0].strip().upper()
    reserved = device in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} or (
        device[:-1] in {"COM", "LPT"} and device[-1:] in set("123456789")
    )
    refused = bool(bad & set(name)) or name.endswith((".", " ")) or reserved
    assert (unportable_name(name) is not None) is refused


def test_names_may_be_long_but_not_too_long() -> None:
    assert unportable_name("n" * LONGEST_NAME) is None
    assert unportable_name("n" * (LONGEST_NAME + 1)) is not None


def test_a_file_is_not_put_in_place_of_a_pipe(folder: Path) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(WorkError, match="is a pipe, a socket or a device, must be a file"):
        write_atomically(pipe, b"")
    assert pipe.is_fifo()
