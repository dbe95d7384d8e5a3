"""Put together what the site is built from, in ``build/docs``: plain Markdown and pictures.

The pages of ``docs/`` keep their places. The README is the home page, the other pages of the
repository's root come beside it, and a file of the repository that a page links to gets a page
that shows it. Links are relative in the repository, as its readers need them; here they are
turned to where their target went.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

from command_pages import command_line_page
from mathematics import as_mathml
from portfolio_page import portfolio_page
from reference import all_public_names, exists, package_pages
from task_page import task_page

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "build" / "docs"
HOME = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
}
PICTURES = {".svg", ".png", ".css"}
LANGUAGES = {".toml": "toml", ".py": "python", ".json": "json", ".jsonl": "json", ".cff": "yaml"}
_LARGEST = 200_000
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
_NAME = re.compile(r"`(palm_(?:core|eval|mod|trl)(?:\.\w+)+)(?:\(\))?`")
# Code is left as it is; then links, in Markdown and in HTML, and mathematics.
_PARTS = re.compile(
    r"(?P<code>^ *```.*?^ *```[^\n]*$|`+[^`\n]+`+)"
    r"|(?P<link>\]\(|^\[[^\]\n]+\]:\s+|\b(?:href|src|srcset)=\")(?P<to>[^)\s\"]+)"
    r"|\$\$(?P<display>[^$]+)\$\$"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\d\w])",
    re.MULTILINE | re.DOTALL,
)


class Site:
    """Writes pages, and remembers which files of the repository have to be shown."""

    def __init__(self) -> None:
        TARGET.mkdir(parents=True, exist_ok=True)
        for old in TARGET.iterdir():
            if old.is_file():
                old.unlink()
            elif old.name != "made":  # its pictures take minutes
                shutil.rmtree(old)
        self.shown: set[str] = set()
        self.names = all_public_names()
        self.unknown: list[str] = []

    def build(self) -> None:
        """Write everything."""
        for name, place in HOME.items():
            if not (ROOT / name).exists():
                continue
            self.page((ROOT / name).read_text(encoding="utf-8"), PurePosixPath(name), place)
        for file in sorted((ROOT / "docs").rglob("*")):
            inside = file.relative_to(ROOT / "docs")
            if not file.is_file() or inside.parts[0] == "building":
                continue
            if file.suffix == ".md":
                source = PurePosixPath("docs", inside.as_posix())
                self.page(file.read_text(encoding="utf-8"), source, inside.as_posix())
            elif file.suffix in PICTURES:
                self.copy(file, inside)
        generated = {
            **package_pages(),
            "reference/command-line.md": command_line_page(),
            "reference/task-file.md": task_page(),
            "reference/portfolio-file.md": portfolio_page(),
        }
        for place, text in generated.items():
            self.page(text, PurePosixPath("docs", place), place)
        done: set[str] = set()
        while waiting := sorted(self.shown - done):
            for name in waiting:
                self.show(name)
            done.update(waiting)
        if self.unknown:
            raise SystemExit("\n".join(self.unknown))

    def copy(self, file: Path, inside: Path) -> None:
        """Copy a picture."""
        (TARGET / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, TARGET / inside)

    def page(self, text: str, source: PurePosixPath, place: str) -> None:
        """Write a page of the repository to its place in the site."""

        def replace(found: re.Match[str]) -> str:
            if found["code"]:
                return self.code(found[0], text[: found.start()], place)
            if found["link"]:
                return found["link"] + self.target(found["to"], source, PurePosixPath(place))
            if found["display"]:
                return as_mathml(found["display"], display=True)
            return as_mathml(found["inline"], display=False)

        file = TARGET / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PARTS.sub(replace, text), encoding="utf-8")

    def code(self, code: str, before: str, place: str) -> str:
        """Code as it is, but a public name as a link to its reference."""
        if code.lstrip().startswith("```console"):  # without prompts, it is what a shell reads
            return code.replace("```console", "```bash", 1)
        name = _NAME.fullmatch(code)
        if name is None or place.startswith(("files/", "reference/palm_", "changelog")):
            return code
        if not exists(name[1]):
            self.unknown.append(f"{place}: there is no {name[1]}")
        linked = name[1] in self.names and not before.endswith("[")
        return f"[{code}][{name[1]}]" if linked else code

    def target(self, link: str, source: PurePosixPath, place: PurePosixPath) -> str:
        """Where a link of the page ``source`` leads from ``place``, its page in the site."""
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", link):
            return link
        name = os.path.normpath(source.parent / path).replace(os.sep, "/")
        to = self.place_of(name)
        return link if to is None else os.path.relpath(to, place.parent) + mark + anchor

    def place_of(self, name: str) -> str | None:
        """Where in the site a file or folder of the repository is; ``None`` for no such file."""
        file = ROOT / name
        if name in HOME:
            return HOME[name] if file.exists() else None
        for index in ("README.md", "index.md"):
            if (file / index).exists():
                return self.place_of(f"{name}/{index}")
        page = name.startswith("docs/") and file.suffix in {*PICTURES, ".md"}
        if page or name.startswith(("docs/made/", "docs/reference/")):
            return name.removeprefix("docs/")
        if not file.exists() or name.startswith(".."):
            return None
        self.shown.add(name)
        return f"files/{name}/index.md" if file.is_dir() else f"files/{name}.md"

    def show(self, name: str) -> None:
        """Write the page of a file or folder that is no page itself."""
        file = ROOT / name
        if file.is_dir():
            rows = [f"# `{name}/`\n"]
            for inner in sorted(file.iterdir()):
                slash = "/" * inner.is_dir()
                if not inner.name.startswith((".", "__")) and inner.name != "made":
                    rows += [f"- [`{inner.name}{slash}`]({inner.name})"]
            self.page("\n".join(rows), PurePosixPath(name, "index.md"), f"files/{name}/index.md")
            return
        text = file.read_text(encoding="utf-8")
        assert len(text) < _LARGEST, f"{name} is linked to, and too large to show"
        language = LANGUAGES.get(file.suffix, "text")
        # the search is for what is written about a name, not for every use of it
        body = f"{_UNSEARCHED}# `{name}`\n\n````{language}\n{text}\n````\n"
        place = TARGET / "files" / f"{name}.md"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(body, encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    Site().build()
