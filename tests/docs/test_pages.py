"""Every command, snippet and file of the documentation, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_lines import ROOT
from .page import Page

README = ROOT / "README.md"
NAMED = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "ARCHITECTURE.md"))]
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
    page = Page(tmp_path / "page", monkeypatch)
    if path == README:
        make_quicker(page.folder / "examples" / "minis")
    page.run(path)


def make_quicker(minis: Path) -> None:
    """Let the miniature's experts learn a quarter of the topics in a quarter of the steps.

    The README shows nothing of what they answer, only the commands.
    """
    script, topics = minis / "make_experts.py", minis / "topics.toml"
    text = script.read_text(encoding="utf-8")
    assert "STEPS = (220, 120)" in text
    script.write_text(text.replace("STEPS = (220, 120)", "STEPS = (60, 28)"), encoding="utf-8")
    parts = topics.read_text(encoding="utf-8").split("[[topic]]")
    assert len(parts) > 20
    topics.write_text("[[topic]]".join(parts[:6]), encoding="utf-8")


@pytest.mark.scheduled
def test_the_readme_with_experts_that_are_fully_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Page(tmp_path / "page", monkeypatch).run(README)


@pytest.mark.parametrize("path", LONG, ids=name_of)
def test_what_a_long_page_shows_is_understood(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Page(tmp_path / "page", monkeypatch, tried=False).run(path) > 5


def test_the_readme_shows_commands_python_and_their_output() -> None:
    text = README.read_text(encoding="utf-8")
    for language in ("console", "python", "text"):
        assert f"```{language}\n" in text
