"""What the site is made of: the reference is whole, links and names lead somewhere."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath

import griffe
import pytest

from .command_lines import ROOT

sys.path.insert(0, str(ROOT / "docs" / "building"))  # as its scripts see one another

import assemble
import command_pages
import portfolio_page
import reference
import task_page
from mathematics import as_mathml
from our_docstrings import OurDocstrings

sys.path.remove(str(ROOT / "docs" / "building"))


def visited(code: str) -> griffe.Module:
    return griffe.visit("module", filepath=ROOT / "module.py", code=code)


def test_every_public_name_is_documented_and_has_an_entry() -> None:
    pages = reference.package_pages()
    for name, package in reference.packages().items():
        for exported in package.exports or ():
            if str(exported) != "__version__":
                assert f"::: {name}.{exported}\n" in pages[f"reference/{name}.md"]


def test_every_module_that_lists_its_names_is_public() -> None:
    listing = set()
    for file in ROOT.glob("packages/*/src/**/*.py"):
        parts = file.relative_to(ROOT / "packages").with_suffix("").parts[2:]
        module = ".".join(part for part in parts if part != "__init__")
        if "\n__all__ = " in file.read_text(encoding="utf-8") and "." in module:
            listing.add(module)
    public = {f"{name}.{inner}" for name, all_ in reference.MODULES.items() for inner in all_}
    # what palm_trl exports of it is all of it
    assert listing - public <= {"palm_trl.measuring"}


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ('def f():\n    """Do."""\n', []),
        ("def f(): ...\n", ["m.f"]),
        ('class f:\n    """A."""\n    def g(self): ...\n', ["m.f.g"]),
        ('class f:\n    """A."""\n    @property\n    def g(self): ...\n', ["m.f.g"]),
        ('class f:\n    """A."""\n    def _g(self): ...\n    def __len__(self): ...\n', []),
        ("f = 1\n", ["m.f"]),
    ],
)
def test_what_is_public_and_undocumented_is_found(code: str, missing: list[str]) -> None:
    assert list(reference.undocumented(visited(code)["f"], "m.f")) == missing


def test_every_parameter_of_a_public_function_that_describes_some_is_described() -> None:
    missing = []
    for path in sorted(reference.all_public_names()):
        package, _, rest = path.partition(".")
        found = reference.packages()[package][rest]
        told = task_page.described_in(found.docstring.value)
        if not found.is_function or not told:
            continue
        names = {one.name.lstrip("*") for one in found.parameters} - {"self", "cls"}
        missing += [f"{path}: {name}" for name in sorted(names - {t.lstrip("*") for t in told})]
    assert missing == []


def test_names_are_found_or_not() -> None:
    assert reference.exists("palm_core.gaps")
    assert reference.exists("palm_core.Portfolio.route")
    assert reference.exists("palm_eval.rewards.classifiers")
    assert not reference.exists("palm_core.gasp")
    assert not reference.exists("palm_core.Portfolio.rout")


@pytest.fixture
def site(tmp_path, monkeypatch: pytest.MonkeyPatch) -> assemble.Site:
    monkeypatch.setattr(assemble, "TARGET", tmp_path)
    return assemble.Site()


@pytest.mark.parametrize(
    ("source", "place", "link", "to"),
    [
        ("README.md", "index.md", "docs/guides/runs.md#many", "guides/runs.md#many"),
        ("README.md", "index.md", "examples/quickstart", "files/examples/quickstart/index.md"),
        ("docs/guides/a.md", "guides/a.md", "../../README.md", "../index.md"),
        ("docs/guides/a.md", "guides/a.md", "../../CHANGELOG.md", "../changelog.md"),
        ("docs/guides/a.md", "guides/a.md", "../paper", "../paper/README.md"),
        ("docs/guides/a.md", "guides/a.md", "../../noxfile.py", "../files/noxfile.py.md"),
        ("docs/guides/a.md", "guides/a.md", "../made/select.svg", "../made/select.svg"),
        ("docs/guides/a.md", "guides/a.md", "#here", "#here"),
        ("docs/guides/a.md", "guides/a.md", "https://a.org/b", "https://a.org/b"),
        ("docs/guides/a.md", "guides/a.md", "../../nothing.py", "../../nothing.py"),
        ("docs/guides/a.md", "guides/a.md", "../../../elsewhere.py", "../../../elsewhere.py"),
    ],
)
def test_links_are_turned_to_where_their_target_went(
    site: assemble.Site, source: str, place: str, link: str, to: str
) -> None:
    assert site.target(link, PurePosixPath(source), PurePosixPath(place)) == to


def test_pages_keep_their_code_and_their_words(site: assemble.Site, tmp_path) -> None:
    text = (
        "A [guide](docs/guides/runs.md), `[no](link.md)`, `palm_core.gaps` and "
        "[`palm_core.prune`](docs/glossary.md), `palm_core.gasp`, for $5 or $w_i$.\n\n"
        "```console\npalm plan $HOME/a.toml > [x](y)  # $w$\n```\n\n$$\n\\sum_i w_i\n$$\n"
    )
    site.page(text, PurePosixPath("README.md"), "index.md")
    made = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert "[guide](guides/runs.md), `[no](link.md)`, [`palm_core.gaps`][palm_core.gaps] " in made
    assert "[`palm_core.prune`](glossary.md)" in made
    assert "```bash\npalm plan $HOME/a.toml > [x](y)  # $w$\n```" in made
    assert "for $5 or <span" in made
    assert made.count("<math") == 2
    assert site.unknown == ["index.md: there is no palm_core.gasp"]


def test_formulas_are_left_alone_by_markdown() -> None:
    made = as_mathml(r"a_i * b_i * [c]", display=False)
    assert not set("*_[]`") & set(made)
    assert "<msub><mi>a</mi><mi>i</mi></msub>" in made


def test_docstrings_as_mkdocstrings_reads_them() -> None:
    code = (
        "def f(a, b): ...\n"
        "def g(x, y):\n"
        '    """As :func:`~module.f` and :class:`K` do.\n\n'
        "    Args:\n        x, y: numbers,\n            two.\n\n"
        '    Example:\n        >>> 1\n        1\n    """\n'
    )
    ours = griffe.load_extensions(OurDocstrings)
    with griffe.temporary_visited_package("module", {"__init__.py": code}, extensions=ours) as made:
        text = made["g"].docstring.value
    assert '<autoref identifier="module.f" optional><code>f</code></autoref>' in text
    assert '<autoref identifier="K" optional><code>K</code></autoref>' in text
    assert "x: numbers,\n        two.\n    y: numbers,\n        two." in text
    assert "Examples:\n    >>> 1" in text


def test_the_pages_of_commands_tasks_and_portfolios_are_whole() -> None:
    commands, tasks = command_pages.command_line_page(), task_page.task_page()
    for name in ("select", "build", "evaluate", "report", "export"):
        assert f"## palm {name}\n" in commands
    for row in ("| `target_epsilon` |", "| `num_gpus` | `0.0` |", "| `sizes` |", "| `lora` |"):
        assert row in tasks
    assert "## Policy\n" in portfolio_page.portfolio_page()
    assert ":func:" not in tasks
