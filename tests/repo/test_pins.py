"""What anyone installs does not depend on what was published this morning."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: These try other versions; with `pins` a version is chosen.
UNPINNED = {"newest", "lowest", "pins"}
SYSTEMS = {
    "linux": ("posix", "Linux", "x86_64"),
    "darwin": ("posix", "Darwin", "arm64"),
    "win32": ("nt", "Windows", "AMD64"),
}
#: What some builds of PyTorch bring along.
FOR_ONE_PROCESSOR = re.compile(r"(?:nvidia|cuda)-|triton$")
READERS = [(python, system) for python in (11, 12, 13, 14) for system in SYSTEMS]


@pytest.fixture(scope="module")
def recorded(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Session → what it would have pip install, and with which settings of pip."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in root.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
        elif path.name in ("packages", "examples", "tests", "release"):
            (folder / path.name).symlink_to(path)
    environment = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
    ran = subprocess.run(
        [sys.executable, root / "tests" / "repo" / "recorded_sessions.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found: dict[str, list[Any]] = json.loads(ran.stdout)
    return found


def pinned(text: str, python: int, system: str) -> dict[str, str]:
    """Name → version, for a reader's Python 3.x and system; one version for each name."""
    os_name, platform, machine = SYSTEMS[system]
    environment = {
        **default_environment(),
        "python_version": f"3.{python}", "python_full_version": f"3.{python}.1",
        "sys_platform": system, "os_name": os_name, "platform_system": platform,
        "platform_machine": machine,
    }  # fmt: skip
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(environment):
            (version,) = one.specifier
            assert version.operator == "==", line
            assert canonicalize_name(one.name) not in found, f"{line}: twice"
            found[canonicalize_name(one.name)] = version.version
    return found


def unheld(wanted: set[str], pins: dict[str, str]) -> set[str]:
    """Requirements to which ``pins`` has no version that fits."""
    found = set()
    for line in wanted:
        one = Requirement(line)
        exact = {version.version for version in one.specifier if version.operator == "=="}
        versions = exact or {pins.get(canonicalize_name(one.name))}
        if not all(version and version in one.specifier for version in versions):
            found.add(line)
    return found


def of_others(argument: str, projects: dict[str, dict[str, Any]]) -> set[str]:
    """What has to come from elsewhere when pip is given this argument."""
    if argument.startswith("-"):
        return set()
    if argument.endswith(".whl") and " @ " not in argument:
        argument = Path(argument).name.partition("-")[0].replace("_", "-")
    asked = Requirement(argument)
    if asked.name not in projects:
        return {argument}
    project = projects[asked.name]
    lines = [*project["dependencies"]]
    lines += [line for extra in asked.extras for line in project["optional-dependencies"][extra]]
    return {found for line in lines for found in of_others(line, projects)}


def files(installation: dict[str, Any], setting: str) -> list[str]:
    """The names of the files that pip is told to hold to."""
    uris = installation["environment"].get(setting, "").split()
    paths = [Path(url2pathname(uri.removeprefix("file://"))) for uri in uris]
    assert all(path.is_file() for path in paths), paths
    return [path.name for path in paths]


@pytest.mark.parametrize("setting", ["PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"])
def test_every_session_holds_to_the_tested_versions(
    recorded: dict[str, list[Any]], setting: str
) -> None:
    assert len(recorded) > 15
    for name in recorded.keys() - UNPINNED:
        for one in recorded[name]:
            assert files(one, setting) == ["constraints.txt", "pins.txt"], name


@pytest.mark.parametrize("setting", ["PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"])
def test_other_versions_are_tried_without_them(
    recorded: dict[str, list[Any]], setting: str
) -> None:
    for name, held in {
        "newest": ["constraints.txt"],
        "lowest": ["constraints.txt", "lowest.txt"],
    }.items():
        ours = [one for one in recorded[name] if "palm-" in str(one["arguments"])]
        assert ours
        assert all(files(one, setting) == held for one in ours), name


def test_the_newest_versions_meet_every_test(recorded: dict[str, list[Any]]) -> None:
    """What the default sessions install, `newest` installs too."""
    installed = {
        name: {re.sub(r"(file://)?/.*/", "", word) for one in given for word in one["arguments"]}
        for name, given in recorded.items()
    }
    default = {name for name in recorded if name.startswith("tests-")} | {"docs"}
    assert set().union(*(installed[name] for name in default)) <= installed["newest"]


@pytest.mark.parametrize(("python", "system"), READERS)
def test_everything_that_a_session_installs_is_pinned(
    root: Path, projects: dict[str, Any], recorded: dict[str, list[Any]], python: int, system: str
) -> None:
    texts = [(root / name).read_text(encoding="utf-8") for name in ("constraints.txt", "pins.txt")]
    pins = pinned("".join(texts), python, system)
    found = {}
    for name, installed in recorded.items():
        words = {word for one in installed for word in one["arguments"]}
        wanted = {line for word in words for line in of_others(word, projects)}
        if missing := unheld(wanted, pins):
            found[name] = missing
    assert not found, "nox -s pins"


def test_what_builds_the_packages_is_pinned(root: Path) -> None:
    pins = pinned((root / "pins.txt").read_text(encoding="utf-8"), 11, "linux")
    for file in root.glob("packages/*/pyproject.toml"):
        (line,) = re.findall(r'(?m)^requires = \["(.*)"\]$', file.read_text(encoding="utf-8"))
        assert not unheld({line}, pins)


def test_no_pin_is_only_for_one_kind_of_processor(root: Path) -> None:
    text = (root / "pins.txt").read_text(encoding="utf-8")
    names = [line.partition("==")[0] for line in text.splitlines()]
    assert not [name for name in names if FOR_ONE_PROCESSOR.match(name) or name == "torch"]


@pytest.mark.skipif(
    "/pins.txt" not in os.environ.get("PIP_CONSTRAINT", ""), reason="not installed with the pins"
)
def test_what_is_installed_here_is_what_is_pinned(root: Path, projects: dict[str, Any]) -> None:
    system = "linux" if sys.platform.startswith("linux") else sys.platform
    texts = [(root / name).read_text(encoding="utf-8") for name in ("constraints.txt", "pins.txt")]
    pins = pinned("".join(texts), sys.version_info.minor, system)
    installed = {
        canonicalize_name(one.name): one.version.partition("+")[0] for one in distributions()
    }
    others = {
        name: version
        for name, version in installed.items()
        if name not in {*projects, "pip", "setuptools"}  # the last two come with Python
        and not FOR_ONE_PROCESSOR.match(name)
    }
    assert "numpy" in others
    assert others == {name: pins.get(name) for name in others}


class TestTheChecksThemselves:
    @pytest.mark.parametrize("line", ["other>=1", "known>=2", "known>=1,<1.5"])
    def test_what_is_not_held_is_found(self, line: str) -> None:
        assert unheld({line}, {"known": "1.9"}) == {line}

    def test_what_is_held_is_not(self) -> None:
        assert not unheld({"Known[extra]>=1,<2", "exact==3"}, {"known": "1.9"})

    def test_markers_choose_a_version(self) -> None:
        text = "a==1 ; python_full_version < '3.12'\na==2 ; python_full_version >= '3.12'\n"
        text += "b==3 ; sys_platform == 'win32'\n"
        assert pinned(text, 11, "linux") == {"a": "1"}
        assert pinned(text, 13, "win32") == {"a": "2", "b": "3"}
