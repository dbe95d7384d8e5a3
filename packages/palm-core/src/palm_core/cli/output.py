"""How the command line speaks: results on standard output, the rest on standard error."""

from __future__ import annotations

import json
import math
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from palm_core.text import at_most, harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from palm_core.sizes import SizeGap


class Lines(Console):
    """A console that leaves it to the command line that its reader went away."""

    def on_broken_pipe(self) -> None:
        """Pass the error on; rich would end the program."""
        raise BrokenPipeError


def out() -> Console:
    """Return the console for results; plain text when it is not a terminal."""
    return Lines(highlight=False, soft_wrap=True, emoji=False)


def err() -> Console:
    """Return the console for progress, notes and errors."""
    return Lines(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str = "", *, style: str | None = None) -> None:
    """Print a line of the result; brackets are not markup, control characters do nothing."""
    out().print(harmless(text), style=style, markup=False)


def tell(text: str, *, indent: int = 0) -> None:
    """Print a sentence of the result; on a terminal it is broken between words, not within.

    In a file or a pipe it stays one line, as :func:`say` prints it: nothing to copy into a
    shell may be told like this.
    """
    console = out()
    room = console.width - indent if console.is_terminal else 10_000
    for line in Text(harmless(text)).wrap(console, max(room, 20)):
        say(" " * indent + line.plain.rstrip())


def note(text: str) -> None:
    """Print a remark to standard error."""
    err().print(harmless(text), style="dim", markup=False)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document; numbers JSON cannot write become null."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(document, enc_hook=_plain)).decode()
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = json.dumps(json.loads(text), indent=2)  # escapes what is not ASCII
    sys.stdout.write(f"{text}\n")


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as JSON's."""
    return value.tolist()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table: the first ``left`` columns to the left, numbers to the right.

    Long headers are broken at their underscores and spaces. On a terminal too narrow for all
    columns, numbers follow in further tables with the same first column, and the cells of a
    table of words (``left`` is all columns) are broken, the longest first: nothing is cut off.
    """
    cells = [[harmless(broken(name) if i else name) for i, name in enumerate(headers)]]
    cells += [[harmless(cell) for cell in row] for row in rows]
    console = Lines(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width to fit
    widths = [max(map(_width, column)) + _GAP for column in zip(*cells, strict=True)]
    room = console.width - _GAP  # which all tables are indented by
    blocks = [range(len(headers))] if left == len(headers) else _blocks(widths, room)
    for number, block in enumerate(blocks):
        if number:
            say()
        _print_columns(console, cells, block, left)


_GAP = 2
#: To so many cells a first column is broken before numbers are put into a table below.
_NARROWEST = 20


def _blocks(widths: Sequence[int], room: int) -> list[Sequence[int]]:
    """Columns that fit side by side, each time with the first one, which may be broken."""
    blocks: list[list[int]] = [[0]]
    left = room - min(widths[0], _NARROWEST)
    for index, width in enumerate(widths[1:], start=1):
        if sum(widths[i] for i in blocks[-1][1:]) + width > left and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(index)
    return list(blocks)


def _print_columns(
    console: Console, cells: Sequence[Sequence[str]], block: Sequence[int], left: int
) -> None:
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    grid.show_header = any(cells[0][index] for index in block)
    for index in block:
        grid.add_column(
            Text(cells[0][index]),
            justify="left" if index < left else "right",
            overflow="fold",
            no_wrap=index >= left,
        )
    for row in cells[1:]:
        grid.add_row(*(Text(row[index]) for index in block))
    console.print(Padding(grid, (0, 0, 0, _GAP), expand=False))


def _width(cell: str) -> int:
    return max(map(cell_len, cell.splitlines()), default=0)


def broken(name: str, width: int = 16) -> str:
    """Break a name after underscores, hyphens and spaces into lines of about ``width``."""
    lines = [""]
    for part in re.findall(r"[^_\s-]*[_\s-]?", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)


def percent(value: float | None, digits: int = 2, *, up: bool = False) -> str:
    """Write 0.0142 as "1.42 %"; "—" for nothing, "unbounded" where it is infinite.

    ``up`` rounds up, as a bound must be.
    """
    if value is None:
        return "—"
    if not math.isfinite(value):
        return "unbounded"
    exact = Decimal(repr(float(value))) * 100
    step = Decimal(1).scaleb(-digits)
    text = f"{exact.quantize(step, ROUND_CEILING if up else ROUND_HALF_EVEN)}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if float(text) == 0 and value > 0:
        return f"{100 * value:.1g} %"
    return f"{text} %"


def number(value: float, *, up: bool = False) -> str:
    """Write a number with four significant digits, whole ones without a point.

    ``up`` rounds up, as a bound must be.
    """
    if value == 0:
        return "0"
    if abs(value) >= 1000 and value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return at_most(value, digits=4) if up else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Write 5400 as "1 h 30 min"; the larger two units are enough."""
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    left, parts = max(0, round(seconds)), []
    for name, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def weights_text(weights: Sequence[float], objectives: Sequence[str]) -> str:
    """Name a weight vector: "helpful = 0.70, brief = 0.30"; for two, the first says all."""
    if len(objectives) == 2:
        return f"{objectives[0]} = {weights[0]:.2f}"
    named = zip(objectives, weights, strict=True)
    return ", ".join(f"{name} = {weight:.2f}" for name, weight in named if weight >= 0.005)


def show_curve(find: Callable[[], list[SizeGap]], what: str, *, json: bool) -> None:
    """Find and print the least gap of each size."""
    with waiting("looking for each size", None):
        points = find()
    if json:
        print_json({"curve": [asdict(point) for point in points]})
        return
    rows = [
        [
            str(point.size),
            percent(point.epsilon, up=True),
            number(point.delta, up=True),
            "proven" if point.proven else "not proven",
        ]
        for point in points
    ]
    table([what, "least exact ε", "its δ", ""], rows, left=0)
    if any(not point.proven for point in points):
        say()
        tell("Not proven: time was up (--time-limit); what is below it was not computed.")
    elif points and points[-1].epsilon > 0:
        say()
        say("Larger portfolios: --most N")


def example_weights(objectives: Sequence[str]) -> str:
    """Write a weighting to copy, one that adds to 1: "helpful=0.34,brief=0.33,safe=0.33"."""
    d = len(objectives)
    share = round(1 / d, 2) if d <= 20 else 0.0
    shares = [round(1 - (d - 1) * share, 2)] + [share] * (d - 1)
    return ",".join(f"{name}={value:g}" for name, value in zip(objectives, shares, strict=True))


@contextmanager
def waiting(what: str, seconds: float | None) -> Iterator[None]:
    """Say on standard error what takes so long, at most how long, and since when."""
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = err()
    with Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        limit = "" if seconds is None else f", at most about {seconds:g} s"
        bar.add_task(what + limit)
        yield
