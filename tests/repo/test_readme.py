"""The README's commands and snippets, run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", made / "examples")
    return made


def test_every_palm_command_works_in_order_and_prints_what_is_shown(folder: Path) -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    ours = [line for line in lines if line.startswith(("palm ", "python examples/"))]
    assert len(ours) >= 8
    printed = ""
    environment = {**os.environ, "COLUMNS": "100"}
    environment.pop("PYTHONPATH", None)
    for line in ours:
        words = shlex.split(line)
        words = [sys.executable, *([] if words[0] == "python" else ["-m", "palm_core"]), *words[1:]]
        result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{line}:\n{result.stdout}{result.stderr}"
        printed += result.stdout
    shown = blocks("text")
    assert shown
    # Sentences, not figures: of several smallest portfolios, which one is found may
    # depend on the solver's version.
    known = {sentence(line) for line in printed.splitlines()}
    for line in "\n".join(shown).splitlines():
        assert line.startswith("  ") or sentence(line) in known, f"not printed any more: {line}"


def sentence(line: str) -> str:
    return re.sub(r"[a-z]+ = #(, )?", "", re.sub(r"\d[\d.]*", "#", " ".join(line.split())))


def test_every_python_snippet_runs(folder: Path) -> None:
    code = "\n".join(blocks("python"))
    assert "build_portfolio" in code
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    for link in links:
        if "://" not in link:
            assert (ROOT / link).exists(), link
