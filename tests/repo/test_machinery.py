"""The README, the noxfile and CI say the same; CI fails when anything fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEST_COMMAND = "nox -s tests"


@pytest.fixture(scope="module")
def sessions(root: Path) -> dict[str, str]:
    """Session → its description, as nox itself reads the noxfile."""
    code = (
        "import json, noxfile, nox.registry\n"
        "print(json.dumps({name: f.__doc__ for name, f in nox.registry.get().items()}))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(listed.stdout)
    return found


def test_there_is_a_session_per_package_and_for_the_repository(
    root: Path, sessions: dict[str, str]
) -> None:
    packages = [path.name.removeprefix("palm-") for path in root.glob("packages/*")]
    # Ray is large and slow to start, so its tests have a session of their own.
    expected = {f"tests-{name}" for name in [*packages, "ray", "report", "repo"]}
    assert {name for name in sessions if name.startswith("tests-")} == expected
    assert {"demo", "tests", "lint", "types", "docs"} <= set(sessions)
    for name in expected:
        assert list((root / "tests" / name.removeprefix("tests-")).glob("test_*.py"))


def test_sessions_say_what_they_do(sessions: dict[str, str]) -> None:
    assert all(sessions.values()), sessions


def test_commands_in_the_documents_are_sessions(root: Path, sessions: dict[str, str]) -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (root / name).read_text(encoding="utf-8")
        commands = re.findall(r"nox -s ([\w -]+)", text)
        named = {name for command in commands for name in command.partition(" -- ")[0].split()}
        assert named, name
        assert named - sessions.keys() == set(), name


def test_the_readme_opens_with_the_two_commands(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    for command in ("nox -s demo", TEST_COMMAND):
        assert re.search(rf"(?m)^(\$ )?(pipx run )?{command}( *#.*)?$", text), command


def test_tests_runs_every_check(root: Path, sessions: dict[str, str]) -> None:
    """Not by reading the noxfile: by asking what the sessions that it queues would run."""
    queued, ran, _ = asked_to_run(root, "tests")
    assert set(queued) <= sessions.keys()
    assert len(queued) == len(set(queued))
    words = [word for line in ran for word in line]
    folders = {path.parent.name for path in root.glob("tests/*/test_*.py")}
    assert {"core", "ray", "site", "golden"} < folders
    for folder in folders:
        assert words.count(f"tests/{folder}") == 1, folder
    for check in (["mypy"], ["ruff", "check"], ["ruff", "format", "--check"]):
        assert check in ran
    assert any({"mkdocs", "--strict"} <= set(line) for line in ran)


def test_a_schedule_runs_what_the_others_leave_out(root: Path, sessions: dict[str, str]) -> None:
    where = "tests/core/test_cli_runs.py"

    def collected(**more: str) -> set[str]:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", where],
            cwd=root,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTEST_ADDOPTS": "", **more},
        )
        assert ran.returncode == 0, ran.stdout
        return {line for line in ran.stdout.splitlines() if line.startswith(where)}

    _, ran, env = asked_to_run(root, "scheduled", part="core")
    assert [line for line in ran if "tests/core" in line]
    assert collected() < collected(**env)


def asked_to_run(
    root: Path, name: str, **parameters: str
) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """What a session queues, what it and those would run, and the variables that they set."""
    code = (
        "import json, nox.registry, noxfile, sys\n"
        "class Session:\n"
        "    posargs, env, queued, ran, cache_dir = [], {}, [], [], noxfile.ROOT\n"
        "    def run(self, *words, **_):\n"
        "        self.ran.append([str(word) for word in words])\n"
        "    def install(self, *_, **__):\n"
        "        pass\n"
        "noxfile.install = lambda *_, **__: None\n"
        "noxfile.chromium = lambda _: {}\n"
        "noxfile.wheel = lambda *_: None\n"
        "noxfile.side_by_side = lambda session, *names: session.queued.extend(names)\n"
        "session, known = Session(), nox.registry.get()\n"
        "known[sys.argv[1]].func(session, **json.loads(sys.argv[2]))\n"
        "for name in session.queued:\n"
        "    known[name].func(session)\n"
        "print(json.dumps([session.queued, session.ran, session.env]))"
    )
    command = [sys.executable, "-c", code, name, json.dumps(parameters)]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    queued, lines, env = json.loads(ran.stdout)
    return queued, lines, env


def test_sessions_side_by_side_all_run_and_one_that_fails_is_an_error(
    root: Path, tmp_path: Path
) -> None:
    stub = tmp_path / "python"
    stub.write_text(
        "#!/bin/sh\n"
        'for name; do :; done; echo "$name said $PIP_CONSTRAINT;$PALM_TEST_PROCESSES;"\n'
        'test "$name" != bad\n'
    )
    stub.chmod(0o755)
    code = (
        "import noxfile, pathlib, sys\n"
        "class Session:\n"
        "    cache_dir, log = pathlib.Path(sys.argv[2]), print\n"
        "    def error(self, told):\n"
        "        raise SystemExit(told)\n"
        "noxfile.sys.executable = sys.argv[1]\n"
        "noxfile.os.cpu_count = lambda: 6\n"
        "noxfile.side_by_side(Session(), 'bad', 'good', 'better')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, stub, tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_CONSTRAINT": "mine"},
    )
    assert (ran.returncode, ran.stderr) == (1, "failed: bad\n")
    said = [line for line in ran.stdout.splitlines() if " said " in line]
    assert sorted(said) == [f"{name} said mine;3;" for name in ("bad", "better", "good")]


def stubs(folder: Path, **scripts: str) -> str:
    """A PATH on which these commands come first, so that no real nox is ever started."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run_ci(root: Path, tmp_path: Path, *named: str) -> subprocess.CompletedProcess[str]:
    """``.ci/run`` with an environment in which nox writes down its call and exits with 3."""
    nox = (
        'echo "nox $*; CI=$CI; offline=$HF_HUB_OFFLINE; path=${PYTHONPATH-none}"; '
        'if read -r line; then echo "stdin: $line"; else echo "stdin is empty"; fi; exit 3'
    )
    pip = "echo python $* >&2"
    python = (
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; '
        f"printf '%s\\n' '#!/bin/sh' '{nox}' > \"$3/bin/nox\"; "
        f"printf '%s\\n' '#!/bin/sh' '{pip}' > \"$3/bin/python\"; "
        'chmod +x "$3/bin/nox" "$3/bin/python"; else exit 9; fi'
    )
    path = stubs(tmp_path / "bin", python3=python, nox="exit 5")
    return subprocess.run(
        [root / ".ci" / "run", *named],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONPATH": "/elsewhere", "TMPDIR": str(tmp_path)},
        input="a line\n",
        capture_output=True,
        text=True,
    )


