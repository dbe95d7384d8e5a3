"""Output of the command line: results on standard output, the rest on standard error."""

from __future__ import annotations

import json
import math
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from palm_core.validation import harmless, number_text, percent_text, weights_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from palm_core.cover.minimal import SizeGap
    from palm_core.model.portfolio import Portfolio


class Lines(Console):
    """A console that leaves broken pipes to the command line."""

    def on_broken_pipe(self) -> None:
        """Re-raise the error; rich would exit."""
        raise BrokenPipeError


def out() -> Console:
    """Return the console for standard output; plain text when it is not a terminal."""
    return Lines(highlight=False, soft_wrap=True, emoji=False)


def err() -> Console:
    """Return the console for standard error: progress, notes, errors."""
    return Lines(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str = "", *, style: str | None = None) -> None:
    """Print a line of the result; markup is off, control characters are escaped."""
    out().print(harmless(text), style=style, markup=False)


def tell(text: str, *, indent: int = 0) -> None:
    """Print a sentence of the result, wrapped between words on a terminal.

    In a file or a pipe it stays one line, as with :func:`say`. Not for shell commands to copy.
    """
    console = out()
    room = console.width - indent if console.is_terminal else 10_000
    for line in Text(harmless(text)).wrap(console, max(room, 20)):
        say(" " * indent + line.plain.rstrip())


