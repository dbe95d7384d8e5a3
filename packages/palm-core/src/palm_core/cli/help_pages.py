"""What ``--help`` prints: a command, an example to copy, what it needs, what it may be given."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

#: The longest line of prose, and the narrowest terminal that names stand beside it on.
WIDEST, NARROW = 92, 60
#: The longest name of an option that stands beside its description.
LONGEST_LABEL = 26


class HelpPages:
    """Writes help as plain lines; on a terminal, headings and names are set off.

    A paragraph of a docstring whose lines begin with "palm" is examples: they stay as they are.
    """

    def render_usage(self, console: Console, _: ConsoleOptions, usage: Any) -> None:
        """Print how the command is typed."""
        line = str(usage).strip().removeprefix("Usage: ")
        line = re.sub(r"(\w+) \[ARGS\.\.\.\]", r"\1 [\1...]", line)
        _print(console, Text.assemble(("Usage: ", "bold"), line))
        console.print()

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what the command does, and its examples."""
        for paragraph in _plain(description).split("\n\n"):
            lines = [line.strip() for line in paragraph.splitlines()]
            if all(line.startswith("palm ") for line in lines):
                for line in lines:
                    _print(console, Text(f"  {line}", style="green"))
            else:
                _print(console, Text(_filled(paragraph, _width(options))))
            console.print()

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print commands or options; what is needed comes first."""
        needed = [entry for entry in panel.entries if entry.required]
        others = [entry for entry in panel.entries if not entry.required]
        parts = [(str(panel.title), others)]
        if panel.format == "parameter":
            parts = [("Needed", needed), ("Options", others)]
        longest = max((len(_label(entry)) for entry in panel.entries), default=0)
        for title, entries in parts:
            if entries:
                _print(console, Text(title, style="bold"))
                for entry in entries:
                    for line in _lines(entry, min(longest, LONGEST_LABEL), _width(options)):
                        _print(console, line)
        if panel.format == "parameter":
            console.print()


def _lines(entry: HelpEntry, column: int, width: int) -> Iterator[Text]:
    label, described = _label(entry), _described(entry)
    beside = len(label) <= column and width >= NARROW
    left = column + 4 if width >= NARROW else 6
    wrapped = _filled(described, width - left).split("\n")
    if beside:
        first = f"{'':{column - len(label) + 2}}{wrapped.pop(0)}"
        yield Text.assemble("  ", (label, "cyan"), first)
    else:
        yield Text.assemble("  ", (label, "cyan"))
    for line in wrapped:
        yield Text(f"{'':{left}}{line}")


def _label(entry: HelpEntry) -> str:
    if entry.positional_label or not entry.choices:
        return ", ".join(entry.display_labels_with_metavar)
    return f"{', '.join(entry.all_options)} {'|'.join(entry.choices)}"


def _described(entry: HelpEntry) -> str:
    text = " ".join(_plain(entry.description).split())
    return text if entry.default is None else f"{text} By default {entry.default}."


def _plain(described: Any) -> str:
    """The text of what cyclopts hands over, which is set up to be plain."""
    if described is None or not hasattr(described, "primary_renderable"):
        return str(described or "")
    return str(described.primary_renderable).rstrip()


def _filled(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width, break_on_hyphens=False)


def _width(options: ConsoleOptions) -> int:
    return max(20, min(options.max_width, WIDEST))


def _print(console: Console, line: Text) -> None:
    console.print(line, highlight=False, soft_wrap=True)
