"""What ``nox -s release-check`` says of archives that are not as they should be."""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

LICENCE = "palm_x-1.0.0.dist-info/licenses/LICENSE"
METADATA = """\
Metadata-Version: 2.4
Name: palm-x
Version: 1.0.0
License-Expression: MIT
License-File: LICENSE
Classifier: Programming Language :: Python :: 3.11
Requires-Python: >=3.11
Description-Content-Type: text/markdown

# x
"""
PROJECT = {"name": "palm-x", "version": "1.0.0", "requires-python": ">=3.11"}


@pytest.fixture(scope="module")
def archives(root: Path) -> Any:
    return script(root, "archives")


def script(root: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, root / "release" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ours(root: Path) -> dict[str, bytes]:
    return {
        "src/palm_x/__init__.py": b"x = 1\n",
        "src/palm_x/py.typed": b"",
        "pyproject.toml": b"[project]\n",
        "LICENSE": (root / "LICENSE").read_bytes(),
    }


@pytest.fixture
def wheel(ours: dict[str, bytes]) -> dict[str, bytes]:
    code = {name[4:]: content for name, content in ours.items() if name.startswith("src/")}
    return {**code, LICENCE: ours["LICENSE"], "palm_x-1.0.0.dist-info/METADATA": b"..."}


def test_a_good_wheel_has_no_faults(archives: Any, wheel: Any, ours: Any) -> None:
    assert archives.faults_of_wheel(wheel, ours, "palm_x") == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"palm_x/notes.txt": b"mine"}, "palm_x/notes.txt is not ours"),
        ({"tests/test_x.py": b""}, "tests/test_x.py is not ours"),
        ({"palm_x/__init__.py": b"x = 2\n"}, "palm_x/__init__.py is not that of the repository"),
        ({"palm_x/__init__.py": None}, "palm_x/__init__.py is missing"),
        ({"palm_x/py.typed": None}, "no py.typed"),
        ({LICENCE: None}, "no LICENSE"),
        ({LICENCE: b"All rights reserved"}, "no LICENSE"),
    ],
)
def test_a_fault_of_a_wheel_is_told(
    archives: Any, wheel: Any, ours: Any, changes: dict[str, bytes | None], fault: str
) -> None:
    changed = {**wheel, **changes}
    left = {name: content for name, content in changed.items() if content is not None}
    faults = archives.faults_of_wheel(left, ours, "palm_x")
    assert any(fault in one for one in faults), faults


def test_a_source_package_is_the_files_of_its_package(archives: Any, ours: Any) -> None:
    written = {"PKG-INFO": b"...", ".gitignore": b""}
    assert archives.faults_of_source({**ours, **written}, ours) == []
    for wrong in ({"pyproject.toml": b""}, {"secrets.txt": b""}):
        (fault,) = archives.faults_of_source({**ours, **wrong}, ours)
        assert next(iter(wrong)) in fault
    del ours["LICENSE"]
    (fault,) = archives.faults_of_source({**ours, "LICENSE": b""}, ours)
    assert "LICENSE" in fault


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("", "", None),
        ("Requires-Python: >=3.11", "Requires-Python: >=3.12", "requires-python"),
        ("Python :: 3.11", "Python :: 3.12", "requires-python"),
        ("Version: 1.0.0", "Version: 1.0.1", "another name or version"),
        ("Expression: MIT", "Expression: Apache-2.0", "not MIT"),
        ("text/markdown", "text/plain", "not the README"),
        ("# x", "# y", "not the README"),
        (
            "Requires-Python",
            "Project-URL: Home, http://127.0.0.1:9/\nRequires-Python",
            "127.0.0.1:9",
        ),
    ],
)
def test_a_fault_of_the_metadata_is_told(
    archives: Any, old: str, new: str, fault: str | None
) -> None:
    text = METADATA.replace(old, new, 1) if old else METADATA
    faults = archives.faults_of_metadata(text.encode(), PROJECT, "# x\n")
    assert any(fault in one for one in faults) if fault else faults == [], faults


def test_links_that_only_a_checkout_can_follow_are_told(archives: Any) -> None:
    text = "# x\n[more](docs/more.md) [there](https://example.org/)\n"
    faults = archives.faults_of_metadata(METADATA.replace("# x\n", text).encode(), PROJECT, text)
    assert faults == ["metadata: docs/more.md in the description leads nowhere on an index"]


