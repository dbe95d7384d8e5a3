"""docs/paper-to-code.md names every numbered item of the paper, and only what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from palm_core.cli.app import make_app

ROOT = Path(__file__).parents[2]
_TESTED = (ast.FunctionDef, ast.ClassDef)
PAGES = ("docs/paper-to-code.md", "docs/glossary.md", "docs/explanation", "ARCHITECTURE.md")

# The paper itself is not part of the repository: these are its numbered items.
ITEMS = (
    *(f"Equation ({n})" for n in (1, 2, 3)),
    *(f"Definition {n}" for n in ("3.1", "3.2")),
    *(f"Footnote {n}" for n in (1, 2, 3)),
    "Algorithm 1",
    *(f"ConstructGrid, line {n}" for n in range(1, 8)),
    *(f"Prune, line {n}" for n in range(1, 5)),
    *("Lemma 3.3", "Lemma A.1", "Theorem 3.4", "Appendix A"),
    *(f"Table {n}" for n in range(1, 7)),
    *(f"Figure {n}" for n in range(1, 4)),
    *(f"Section B.{n}" for n in ("1", "2", "3", "4.1", "4.2", "5.1", "5.2")),
)


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """What stands in bold at the beginning of a row → the row's other cells."""
    found = re.findall(r"^\| \*\*(.+?)\*\* (.*) \|$", text, flags=re.MULTILINE)
    return {item: tuple(cell.strip() for cell in rest.split(" | ")) for item, rest in found}


def linked_tests(text: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """(what a link says, the file of tests that it leads to)."""
    for words, target in re.findall(r"\[([^]\n]+)\]\(([^)\s]+\.py)\)", text):
        file = (folder / target).resolve()
        if file.is_relative_to(ROOT / "tests"):
            yield words, file


def named(text: str) -> Iterator[str]:
    """What stands in code spans, code blocks left out."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def held(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Names that statements define, those under ``if`` too."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.If):
            found |= held(node.body)
    return found


def imported(body: list[ast.stmt]) -> dict[str, str]:
    """Name → "module.name" that ``from module import name`` brings in, under ``if`` too."""
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.If):
            found |= imported(node.body)
    return found


def exists(name: str) -> bool:
    """Whether the dotted ``name`` is a package, a module, or defined or imported in one."""
    parts = name.split(".")
    place = ROOT / "packages" / parts[0].replace("_", "-") / "src"
    for number, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
            continue
        if (place / f"{part}.py").is_file():
            file, rest = place / f"{part}.py", parts[number + 1 :]
        else:
            file, rest = place / "__init__.py", parts[number:]
        return file.is_file() and (not rest or _in_body(tree(file).body, rest))
    return True


def _in_body(body: list[ast.stmt], names: list[str]) -> bool:
    first, *rest = names
    if first in imported(body):
        return exists(".".join([imported(body)[first], *rest]))
    node = held(body).get(first)
    if node is None or not rest:
        return node is not None
    return isinstance(node, ast.ClassDef) and _in_body(node.body, rest)


def is_test(words: str, file: Path) -> bool:
    """Whether ``file`` is there and is what a link says, or holds it.

    That is its own name, or that of a class of tests, or of a test with spaces for "_".
    """
    if not file.is_file() or words == file.name:
        return file.is_file()
    names = {node.name for node in ast.walk(tree(file)) if isinstance(node, _TESTED)}
    return words in names or f"test_{words.replace(' ', '_')}" in names


@cache
def commands() -> frozenset[str]:
    """Those of ``palm`` with what is installed here, and those that our packages announce."""
    projects = [tomllib.loads(file.read_text()) for file in ROOT.glob("packages/*/pyproject.toml")]
    announced = (
        one["project"].get("entry-points", {}).get("palm.commands", {}) for one in projects
    )
    return frozenset(make_app()).union(*announced)


def is_command(words: str) -> bool:
    return words.split()[1] in commands()


def pages() -> list[Path]:
    found = [ROOT / name for name in PAGES]
    files = [file for at in found for file in (sorted(at.glob("*.md")) if at.is_dir() else [at])]
    return [file for file in files if file.is_file()]


INDEX = (ROOT / PAGES[0]).read_text(encoding="utf-8")


def test_every_item_of_the_paper_has_its_row() -> None:
    assert set(ITEMS) - rows(INDEX).keys() == set()


@pytest.mark.parametrize("item", rows(INDEX))
def test_a_row_says_what_computes_it_and_what_checks_it(item: str) -> None:
    _, computed, checked = rows(INDEX)[item]
    assert list(named(computed)) or "](" in computed
    assert checked == "the same" or list(linked_tests(checked, ROOT / "docs"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_everything_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for words, file in linked_tests(text, page.parent):
        assert is_test(words, file), f"[{words}]({file.relative_to(ROOT).as_posix()})"
    for name in named(text):
        if re.fullmatch(r"palm_(core|eval|mod|trl)(\.\w+)*", name):
            assert exists(name), name
        elif found := re.fullmatch(r"(palm_\w+)/[\w./]+", name):
            package = found[1].replace("_", "-")
            assert (ROOT / "packages" / package / "src" / name).exists(), name
        elif re.match(r"(examples|benchmarks|docs|tests|packages)/[\w./-]*$", name):
            assert (ROOT / name).exists(), name
        elif re.match(r"palm [a-z]", name):
            assert is_command(name), name


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    pictures = ROOT / "docs" / "pictures"
    script = str(pictures / "make_architecture.py")
    subprocess.run([sys.executable, script, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    drawn = (tmp_path / "way-of-the-data.svg").read_text(encoding="utf-8")
    assert drawn == (pictures / "way-of-the-data.svg").read_text(encoding="utf-8")


class TestTheChecksThemselves:
    @pytest.mark.parametrize(
        "name",
        [
            "palm_core",
            "palm_core.construct_grid",
            "palm_core.PolicySet.objective",
            "palm_core.weights.grid.construct_grid",
            "palm_core.run.ledger",
            "palm_eval.rewards.brevity",
            "palm_eval.figures.cells_figure",
        ],
    )
    def test_what_is_there_is_found(self, name: str) -> None:
        assert exists(name)

    @pytest.mark.parametrize(
        "name",
        [
            "palm_core.nothing",
            "palm_core.weights.grid.nothing",
            "palm_core.PolicySet.nothing",
            "palm_core.construct_grid.nothing",
            "palm_eval.rewards.nothing",
            "palm_none",
        ],
    )
    def test_what_is_not_is_not(self, name: str) -> None:
        assert not exists(name)

    def test_tests_and_commands(self) -> None:
        here = Path(__file__)
        assert is_test(here.name, here)
        assert is_test("TestTheChecksThemselves", here)
        assert is_test("tests and commands", here)
        assert not is_test("nothing", here)
        assert not is_test("test_nothing.py", here)
        assert not is_test("test_nothing.py", here.with_name("test_nothing.py"))
        assert is_command("palm build TASK")
        assert not is_command("palm nothing")
