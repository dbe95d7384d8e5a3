"""Numba's cache and environment: whatever is wrong with them, the answer comes, with a line."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import pytest
from command_rules import TASK

from palm_core import PalmWarning
from palm_core.geometry import compilation as _compilation
from palm_core.geometry.compilation import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable

PALM = (sys.executable, "-m", "palm_core")
# Three objectives: two need no kernel.
MODELS = "model,q,price,s\na,31,0.05,0.3\nb,44,0.25,0.9\nc,52,0.40,1.6\nd,57,0.90,1.1\n"
SELECT = ("select", "models.csv", "--maximize", "q", "--minimize", "price", "s", "--json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for compiled code, of this process and of those that it starts."""
    folder = tmp_path / "code"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    monkeypatch.setattr(_compilation, "_reported", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.csv").write_text(MODELS)
    return folder


def adding(n: int) -> Callable[[int], int]:
    """A kernel that adds ``n``, as a process that has not compiled it yet has it."""

    def kernel(x: int) -> int:
        return x + n

    made: Callable[[int], int] = _compilation.compiled(kernel)
    return made


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hits(kernel: Any) -> int:
    return sum(kernel.stats.cache_hits.values())


def palm(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PALM, *arguments], capture_output=True, text=True, env=os.environ | more, timeout=240
    )


def test_code_is_kept_for_the_next_process(folder: Path) -> None:
    assert adding(1)(2) == 3
    again = adding(1)
    assert again(2) == 3
    assert hits(again) == 1
    other = adding(5)
    assert other(2) == 7
    assert hits(other) == 0
    assert len(files(folder)) == 2


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "last byte missing": lambda data: data[:-1],
    "one bit": lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
    "zeros at the end": lambda data: data[: len(data) // 3] + bytes(len(data) - len(data) // 3),
    "another pickle": lambda data: pickle.dumps({"no": "code"}),
    "a module that is not there": lambda data: b"cnowhere.at.all\nthing\n.",
    "a text": lambda data: b"<html>proxy error</html>",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_code_is_compiled_anew_and_replaced(folder: Path, name: str) -> None:
    adding(1)(2)
    (file,) = files(folder)
    file.write_bytes(DAMAGE[name](file.read_bytes()))
    with pytest.warns(PalmWarning, match=str(folder)) as told:
        assert adding(1)(2) == 3
    assert len(told) == 1
    cured = adding(1)
    assert cured(2) == 3
    assert hits(cured) == 1


def test_there_is_one_warning_however_many_kernels(folder: Path) -> None:
    kernels = range(4)
    for n in kernels:
        adding(n)(2)
    for file in files(folder):
        file.write_bytes(b"")
    with pytest.warns(PalmWarning) as told:
        assert [adding(n)(2) for n in kernels] == [2, 3, 4, 5]
    assert len(told) == 1


def test_code_of_another_closure_under_the_name_is_not_run(folder: Path) -> None:
    """What two processes leave behind that write into each other's file."""
    adding(1)(2)
    (one,) = files(folder)
    adding(5)(2)
    (other,) = set(files(folder)) - {one}
    shutil.copy(other, one)
    assert adding(1)(2) == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_folder_that_refuses_to_keep_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(PalmWarning) as told:
        assert [adding(n)(2) for n in (1, 2)] == [3, 4]
    (warning,) = told
    assert str(folder) in str(warning.message)
    assert os.strerror(code) in str(warning.message)
    assert files(folder) == []


def test_code_that_cannot_be_read(folder: Path) -> None:
    adding(1)(2)
    (file,) = files(folder)
    file.unlink()
    file.mkdir()
    with pytest.warns(PalmWarning, match=str(folder)):
        assert adding(1)(2) == 3


def test_a_folder_that_vanishes_before_the_first_call_is_made_again(folder: Path) -> None:
    kernel = adding(1)
    shutil.rmtree(folder)
    assert kernel(2) == 3
    assert len(files(folder)) == 1


def test_a_folder_that_becomes_a_file_before_the_first_call(folder: Path) -> None:
    kernel = adding(1)
    shutil.rmtree(folder)
    folder.write_text("")
    with pytest.warns(PalmWarning, match=str(folder)):
        assert kernel(2) == 3


def test_a_folder_that_cannot_be_made_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    folder.write_text("a file")
    with pytest.warns(PalmWarning, match=str(folder)):
        assert adding(1)(2) == 3


def test_a_function_of_no_file(folder: Path) -> None:
    namespace: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", namespace)
    with pytest.warns(PalmWarning, match=str(folder)):
        assert _compilation.compiled(namespace["double"])(21) == 42


def test_a_numba_without_the_parts_that_the_cache_is_made_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palm_core.geometry.code_cache.CodeCache.__init__", lambda _: None)
    with pytest.warns(PalmWarning, match=str(folder)):
        assert adding(1)(2) == 3


def test_the_command_line_says_it_in_one_line_and_only_once(folder: Path) -> None:
    first = palm(*SELECT)
    assert (first.returncode, first.stderr) == (0, "")
    assert len(files(folder)) > 3
    largest, *_, smallest = sorted(files(folder), key=lambda file: -file.stat().st_size)
    smallest.write_bytes(b"")
    data = bytearray(largest.read_bytes())
    data[300:4096] = bytes(4096 - 300)  # runs as machine code where nobody looks at it first
    largest.write_bytes(data)
    damaged = palm(*SELECT, PYTHONWARNINGS="error")
    assert (damaged.returncode, damaged.stdout) == (0, first.stdout)
    (line,) = damaged.stderr.splitlines()
    assert line.startswith("palm: warning: ")
    assert str(folder) in line
    assert palm(*SELECT).stderr == ""


@pytest.mark.skipif(
    shutil.which("unshare") is None or not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root, to mount a full disk",
)
@pytest.mark.parametrize(
    "names", [["select"], pytest.param(["build", "prune"], marks=pytest.mark.scheduled)]
)
def test_a_full_disk_does_not_cost_the_answer(
    folder: Path, tmp_path: Path, names: list[str]
) -> None:
    folder.mkdir()
    (tmp_path / "task.toml").write_text(TASK)
    commands = {
        "select": SELECT,
        "build": ("build", "task.toml", "--out", "run", "--json"),
        "prune": ("prune", "run", "--epsilon", "0.2", "--json"),
    }
    full = 'mount -t tmpfs -o size=32k none "$0" && head -c 40000 /dev/zero > "$0/fill" 2>&-'
    for name, arguments in ((name, commands[name]) for name in names):
        told = subprocess.run(
            ["unshare", "-m", "sh", "-c", f'{full}; exec "$@"', str(folder), *PALM, *arguments],
            capture_output=True,
            text=True,
            timeout=240,
        )
        if "mount" in told.stderr:
            pytest.skip(f"cannot mount here: {told.stderr}")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout), name
        named = [line for line in told.stderr.splitlines() if str(folder) in line]
        assert len(named) == 1, (name, told.stderr)
        assert "No space left on device" in named[0]


