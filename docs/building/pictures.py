"""Make the pictures of the site, of real commands: terminals, figures and the report's page.

They are written to ``build/docs/made``, for pages to refer to as ``made/select.svg``, and are
never committed: what a page shows is what the commands print today.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
from browsing import browser
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 100, 80
_COLOURS = (
    (26, 26, 26),
    (178, 40, 40),
    (10, 110, 60),
    (140, 95, 0),
    (11, 83, 148),
    (120, 40, 120),
    (0, 105, 120),
    (91, 91, 88),
)
_THEME = TerminalTheme((253, 253, 252), (26, 26, 26), [*_COLOURS], [*_COLOURS])
_NAMES = {"brown": "yellow"}  # as pyte calls it
QUICKSTART = "examples/quickstart/task.toml"
#: Picture → the command that it shows; those before it have made what it needs.
TERMINALS = {
    "help": "palm --help",
    "select": "palm select models.csv --maximize helpful safe --minimize cost --epsilon 0.05",
    "plan": f"palm plan {QUICKSTART}",
    "build": f"palm build {QUICKSTART} --out runs/quickstart",
    "status": "palm status runs/quickstart",
    "prune": "palm prune runs/quickstart --curve --most 5",
    "route": "palm route runs/quickstart --weights helpful=0.7,brief=0.2,safe=0.1",
}


class Terminal:
    """A terminal in which commands run, and which is drawn.

    Args:
        folder: where they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        binaries = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "COLUMNS": str(WIDTH),
            "LINES": str(HEIGHT),
        }
        self.environment.pop("NO_COLOR", None)

    def run(self, command: str, until: Callable[[str], bool] | None = None) -> pyte.Screen:
        """The screen after a command, or as it first was as ``until`` wants it.

        Raises:
            RuntimeError: the command failed, or the screen never was so.
        """
        screen = pyte.Screen(WIDTH, HEIGHT)
        screen.set_mode(pyte.modes.LNM)
        stream = pyte.ByteStream(screen)
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        found = None
        while chunk := _read(ours):
            stream.feed(chunk)
            if until and found is None and until("\n".join(screen.display)):
                found = self._copy(screen)
        os.close(ours)
        if process.wait() != 0 or (until and found is None):
            said = "\n".join(screen.display).strip()
            raise RuntimeError(f"{command}: exit code {process.returncode}\n{said}")
        return found or screen

    @staticmethod
    def _copy(screen: pyte.Screen) -> pyte.Screen:
        copy = pyte.Screen(WIDTH, HEIGHT)
        for y, row in screen.buffer.items():
            copy.buffer[y].update(row)
        return copy

    def picture(self, command: str, screen: pyte.Screen, file: Path) -> None:
        """Draw a screen below the command that led to it."""
        lines = [Text(f"$ {command}", style=Style(bold=True)), *map(_line, _rows(screen))]
        while not lines[-1].plain.strip():
            lines.pop()
        console = Console(record=True, width=WIDTH, file=io.StringIO())
        for line in lines:
            console.print(line, no_wrap=True, crop=True, soft_wrap=True)
        drawn = console.export_svg(title="", theme=_THEME)
        # rich's own picture takes its font from another host
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        drawn = drawn.replace("Fira Code", "ui-monospace").replace("arial", "sans-serif")
        assert "url(http" not in drawn
        name = f"<title>{_escaped(f'{command}, in a terminal')}</title>"
        file.write_text(re.sub(r"(<svg[^>]*>)", rf"\1{name}", drawn, count=1), encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so where the other end is closed
        return b""


def _rows(screen: pyte.Screen) -> list[list[pyte.screens.Char]]:
    return [[screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)]


def _line(row: list[pyte.screens.Char]) -> Text:
    line = Text()
    for cell in row:
        line.append(cell.data, Style(color=_colour(cell.fg), bold=cell.bold, italic=cell.italics))
    line.rstrip()
    return line


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    bare = name.removeprefix("bright")
    return f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else _NAMES.get(bare, bare)


def half_done(shown: str) -> bool:
    """Whether a progress bar has come half the way."""
    counts = re.search(r"(\d+)/(\d+)", shown)
    return counts is not None and 2 * int(counts[1]) >= int(counts[2])


def make(target: Path) -> None:
    """Make all pictures."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copytree(ROOT / "examples", folder / "examples")
        terminal = Terminal(folder)
        terminal.run("python examples/quickstart/make_models.py models.csv")
        at_work = f"palm build {QUICKSTART} --out runs/watched"
        bar = terminal.run(at_work, until=half_done)
        terminal.picture(at_work, bar, target / "build-progress.svg")
        for name, command in TERMINALS.items():
            terminal.picture(command, terminal.run(command), target / f"{name}.svg")
        task = "examples/reranking/task.toml"
        terminal.run(f"palm build {task} --out runs/reranking")
        terminal.run(f"palm report runs/reranking --task {task} --out report.html")
        terminal.run("palm figures runs/quickstart --out figures")
        shutil.copytree(folder / "figures", target / "figures")
        with browser() as chromium:
            for name, scheme in (("report", "light"), ("report-dark", "dark")):
                page = chromium.new_page(
                    viewport={"width": 1100, "height": 1000},
                    color_scheme=scheme,
                    device_scale_factor=1.5,
                )
                page.goto((folder / "report.html").as_uri())
                page.screenshot(path=target / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "build" / "docs" / "made")
    make(parser.parse_args().target)
