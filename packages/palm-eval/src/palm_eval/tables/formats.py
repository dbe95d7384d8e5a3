"""A table of numbers, written as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palm_core.settings import check_choice
from palm_eval.tables.markup import latex, markdown, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Words = Callable[[str], str]
    Mark = Callable[[str], str]

#: Formats and the endings of their files.
FORMATS = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv"}
ABSENT = "–"
INFINITE = "∞"
_BEST = "*"

Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: what stands above it, and what CSV calls the values of its cells.

    Args:
        title: in words; empty for a column that only CSV has.
        fields: names of one value, or of several that stand in one cell, as (ε, δ).
        digits: after the point; ``None`` writes numbers as short as they are.
    """

    title: str
    fields: tuple[str, ...]
    digits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The values of a cell, as many as its column has fields; ``None`` is absent."""

    values: tuple[Value, ...]
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a table, with a title of its own where it has one.

    Args:
        title: may be empty.
        blocks: rows of cells, in blocks between which LaTeX draws a line.
    """

    title: str
    blocks: tuple[tuple[tuple[Cell, ...], ...], ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, ready to be written.

    Args:
        number: as in the paper.
        caption: one sentence or more.
        columns: of every row.
        sections: at least one.
        notes: below it.
        leading: so many columns are written in the first row of a block only; CSV repeats
            them.
        best: what a best cell is.
        best_rows: all cells of a row are the best together.
    """

    number: str
    caption: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    leading: int = 0
    best: str = "the best of its row"
    best_rows: bool = False

    @property
    def label(self) -> str:
        """What LaTeX refers to it by."""
        return f"tab:palm-{self.number.replace('/', '-')}"

    def render(self, form: str) -> str:
        """Write it as "text", "markdown", "latex" (booktabs) or "csv".

        The best entries are bold, in text marked with a star. CSV has one value in each
        cell, unrounded, and neither caption nor notes; what is absent is empty there, an
        infinite ε is "inf".

        Raises:
            InputError: another format.
        """
        writers = {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}
        check_choice(form, tuple(writers), name="format")
        return writers[form](self)


def _text(table: Table) -> str:
    from tabulate import tabulate

    def mark(written: str) -> str:
        return f"{_BEST}{written}"  # before it: digits stay below digits

    rows = []
    for section in table.sections:
        if section.title:
            rows.append([plain(section.title)])
        for _, row in _rows(section, table):
            rows.append(_written(_marked_once(row) if table.best_rows else row, table, plain, mark))
    body = tabulate(
        rows,
        headers=_titles(table, plain),
        tablefmt="simple",
        disable_numparse=True,
        colalign=_alignment(table),
    )
    notes = [plain(note) for note in table.notes] + _what_is_best(table, _BEST)
    title = f"Table {table.number}. {plain(table.caption)}"
    below = [line for note in notes for line in _lines(note)]
    return "\n".join([*_lines(title), "", body, "", *below]) + "\n"


def _lines(sentence: str) -> list[str]:
    """For a terminal of 80 columns, broken between words; the table may be wider."""
    return textwrap.wrap(sentence, 80, break_long_words=False, break_on_hyphens=False) or [""]


def _marked_once(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    first = next((cell for cell in row if cell.best), None)
    return tuple(replace(cell, best=cell is first) for cell in row)


def _what_is_best(table: Table, sign: str) -> list[str]:
    cells = (
        cell for part in table.sections for block in part.blocks for row in block for cell in row
    )
    return [f"{sign}: {table.best}."] if any(cell.best for cell in cells) else []


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    rows = []
    for section in table.sections:
        if section.title:
            rows.append([_bold(markdown(section.title))])
        rows += [_written(row, table, markdown, _bold) for _, row in _rows(section, table)]
    body = tabulate(
        rows,
        headers=_titles(table, markdown),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=_alignment(table),
    )
    lines = [f"**Table {table.number}.** {markdown(table.caption)}", "", body]
    for note in (*table.notes, *_what_is_best(table, "Bold")):
        lines += ["", markdown(note)]
    return "\n".join(lines) + "\n"


def _latex(table: Table) -> str:
    shown = len(_titles(table, latex))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{{table.label}}}",
        rf"\begin{{tabular}}{{{''.join(side[0] for side in _alignment(table))}}}",
        r"\toprule",
        _latex_row(_titles(table, latex)),
    ]
    for section in table.sections:
        lines.append(r"\midrule")
        if section.title:
            title = latex(section.title)
            lines += [rf"\multicolumn{{{shown}}}{{l}}{{\textbf{{{title}}}}} \\", r"\midrule"]
        for first, row in _rows(section, table):
            if first:
                lines.append(r"\midrule")
            lines.append(
                _latex_row(_written(row, table, latex, lambda cell: rf"\textbf{{{cell}}}"))
            )
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = (*table.notes, *_what_is_best(table, "Bold"))
    lines += [rf"\par\smallskip{{\footnotesize {latex(note)}\par}}" for note in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["task", *(name for column in table.columns for name in column.fields)])
    for section in table.sections:
        for row in (row for block in section.blocks for row in block):
            # csv writes None as nothing, and a float so that it is read back the same.
            values = (section.title, *(value for cell in row for value in cell.values))
            writer.writerow([plain(x) if isinstance(x, str) else x for x in values])
    return stream.getvalue()


def _rows(section: Section, table: Table) -> Iterator[tuple[bool, tuple[Cell, ...]]]:
    """The rows, each with whether a line is due above it; what leads is not repeated."""
    for number, block in enumerate(section.blocks):
        for place, row in enumerate(block):
            if place == 0:
                yield number > 0, row
            else:
                blank = tuple(Cell(values=("",)) for _ in row[: table.leading])
                yield False, (*blank, *row[table.leading :])


def _written(row: tuple[Cell, ...], table: Table, words: Words, mark: Mark) -> list[str]:
    cells = []
    for cell, column in zip(row, table.columns, strict=True):
        if not column.title:
            continue
        if None in cell.values:
            cells.append(words(ABSENT))
            continue
        parts = [words(_value(value, column.digits)) for value in cell.values]
        text = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
        cells.append(mark(text) if cell.best else text)
    return cells


def _value(value: Value, digits: int | None) -> str:
    if isinstance(value, float):
        if math.isinf(value):
            return INFINITE
        return f"{value:g}" if digits is None else f"{value:.{digits}f}"
    return str(value)


def _titles(table: Table, words: Words) -> list[str]:
    return [words(column.title) for column in table.columns if column.title]


def _alignment(table: Table) -> list[str]:
    shown = [column for column in table.columns if column.title]
    return ["left", *("right" for _ in shown[1:])]


def _bold(written: str) -> str:
    return f"**{written}**"
