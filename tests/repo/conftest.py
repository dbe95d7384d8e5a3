"""What the tests of the repository look at: its tree, its wheels, a user's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def projects() -> dict[str, dict[str, Any]]:
    """Package name → the [project] table of its pyproject.toml."""
    tables = [
        tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        for file in sorted(ROOT.glob("packages/*/pyproject.toml"))
    ]
    assert tables
    return {table["name"]: table for table in tables}


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, with nothing of this checkout on its path."""
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=environment,
        **options,
    )


def done(*command: str | Path, **options: Any) -> str:
    """Run a command that must succeed; its standard output."""
    result = run(*command, **options)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of one package; into a folder that is its own."""
    done(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheels(projects: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Package name → its wheel; those that nox has built, where it has."""
    built = os.environ.get("PALM_WHEELS")
    if built:
        return {name: next((Path(built) / name).glob("*.whl")) for name in projects}
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build_wheel(ROOT / "packages" / name, folder / name) for name in projects}


class Place(NamedTuple):
    """A virtual environment, and a working directory that is not this checkout."""

    python: Path
    folder: Path

    def script(self, name: str) -> Path:
        return self.python.parent / name


@pytest.fixture(scope="session")
def user(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a user has who installs palm-core without extras, and a third party's oracle."""
    folder = tmp_path_factory.mktemp("user")
    source = folder / "fake-palm-oracle"
    shutil.copytree(ROOT / "tests" / "fixtures" / "fake-palm-oracle", source)
    third_party = build_wheel(source, folder / "wheels")
    done(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    done(*pip, "install", "--quiet", "--no-compile", wheels["palm-core"], third_party)
    place = Place(python, folder / "work")
    place.folder.mkdir()
    return place