def test_invalid_metadata_are_an_error(archives: Any) -> None:
    with pytest.raises(ExceptionGroup):
        archives.faults_of_metadata(METADATA.replace("1.0.0", "one").encode(), PROJECT, "# x\n")


def test_members_of_both_kinds_are_read(archives: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as made:
        made.writestr("palm_x/__init__.py", "x = 1\n")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as made_too:
        info = tarfile.TarInfo("palm_x-1.0.0/src/palm_x/__init__.py")
        info.size = 6
        made_too.addfile(info, io.BytesIO(b"x = 1\n"))
    assert archives.members(tmp_path / "x.whl") == {"palm_x/__init__.py": b"x = 1\n"}
    found = archives.members(tmp_path / "x.tar.gz")
    assert found == {"src/palm_x/__init__.py": b"x = 1\n"}


def wheel_of(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "palm_x-1.0.0-py3-none-any.whl", "w") as made:
        for name, one in content.items():
            made.writestr(name, one)


def test_the_wheel_of_the_source_package_has_to_be_that_of_the_checkout(
    archives: Any, wheel: dict[str, bytes], ours: dict[str, bytes], tmp_path: Path
) -> None:
    lines = [f'{key} = "{value}"\n' for key, value in PROJECT.items()]
    ours["pyproject.toml"] = ("[project]\n" + "".join(lines)).encode()
    ours["README.md"] = b"# x\n"
    folder = tmp_path / "palm-x"
    for name, content in ours.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    wheel["palm_x-1.0.0.dist-info/METADATA"] = METADATA.encode()
    wheel_of(tmp_path / "dist", wheel)
    with tarfile.open(tmp_path / "dist" / "palm_x-1.0.0.tar.gz", "w:gz") as source:
        source.add(folder, "palm_x-1.0.0", filter=lambda i: None if ".git" in i.name else i)
    wheel_of(tmp_path / "same", wheel)
    wheel_of(tmp_path / "other", {**wheel, "palm_x-1.0.0.dist-info/RECORD": b"else"})
    told = {
        tree: archives.faults_of_package("palm-x", folder, tmp_path / "dist", tmp_path / tree)[0]
        for tree in ("same", "other")
    }
    different = "the wheel from the source package is not the one from the checkout"
    assert told == {"same": [], "other": [different]}


def test_what_fails_in_an_installation_is_told_and_the_rest_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = script(root, "installed")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def wrong() -> str:
        raise AssertionError("it is not there")

    checks = [("one", wrong), ("two", lambda: "fine")]
    monkeypatch.setattr(installed, "lines", lambda *_: iter(checks))
    assert installed.main(*[tmp_path] * 4) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in told[3:5]] == [["one", "WRONG"], ["two", "ok"]]
    assert told[-1] == "1 of 2 hold, 1 do not"
    monkeypatch.setattr(installed, "lines", lambda *_: iter(checks[1:]))
    assert installed.main(*[tmp_path] * 4) == 0


def test_each_announced_oracle_and_metric_and_reward_is_checked(root: Path, tmp_path: Path) -> None:
    installed = script(root, "installed")
    todo = [what for what, _ in installed.lines(tmp_path, root, tmp_path, tmp_path)]
    for entry in installed.announced():
        kind = entry.group.removeprefix("palm.").removesuffix("s").replace("analyse", "analysis")
        assert kind in ("command", "console_script") or f"{kind} {entry.name}" in todo


def test_the_checkout_is_not_taken_for_what_is_installed(root: Path, tmp_path: Path) -> None:
    installed = script(root, "installed")
    with pytest.raises(AssertionError, match=r"is on sys\.path|__init__\.py"):
        # as if site-packages lay in the checkout, or it were not in site-packages at all
        installed.check_place("palm-core", tmp_path, Path(sys.prefix).resolve())


def test_descriptions_run_and_their_tasks_are_tasks(root: Path, tmp_path: Path) -> None:
    from palm_core.plugin import load_task

    snippets = tasks = 0
    for file in root.glob("packages/*/README.md"):
        text = file.read_text(encoding="utf-8")
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
            snippets += 1
        for task in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
            (tmp_path / "task.toml").write_text(task, encoding="utf-8")
            assert load_task(tmp_path / "task.toml").oracle in ("mod", "grpo")
            tasks += 1
    assert (snippets, tasks) == (2, 2)
