"""Every command, snippet and file of the documentation, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_lines import ROOT
from .page import Page

NAMED = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
PAGES = [page for page in [*NAMED, *sorted(ROOT.glob("docs/**/*.md"))] if page.exists()]
# Pages whose blocks train models, or evaluate for minutes what the README evaluates.
LONG = [
    ROOT / "docs" / name
    for name in (
        "tutorials/multi-objective-decoding.md",
        "tutorials/grpo-on-your-data.md",
        "guides/evaluation.md",
    )
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.scheduled] * (p in LONG), id=name_of(p)) for p in PAGES],
)
def test_every_block_of_the_page(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Page(tmp_path / "page", monkeypatch).run(path)


@pytest.mark.parametrize("path", LONG, ids=name_of)
def test_what_a_long_page_shows_is_understood(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Page(tmp_path / "page", monkeypatch, tried=False).run(path) > 5


def test_the_readme_shows_commands_python_and_their_output() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for language in ("console", "python", "text"):
        assert f"```{language}\n" in text
