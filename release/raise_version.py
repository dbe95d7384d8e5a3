"""Raise the version of all four packages, wherever it is written: ``nox -s raise-version``.

    python release/raise_version.py 0.2.0

tests/repo/test_versions.py tells whether a place was forgotten.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

#: Where a version stands: files, and what is before and behind it on its line.
PLACES = (
    ("packages/*/pyproject.toml", r'(?m)^(version = ")', r'(")$'),
    ("packages/*/src/*/__init__.py", r'(?m)^(__version__ = ")', r'(")$'),
    ("CITATION.cff", r"(?m)^(version: )", r"()$"),
)
SIBLINGS = r'(?m)^(.*"palm-\w+(?:\[[\w,]+\])?==)', r'(",?)$'


def raise_version(root: Path, new: str) -> str:
    """Write the new version everywhere below ``root``; return the old one."""
    first = root / "packages" / "palm-core" / "pyproject.toml"
    old = tomllib.loads(first.read_text(encoding="utf-8"))["project"]["version"]
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", new) or new == old:
        raise SystemExit(f"{new!r}: must be a version such as 1.2.0 or 1.2.0rc1, and not {old}")
    for pattern, before, behind in PLACES:
        for file in sorted(root.glob(pattern)):
            text, count = _put(file.read_text(encoding="utf-8"), old, new, before, behind)
            if count != 1:
                raise SystemExit(f"{file}: version {old} stands there {count} times, must be once")
            file.write_text(_put(text, old, new, *SIBLINGS)[0], encoding="utf-8")
    changes = root / "CHANGELOG.md"
    text = changes.read_text(encoding="utf-8")
    heading = f"## {new} (unreleased)\n\n## "
    changes.write_text(text.replace("## ", heading, 1), encoding="utf-8")
    return str(old)


def _put(text: str, old: str, new: str, before: str, behind: str) -> tuple[str, int]:
    return re.subn(before + re.escape(old) + behind, rf"\g<1>{new}\g<2>", text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python release/raise_version.py VERSION")
    was = raise_version(Path(__file__).parents[1], sys.argv[1])
    print(f"{was} → {sys.argv[1]}; CHANGELOG.md has a heading to write under")
