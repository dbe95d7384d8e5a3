"""A page, tried as its reader would: every block in order, in a folder with the examples.

What a block is, its language says; CONTRIBUTING.md has the list.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sybil import Document, Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import pad
from sybil.parsers.abstract.doctest import DocTestStringParser

from .command_lines import (
    ELSEWHERE,
    ROOT,
    check_elsewhere,
    check_not_run,
    lines,
    own_package,
)
from .fences import Block, parser
from .fragments import check_csv, check_json, check_jsonl, check_toml

if TYPE_CHECKING:
    import pytest
    from sybil import Example

# For one command: a machine may be busy.
SECONDS = 900
_DRAWN = {"", "text", "mermaid", "bibtex", "latex"}
# Ends of names that are made of what was answered, and so of the last digits of a model.
_DIGEST = re.compile(r"\b[0-9a-f]{16,}\b")
_NUMBER = re.compile(r"(?<![\w#])[-+−]?\d[\d.]*(e[-+]?\d+)?|\d[\d.]*")


class Page:
    """Evaluates the blocks of one page.

    Args:
        folder: where they run; it gets a copy of the examples.
        monkeypatch: of the test, for the working folder and the import path.
        tried: whether commands and Python run; else they are checked as far as that goes
            without, and what they print is not compared.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, tried: bool = True
    ) -> None:
        self.folder = folder
        self.tried = tried
        self.monkeypatch = monkeypatch
        self.printed = ""
        self.oracle = ""
        shutil.copytree(ROOT / "examples", folder / "examples")
        monkeypatch.chdir(folder)
        self.installed = folder / ".installed"
        monkeypatch.setattr(sys, "path", [str(folder), str(self.installed), *sys.path])
        binaries = str(Path(sys.executable).parent)
        self.environment = {
            # Refused by pip where it builds without an environment of its own, as here.
            **{name: x for name, x in os.environ.items() if name != "PIP_BUILD_CONSTRAINT"},
            "COLUMNS": "100",
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(self.installed), os.environ.get("PYTHONPATH")])
            ),
            # of all pages: to list the fonts takes seconds
            "MPLCONFIGDIR": str(folder.parents[1] / "matplotlib"),
        }

    def run(self, path: Path) -> int:
        """Evaluate every block of the page; how many there are.

        Raises:
            AssertionError, or what a block raised: with the page and the block's line.
        """
        document = Sybil(parsers=[parser(self.evaluate)], path=str(path.parent)).parse(path)
        # A module, so that what the page defines can be pickled as a reader's could.
        module = ModuleType("a_page")
        document.namespace = vars(module)
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        before = set(sys.modules)
        count = 0
        try:
            for count, example in enumerate(document, 1):  # noqa: B007  told after an error, too
                try:
                    example.evaluate()
                except Exception as error:
                    error.add_note(f"{path.relative_to(path.anchor)}:{example.line}")
                    raise
        finally:
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.startswith(str(self.folder)):
                    del sys.modules[name]
        return count

    def evaluate(self, example: Example) -> None:
        """Do with a block what its language says."""
        block: Block = example.parsed
        if block.language == "text" and block.output:
            if self.tried:
                self.compare(block.code)
        elif block.title:
            self.write(block)
        elif block.language == "console":
            self.printed = ""
            for command, code in lines(block.code):
                self.command(command, code)
        elif block.language == "python":
            self.python(example)
        elif block.language == "sh":
            assert block.not_run, "sh is not run: say why, <!-- not run: … -->, or make it console"
            for command, _ in lines(block.code):
                if ELSEWHERE.match(command):
                    check_elsewhere(command)
                else:
                    check_not_run(command, self.folder)
        elif block.language == "toml":
            self.oracle = check_toml(block.code, self.oracle, self.folder)
        elif block.language in _DATA:
            _DATA[block.language](block.code)
        else:
            known = ("console", "python", "sh", "toml", *_DATA, *_DRAWN)
            assert block.language in _DRAWN, f"```{block.language}: must be one of {known}"

    def command(self, command: str, code: int) -> None:
        """Run one command line, or check it where it would change the reader's machine."""
        if not self.tried and not ELSEWHERE.match(command):
            check_not_run(command, self.folder)
            return
        if own := own_package(command, self.folder):
            # Where only this page finds it, with what the tests have to build it.
            command = (
                f"python -m pip install --quiet --no-deps --no-build-isolation "
                f"--target {self.installed} ./{own}"
            )
        elif ELSEWHERE.match(command):
            check_elsewhere(command)
            return
        assert not re.match(r"\s*cd\b", command), "cd does not last: each line starts in the folder"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        self.printed += result.stdout
        assert result.returncode == code, (
            f"{command}\nexit code {result.returncode}, not {code}:\n{result.stdout}"
        )

    def python(self, example: Example) -> None:
        """Run a block in the page's namespace; what it prints is kept."""
        block: Block = example.parsed
        if not self.tried:
            if ">>>" not in block.code:
                compile(block.code, example.path, "exec")
            return
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if ">>>" in block.code:
                within = Document(block.code, example.path)
                within.namespace = example.namespace
                for region in DocTestStringParser(DocTestEvaluator())(block.code, example.path):
                    within.add(region)
                for one in within:
                    one.evaluate()
            else:
                code = compile(pad(block.code, example.line), example.path, "exec")
                exec(code, example.namespace)
        self.printed = said.getvalue()

    def write(self, block: Block) -> None:
        """Write a block with a title to the file of that name."""
        file = self.folder / block.title
        assert file.resolve().is_relative_to(self.folder), f"{block.title} is not in the folder"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code, encoding="utf-8")
        if block.language == "python":
            ast.parse(block.code)
        elif block.language == "toml":
            self.oracle = check_toml(block.code, self.oracle, self.folder)
        elif block.language in ("sh", "bash"):
            for command, _ in lines(block.code):
                check_not_run(command, self.folder)
        elif block.language in _DATA:
            _DATA[block.language](block.code)

    def compare(self, shown: str) -> None:
        """Every line that a page shows is printed, but for its numbers and digests.

        Of several smallest portfolios, which one is found may depend on the solver's version;
        what trained models yield depends on the processor and on PyTorch's version, too.
        """
        known = {sentence(line) for line in self.printed.splitlines()}
        wanted = [line for line in shown.splitlines() if line.strip() not in ("", "…", "...")]
        assert wanted, "there is nothing to compare with what was printed"
        for line in wanted:
            assert sentence(line) in known, (
                f"not printed any more: {line}\nprinted:\n{self.printed}"
            )


def sentence(line: str) -> str:
    """A line without its figures: numbers and digests are #, lists of ``name = #`` are dropped."""
    bare = _NUMBER.sub("#", _DIGEST.sub("0", " ".join(line.split())))
    return re.sub(r"[\w-]+ = #(, )?", "", bare).strip()


_DATA = {"json": check_json, "jsonl": check_jsonl, "csv": check_csv}