@pytest.fixture
def ci(root: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return run_ci(root, tmp_path)


def test_ci_runs_the_command_of_the_readme(ci: subprocess.CompletedProcess[str]) -> None:
    first, stdin = ci.stdout.splitlines()
    assert first == f"{TEST_COMMAND}; CI=true; offline=1; path=none", ci.stderr
    assert stdin == "stdin is empty"


def test_ci_takes_a_tested_version_of_nox(ci: subprocess.CompletedProcess[str]) -> None:
    (installation,) = [line for line in ci.stderr.splitlines() if " pip install " in line]
    assert "--constraint pins.txt" in installation


def test_a_scheduled_run_names_its_sessions(root: Path, tmp_path: Path) -> None:
    ran = run_ci(root, tmp_path, "newest", "lowest")
    assert ran.stdout.startswith("nox -s newest lowest;"), ran.stderr


def test_ci_fails_with_nox_and_leaves_nothing_behind(
    ci: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert ci.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_ci_stops_when_it_cannot_install(root: Path, tmp_path: Path) -> None:
    path = stubs(tmp_path, python3="exit 7", nox="exit 5")
    ran = subprocess.run([root / ".ci" / "run"], env={"PATH": path}, capture_output=True)
    assert ran.returncode == 7


def test_the_noxfile_names_what_it_needs(root: Path) -> None:
    text = (root / "noxfile.py").read_text(encoding="utf-8")
    block = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)
    assert block
    (needs,) = re.findall(r'dependencies = \["(nox\S+)"\]', block.group(1))
    assert f'"{needs}"' in (root / ".ci" / "run").read_text(encoding="utf-8")
