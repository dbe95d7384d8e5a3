"""One version for all packages, wherever it is written; siblings pinned to it."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def ours(projects: Any) -> str:
    versions = {project["version"] for project in projects.values()}
    assert len(versions) == 1, versions
    return str(versions.pop())


def test_packages_and_modules_agree(projects: Any, ours: str) -> None:
    for name in projects:
        assert version(name) == ours
        assert importlib.import_module(name.replace("-", "_")).__version__ == ours


def test_siblings_are_pinned(projects: Any, ours: str) -> None:
    for name, project in projects.items():
        groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
        for line in (line for group in groups for line in group):
            sibling = re.match(r"palm-\w+", line)
            if sibling and sibling.group() != name:
                assert line.endswith(f"=={ours}"), f"{name}: {line}"


def test_documents_agree(root: Path, ours: str) -> None:
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^version: (.+)$", citation) == [ours]
    headings = re.findall(r"(?m)^## (\S+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert headings[0] == ours


def test_one_licence(root: Path, projects: Any) -> None:
    text = (root / "LICENSE").read_text(encoding="utf-8")
    for name, project in projects.items():
        assert project["license"] == "MIT"
        assert (root / "packages" / name / "LICENSE").read_text(encoding="utf-8") == text


def test_python_versions_agree(root: Path, projects: Any) -> None:
    import tomllib

    (least,) = {project["requires-python"] for project in projects.values()}
    tools = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    number = least.removeprefix(">=")
    assert tools["mypy"]["python_version"] == number
    assert tools["ruff"]["target-version"] == "py" + number.replace(".", "")


def test_all_places_are_raised_together(root: Path, ours: str, tmp_path: Path) -> None:
    """Nothing that holds the old version, and is no change of the past, is left."""
    for pattern in ("packages/*/pyproject.toml", "packages/*/src/*/__init__.py", "C*.*"):
        for file in root.glob(pattern):
            copy = tmp_path / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    script = tmp_path / "release" / "raise_version.py"
    shutil.copytree(root / "release", script.parent)
    subprocess.run([sys.executable, script, "9.8.7"], check=True)
    changed = 0
    for file in filter(Path.is_file, tmp_path.glob("[Cp]*/**/*")):
        text = file.read_text(encoding="utf-8")
        assert ours not in text, file
        changed += "9.8.7" in text
    assert changed == 8
    headings = re.findall(r"(?m)^## (\S+)", (tmp_path / "CHANGELOG.md").read_text("utf-8"))
    assert headings[:2] == ["9.8.7", ours]
    assert "version: 9.8.7\n" in (tmp_path / "CITATION.cff").read_text("utf-8")
    for wrong in ("9.8.7", "9.8", "next"):
        again = subprocess.run([sys.executable, script, wrong], capture_output=True, text=True)
        assert again.returncode == 1
        assert "must be a version such as" in again.stderr