WARMING = """
import sys
from palm_core import PolicySet, best_policies, construct_grid
sys.stdin.readline()
for d in map(int, sys.argv[1:]):
    weights = construct_grid(d, 0.3, 0.1)
    print(best_policies(PolicySet(weights), weights).values.sum(), end=" ")
"""


def test_processes_may_fill_one_folder_at_once(folder: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WARMING, *order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for order in (("3", "4"), ("4", "3"))
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=240) for process in processes]
    assert [err for _, err in told] == ["", ""]
    assert told[0][0].split() == told[1][0].split()[::-1]
    assert len(files(folder)) == 2


class TestEnvironment:
    """With a folder for compiled code that all of these tests share, once it is filled."""

    @pytest.fixture(scope="class")
    @classmethod
    def warm(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("code")

    @pytest.fixture
    def build(self, warm: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        (tmp_path / "task.toml").write_text(TASK)
        arguments = ("build", str(tmp_path / "task.toml"), "--out", str(tmp_path / "run"), "--json")
        return lambda **more: palm(*arguments, NUMBA_CACHE_DIR=str(warm), **more)

    @pytest.mark.parametrize("text", ["0", "-1", "abc", "1.5", "", str(available_cores() + 1)])
    def test_numbers_of_threads_that_are_none(self, build: Any, text: str) -> None:
        told = build(NUMBA_NUM_THREADS=text)
        assert (told.returncode, bool(json.loads(told.stdout))) == (0, True)
        (line,) = told.stderr.splitlines()
        assert f"NUMBA_NUM_THREADS = {text!r}" in line
        assert f"from 1 to {available_cores()}" in line

    def test_a_library_warns(self) -> None:
        code = (
            "import warnings\n"
            "with warnings.catch_warnings(record=True) as told:\n"
            "    from palm_core.geometry import kernels as _kernels\n"
            "print(_kernels.n_threads(), [item.category.__name__ for item in told])\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"NUMBA_NUM_THREADS": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == f"{available_cores()} ['PalmWarning']\n"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("NUMBA_DISABLE_JIT", "1"),
            ("NUMBA_DISABLE_JIT", "yes"),
            ("NUMBA_OPT", "9"),
            ("NUMBA_CPU_FEATURES", "nonsense"),
        ],
    )
    def test_what_numba_does_without_is_one_line(self, build: Any, name: str, text: str) -> None:
        told = build(**{name: text})
        assert (told.returncode, bool(json.loads(told.stdout))) == (0, True)
        (line,) = told.stderr.splitlines()
        assert name in line

    def test_what_numba_cannot_start_with_is_refused_in_one_line(self, build: Any) -> None:
        told = build(NUMBA_FUNCTION_CACHE_SIZE="-1")
        assert (told.returncode, told.stdout) == (2, "")
        (line,) = told.stderr.splitlines()
        assert "NUMBA_FUNCTION_CACHE_SIZE=-1" in line


def test_a_warning_of_another_kind_is_shown_as_python_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from palm_core.cli import app

    def command(_: object) -> None:
        warnings.warn("ours", PalmWarning, stacklevel=1)
        warnings.warn("theirs", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr(app, "make_app", lambda _: command)
    with pytest.warns(DeprecationWarning, match="theirs") as others:
        assert app.run([]) == 0
    assert len(others) == 1
    assert capsys.readouterr().err == "palm: warning: ours\n"
