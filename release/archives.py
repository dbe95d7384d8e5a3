"""Are the wheels and source packages what they should be? ``nox -s release-check`` asks.

    python release/archives.py DIST FROM_TREE

DIST holds what ``python -m build`` makes of each package: its source package, and the wheel
built from that; FROM_TREE the wheels built from the checkout.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
#: What a source package holds beside the files of its package.
WRITTEN_BY_THE_BUILD = {"PKG-INFO", ".gitignore"}


def members(path: Path) -> dict[str, bytes]:
    """Name → content of the files in a wheel or a source package."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    found = {}
    with tarfile.open(path) as source:
        for member in source:
            if member.isdir():
                continue
            content = source.extractfile(member)
            if content is None:
                raise SystemExit(f"{path.name}: {member.name} is neither a file nor a folder")
            found[member.name.partition("/")[2]] = content.read()
    return found


def tracked(folder: Path) -> dict[str, bytes]:
    """Name → content of the files below a folder that belong to the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def faults_of_wheel(wheel: dict[str, bytes], ours: dict[str, bytes], module: str) -> list[str]:
    """What is wrong with a wheel, given the files of its package in the repository."""
    faults = []
    expected = {name[4:]: content for name, content in ours.items() if name.startswith("src/")}
    packed = {name: content for name, content in wheel.items() if ".dist-info/" not in name}
    for name in sorted(expected.keys() | packed.keys()):
        if name not in expected:
            faults.append(f"wheel: {name} is not ours")
        elif name not in packed:
            faults.append(f"wheel: {name} is missing")
        elif packed[name] != expected[name]:
            faults.append(f"wheel: {name} is not that of the repository")
    if f"{module}/py.typed" not in wheel:
        faults.append("wheel: no py.typed")
    licences = [name for name in wheel if name.endswith(".dist-info/licenses/LICENSE")]
    if [wheel[name] for name in licences] != [(ROOT / "LICENSE").read_bytes()]:
        faults.append("wheel: no LICENSE, or not that of the repository")
    return faults


def faults_of_source(source: dict[str, bytes], ours: dict[str, bytes]) -> list[str]:
    """What is wrong with a source package: it holds its package's files and no others."""
    source = {name: content for name, content in source.items() if name not in WRITTEN_BY_THE_BUILD}
    return [
        f"sdist: {name} is not that of the repository, or only in one of them"
        for name in sorted(source.keys() | ours.keys())
        if source.get(name) != ours.get(name)
    ]


def faults_of_metadata(text: bytes, project: dict[str, object], readme: str) -> list[str]:
    """What is wrong with the metadata; raises where they are no valid metadata at all."""
    meta = Metadata.from_email(text)  # raises for fields that are unknown or invalid
    faults = []
    least = re.sub(r"[^\d.]", "", str(project["requires-python"]))
    named = {item.rpartition(":: ")[2] for item in meta.classifiers or []}
    if least not in named or not all(
        SpecifierSet(str(meta.requires_python)).contains(one)
        for one in named
        if re.fullmatch(r"\d\.\d+", one)
    ):
        faults.append(f"metadata: classifiers and requires-python {meta.requires_python} disagree")
    if (str(meta.name), str(meta.version)) != (project["name"], project["version"]):
        faults.append(f"metadata: {meta.name} {meta.version} is another name or version")
    if meta.license_expression != "MIT" or meta.license_files != ["LICENSE"]:
        faults.append("metadata: not MIT with LICENSE")
    if meta.description_content_type != "text/markdown" or (meta.description or "") != readme:
        faults.append("metadata: the description is not the README, as Markdown")
    links = re.findall(r"\]\(([^)]+)\)", meta.description or "")
    relative = [link for link in links if "://" not in link]
    faults += [
        f"metadata: {link} in the description leads nowhere on an index" for link in relative
    ]
    for label, url in (meta.project_urls or {}).items():
        try:
            urllib.request.urlopen(url, timeout=20).close()
        except (OSError, ValueError) as error:
            faults.append(f"metadata: {label} {url}: {error}")
    return faults


def faults_of_package(name: str, folder: Path, dist: Path, tree: Path) -> tuple[list[str], str]:
    """What is wrong with a package's archives, and their sizes in words."""
    module = name.replace("-", "_")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"{module}-{project['version']}"
    wheel, source = dist / f"{stem}-py3-none-any.whl", dist / f"{stem}.tar.gz"
    (from_tree,) = tree.glob(f"{module}-*.whl")
    packed, ours = members(wheel), tracked(folder)
    faults = faults_of_wheel(packed, ours, module) + faults_of_source(members(source), ours)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    faults += faults_of_metadata(packed[f"{stem}.dist-info/METADATA"], project, readme)
    if members(from_tree) != packed:
        faults.append("the wheel from the source package is not the one from the checkout")
    sizes = [f"{path.stat().st_size / 1000:.0f} kB" for path in (wheel, source)]
    return faults, f"wheel {sizes[0]} of {len(packed)} files, sdist {sizes[1]}"


def main(dist: Path, tree: Path) -> int:
    """Print a line for each package and one for each fault; the exit status."""
    folders = sorted((ROOT / "packages").iterdir())
    wrong = 0
    for folder in folders:
        faults, sizes = faults_of_package(folder.name, folder, dist, tree)
        print(f"{folder.name:<10} {'ok' if not faults else 'WRONG':<6} {sizes}")
        for fault in faults:
            print(f"  {fault}")
        wrong += len(faults)
    others = len(list(dist.iterdir())) - 2 * len(folders)
    if others:
        print(f"{dist} holds {others} more files than two for each package")
    return 1 if wrong or others else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
