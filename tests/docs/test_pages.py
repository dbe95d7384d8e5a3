"""Every command, snippet and file of the documentation, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_lines import ROOT
from .page import Page

NAMED = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
PAGES = [page for page in [*NAMED, *sorted(ROOT.glob("docs/**/*.md"))] if page.exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_the_page(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Page(tmp_path / "page", monkeypatch).run(path)


def test_the_readme_shows_commands_python_and_their_output() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for language in ("console", "python", "text"):
        assert f"```{language}\n" in text