def note(text: str) -> None:
    """Print a remark to standard error."""
    err().print(harmless(text), style="dim", markup=False)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document; ∞ and NaN become null."""
    import msgspec

    # Arrays and their scalars have ``tolist``; NumPy itself is not imported for that.
    data = msgspec.json.encode(document, enc_hook=lambda value: value.tolist())
    text = msgspec.json.format(data).decode()
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = json.dumps(json.loads(text), indent=2)  # escapes non-ASCII characters
    sys.stdout.write(f"{text}\n")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table, the first ``left`` columns left-aligned, numbers right-aligned.

    Long headers are wrapped at underscores and spaces. On a terminal too narrow for all
    columns, numbers continue in further tables with the same first column, and the cells of
    a table of text (``left`` is all columns) are wrapped, the longest first: nothing is cut off.
    """
    cells = [[harmless(broken(name) if i else name) for i, name in enumerate(headers)]]
    cells += [[harmless(cell) for cell in row] for row in rows]
    console = Lines(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width to fit
    widths = [max(map(_width, column)) + _GAP for column in zip(*cells, strict=True)]
    room = console.width - _GAP  # the indent of all tables
    blocks = [range(len(headers))] if left == len(headers) else _blocks(widths, room)
    for place, block in enumerate(blocks):
        if place:
            say()
        _print_columns(console, cells, block, left)


_GAP = 2
#: Width to which a first column is wrapped before numbers go into a table below.
_NARROWEST = 20


def _blocks(widths: Sequence[int], room: int) -> list[Sequence[int]]:
    """Groups of columns that fit side by side, each with the first column, which may be wrapped."""
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


def duration(seconds: float) -> str:
    """Format 5400 as "1 h 30 min", with the two largest units."""
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    left, parts = max(0, round(seconds)), []
    for name, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def show_curve(find: Callable[[], list[SizeGap]], what: str, *, json: bool) -> None:
    """Compute and print the least gap of each size."""
    with waiting("looking for each size", None):
        points = find()
    if json:
        print_json({"curve": [asdict(point) for point in points]})
        return
    rows = [
        [
            str(point.size),
            percent_text(point.epsilon, up=True),
            number_text(point.delta, up=True),
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
    """Format example weights that add to 1: "helpful=0.34,brief=0.33,safe=0.33"."""
    d = len(objectives)
    share = round(1 / d, 2) if d <= 20 else 0.0
    shares = [round(1 - (d - 1) * share, 2)] + [share] * (d - 1)
    return ",".join(f"{name}={value:g}" for name, value in zip(objectives, shares, strict=True))


@contextmanager
def waiting(what: str, seconds: float | None) -> Iterator[None]:
    """Show a long computation on standard error: name, time limit, elapsed time."""
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


def objectives(names: tuple[str, ...]) -> str:
    """Format "2 objectives: helpful, brief"."""
    return f"{len(names)} objectives: {', '.join(names)}"


def document(portfolio: Portfolio) -> dict[str, Any]:
    """The JSON document of a portfolio for ``--json``."""
    from palm_core.model.encoding import stored

    pruning = portfolio.pruning
    return {
        "portfolio": [policy.id for policy in portfolio.policies],
        "oracle_calls": portfolio.oracle_calls,
        "candidates": portfolio.candidates,
        "objectives": list(portfolio.objectives),
        "gaps": portfolio.gaps,
        "certificate": portfolio.certificate,
        "missing": portfolio.missing,
        "theorem": portfolio.theorem,
        "slack": portfolio.slack,
        "pruning": None if pruning is None else stored(pruning),
        "policies": [
            {
                name: getattr(policy, name)
                for name in ("id", "weights", "rewards", "regularizer", "artifact")
            }
            for policy in portfolio.policies
        ],
    }


def show(portfolio: Portfolio) -> None:
    """Print a portfolio: size, policies, guarantees."""
    pruning, gaps = portfolio.pruning, portfolio.gaps
    assert pruning is not None
    assert gaps is not None
    size, (share, amount) = len(portfolio), pruning.tolerance
    asked = "every weight answered" if portfolio.missing else "every weight asked"
    where = "every weight" if pruning.everywhere else asked
    tell(
        f"{size} of {portfolio.candidates} policies {'is' if size == 1 else 'are'} enough "
        f"({portfolio.oracle_calls} oracle calls): at {where} the best of them is "
        f"within {percent_text(share)}"
        + (f" plus {amount:g}" if amount else "")
        + " of the best found."
    )
    if pruning.status == "optimal" and size > 1:
        say(f"No fewer will do (proven, {pruning.solver}).")
    elif pruning.status != "optimal":
        say(f"At least {pruning.lower_bound} are needed (proven).")
    say()
    regularized = any(policy.regularizer for policy in portfolio.policies)
    headers = ["policy", *portfolio.objectives] + ["regulariser"] * regularized
    rows = []
    for policy in portfolio.policies:
        cells = [policy.id, *map(number_text, policy.rewards.tolist())]
        rows.append(cells + [number_text(policy.regularizer)] * regularized)
    table(headers, rows)
    say()
    names = portfolio.objectives
    if math.isinf(gaps.epsilon):
        loss = "no finite ε (the best value is not positive at some weight)"
    else:
        loss = f"ε {percent_text(gaps.epsilon, up=True)}"
        if gaps.epsilon > 0 and gaps.epsilon_weights is not None:
            loss += f" at {weights_text(gaps.epsilon_weights, names)}"
    say(f"Against all {portfolio.candidates} policies found, at every weight, exactly:")
    tell(f"{loss};  δ {number_text(gaps.delta, up=True)}", indent=2)
    found = portfolio.certificate
    if found is not None:
        say("Against every policy there is, at every weight:")
        tell(found.statement, indent=2)
        if found.stopped not in (None, "target") and math.isinf(found.epsilon):
            at = found.epsilon_weights
            where = "" if at is None else weights_text(at, names)
            tell(
                f"{BELOW_ZERO} (at {where} the portfolio is)." if where else f"{BELOW_ZERO}.",
                indent=2,
            )
            tell(CURE, indent=2)
        elif found.stopped in STOPPED:
            tell(STOPPED[found.stopped], indent=2)
    _show_missing(portfolio)
    slack = portfolio.slack
    if slack.measured > 0:
        tell(
            f"Oracle slack: at {slack.measured_at} another policy found is better by "
            f"{number_text(slack.measured)}."
        )
    if pruning.n_negative:
        tell(
            f"At {pruning.n_negative} of {pruning.n_weights} weights asked the best value is "
            "negative: a share of it means nothing, so only α' counted there."
        )
    if portfolio.theorem is not None:
        tell(portfolio.theorem.statement)


def _show_missing(portfolio: Portfolio) -> None:
    missing = portfolio.missing
    if not missing:
        return
    count = "1 weight has" if len(missing) == 1 else f"{len(missing)} weights have"
    say(f"{count} no answer, the oracle failed there at every attempt:")
    for item in missing[:SHOWN]:
        where = weights_text(item.weights, portfolio.objectives)
        tell(f"{where}: {item.message} ({item.attempts} attempts)", indent=2)
    if len(missing) > SHOWN:
        say(f"  and {len(missing) - SHOWN} more")
    vertex = next((item for item in missing if max(item.weights) == 1.0), None)
    if vertex is not None and portfolio.certificate is None:
        where = weights_text(vertex.weights, portfolio.objectives)
        tell(
            "Nothing is certified against policies that were not found: that takes an answer "
            f"at {where}."
        )
    elif portfolio.certificate is not None:
        say("What is certified above does without them.")


#: How many weights without an answer are printed; the portfolio has all.
SHOWN = 5
BELOW_ZERO = (
    "The target was not reached: values are below 0, where a share of the best means nothing"
)
CURE = (
    "Scale the oracle's rewards to be at least 0, by limits known beforehand: (r - lower)/(upper "
    "- lower). Or ask for a gap in units of reward: palm_core.AdaptiveGrid(target_delta=...)."
)
STOPPED = {
    "slack": "The target was not reached: what is left is within the oracle's own slack.",
    "calls": "The target was not reached within the calls allowed (max_calls).",
    "failures": "The target was not reached: the oracle failed where it would have to be asked.",
}
