"""The paper's tables for any runs, as text, Markdown, LaTeX or CSV.

Tables 1, 3, 4 and 5/6 are made from comparisons, one section for each task. A best entry has
the least ε, and of equal ones the least δ, as the paper's bold ones; of entries that are
written alike all are best. Where only one method has an entry, none is.
"""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palm_core import InputError
from palm_core.plugin import check_choice, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from palm_eval.comparison import Comparison, Measured

    Words = Callable[[str], str]
    Mark = Callable[[str], str]

# Maximum length of a text: only names may exceed it.
_LONGEST = 10_000


def plain(text: str) -> str:
    """``text`` on one line, with control characters escaped."""
    return one_line(text, _LONGEST)


def markdown(text: str) -> str:
    """Escape ``text`` for Markdown, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|~#&])", r"\\\1", plain(text))
    # At the beginning of a line these would start a list.
    return re.sub(r"^(\d*)([-+.)])(?=\s)", r"\1\\\2", escaped)


# Longer ones first, so that formulas are matched as a whole.
_LATEX = {
    "ε(P)": r"$\varepsilon(P)$",
    "δ(P)": r"$\delta(P)$",
    "μ'": r"$\mu'$",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After \\ these would be arguments of it.
    "[": "{[}",
    "*": "{*}",
    "α": r"$\alpha$",
    "δ": r"$\delta$",
    "ε": r"$\varepsilon$",
    "μ": r"$\mu$",
    "∞": r"$\infty$",
    "–": "--",
    "−": "$-$",
}
_LATEX_PATTERN = re.compile("|".join(map(re.escape, _LATEX)))


def latex(text: str) -> str:
    """Escape ``text`` for LaTeX, on one line."""
    return _LATEX_PATTERN.sub(lambda found: _LATEX[found[0]], plain(text))


#: Formats and their file endings.
FORMATS = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv"}
ABSENT = "–"
INFINITE = "∞"
_BEST = "*"
Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its title, and the CSV names of the values in its cells.

    Args:
        title: in words; empty for a column that only CSV has.
        fields: names of one value, or of several in one cell, such as (ε, δ).
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
    """A part of a table, with an optional title.

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
        leading: number of columns written in the first row of a block only; CSV repeats
            them.
        best: the meaning of a best cell.
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
        """The label for references in LaTeX."""
        return f"tab:palm-{self.number.replace('/', '-')}"

    def render(self, form: str) -> str:
        """Render as "text", "markdown", "latex" (booktabs) or "csv".

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
        return f"{_BEST}{written}"  # before the number, so that digits are aligned

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
    """Wrap for a terminal of 80 columns; the table may be wider."""
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
            # csv writes None as an empty cell, and floats without loss.
            values = (section.title, *(value for cell in row for value in cell.values))
            writer.writerow([plain(x) if isinstance(x, str) else x for x in values])
    return stream.getvalue()


def _rows(section: Section, table: Table) -> Iterator[tuple[bool, tuple[Cell, ...]]]:
    """The rows, with a flag for a line above; leading cells are not repeated."""
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


#: The tables' names on the command line; "5" is Tables 5 and 6.
TABLES = ("1", "3", "4", "5")
_TITLES = {"palm": "PALM", "uniform": "Uniform", "random": "Random", "least": "Least gap"}
# The least gap is not a method of the paper, but a reference for the others.
_RIVALS = ("palm", "uniform", "random")
_DIGITS = 4
_QUALITY = ("epsilon", "delta")


def make_table(number: str, comparisons: Sequence[Comparison]) -> Table:
    """One of the paper's tables, with a section for each comparison.

    Args:
        number: "1" (gaps by size), "3" (perplexity by size), "4" (gaps by oracle calls) or
            "5" (all prunings; Tables 5 and 6 of the paper).
        comparisons: one for each task; their names are the sections' titles.

    Raises:
        InputError: another number, no comparison, exact gaps beside sampled ones, or
            several comparisons of which two have the same name.
    """
    makers = {"1": _sizes_by_gap, "3": _sizes_by_usage, "4": _budgets, "5": _sweeps}
    check_choice(number, tuple(makers), name="table")
    if not comparisons:
        raise InputError("comparisons: at least one is needed, got none")
    kinds = sorted({one.gaps for one in comparisons})
    if len(kinds) > 1:
        raise InputError("comparisons: exact and sampled gaps do not belong in one table")
    names = [one.name for one in comparisons]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"comparisons: duplicate name {name!r}, every name must be unique")
    return makers[number](comparisons)


def _sizes_by_gap(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        number="1",
        caption=f"Approximation quality by portfolio size: (ε(P), δ(P)), {_gaps(comparisons)}. "
        "Smaller is better.",
        columns=(
            Column(title="Size", fields=("size",)),
            *(
                Column(title=title, fields=(f"{name}_epsilon", f"{name}_delta"), digits=_DIGITS)
                for name, title in _TITLES.items()
            ),
        ),
        sections=tuple(_by_size(one, _QUALITY) for one in comparisons),
        notes=(*_facts(comparisons), *_about_sizes(comparisons)),
    )


def _sizes_by_usage(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        number="3",
        caption="Perplexity of the policy usage distribution by portfolio size. "
        "Higher is more balanced.",
        columns=(
            Column(title="Size", fields=("size",)),
            *(
                Column(title=title, fields=(f"{name}_perplexity",), digits=_DIGITS)
                for name, title in _TITLES.items()
            ),
        ),
        sections=tuple(_by_size(one, ("perplexity",), most=True) for one in comparisons),
        notes=(*_facts(comparisons, sampled=True), *_about_sizes(comparisons)),
    )


def _budgets(comparisons: Sequence[Comparison]) -> Table:
    sections, missing = [], False
    for one in comparisons:
        rows = []
        for budget in one.budgets:
            found = (budget.palm, budget.uniform_palm)
            missing = missing or None in found
            best = _best(found, _QUALITY)
            cells = [Cell(values=(budget.oracle_calls,))]
            for entry, wins in zip(found, best, strict=True):
                cells.append(_cell(entry, _QUALITY, best=wins))
                cells.append(Cell(values=(None if entry is None else len(entry.policies),)))
            rows.append(tuple(cells))
        sections.append(Section(title=one.name, blocks=(tuple(rows),)))
    notes = [
        "Each entry is the best over μ' of 0.01 to 0.10; beside it how many policies that keeps."
    ]
    if missing:
        notes.append(
            f"{ABSENT} Uniform PALM: the runs have no policy for some of its weights; "
            "--task asks its oracle."
        )
    return Table(
        number="4",
        caption=f"Approximation quality by oracle calls: (ε(P), δ(P)), {_gaps(comparisons)}. "
        "Smaller is better.",
        columns=(
            Column(title="Oracle calls", fields=("oracle_calls",)),
            Column(title="PALM", fields=("palm_epsilon", "palm_delta"), digits=_DIGITS),
            Column(title="Size", fields=("palm_size",)),
            Column(
                title="Uniform PALM",
                fields=("uniform_palm_epsilon", "uniform_palm_delta"),
                digits=_DIGITS,
            ),
            Column(title="Size", fields=("uniform_palm_size",)),
        ),
        sections=tuple(sections),
        notes=(*_facts(comparisons), *notes),
    )


def _sweeps(comparisons: Sequence[Comparison]) -> Table:
    from palm_eval.baselines import PRUNE_MUS

    notes = []
    sections = []
    for one in comparisons:
        blocks = []
        shown = set(one.chosen.values())
        for sweep in one.sweeps:
            rows = []
            for row in sweep.rows:
                best = (sweep.run, row.mu) in shown
                if not best and row.mu not in PRUNE_MUS:
                    continue
                found = row.portfolio
                rows.append(
                    (
                        Cell(values=(sweep.run,)),
                        Cell(values=(sweep.mu,)),
                        Cell(values=(sweep.alpha,)),
                        Cell(values=(sweep.oracle_calls,)),
                        Cell(values=(row.mu,), best=best),
                        Cell(values=(row.size,), best=best),
                        Cell(values=(found.epsilon,), best=best),
                        Cell(values=(found.delta,), best=best),
                        Cell(values=("yes" if best else "no",)),
                    )
                )
            blocks.append(tuple(rows))
            if sweep.target_epsilon is not None:
                notes.append(
                    f"{ABSENT} {sweep.run} was asked adaptively, for ε of "
                    f"{sweep.target_epsilon:g}: it has no μ and no α."
                )
            if sweep.missing:
                notes.append(f"{sweep.run}: {sweep.missing} of its weights have no answer.")
        sections.append(Section(title=one.name, blocks=tuple(blocks)))
    notes.append(
        "Weights are pruned greedily for μ' of 0.01 to 0.10, and for others where only they "
        "yield what Table 1 shows."
    )
    return Table(
        number="5/6",
        caption=f"All prunings of the runs, {_gaps(comparisons)}.",
        columns=(
            Column(title="", fields=("run",)),
            Column(title="Input μ", fields=("mu",)),
            Column(title="Input α", fields=("alpha",)),
            Column(title="Oracle calls", fields=("oracle_calls",)),
            Column(title="Pruning μ'", fields=("prune_mu",)),
            Column(title="Size", fields=("size",)),
            Column(title="ε(P)", fields=("epsilon",), digits=_DIGITS),
            Column(title="δ(P)", fields=("delta",), digits=_DIGITS),
            Column(title="", fields=("in_table_1",)),
        ),
        sections=tuple(sections),
        notes=(*_facts(comparisons), *notes),
        leading=4,
        best="what Table 1 shows",
        best_rows=True,
    )


def _by_size(one: Comparison, names: tuple[str, ...], *, most: bool = False) -> Section:
    """A row for each size, the values of ``names`` of each method in it."""
    rows = []
    for size in one.sizes:
        found = {name: one.methods[name].get(size) for name in _TITLES}
        best = _best([found[name] for name in _RIVALS], names, most=most)
        wins = dict(zip(_RIVALS, best, strict=True))
        cells = [_cell(found[name], names, best=wins.get(name, False)) for name in _TITLES]
        rows.append((Cell(values=(size,)), *cells))
    return Section(title=one.name, blocks=(tuple(rows),))


def _values(entry: Measured, names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(getattr(entry, name) for name in names)


def _cell(entry: Measured | None, names: tuple[str, ...], *, best: bool) -> Cell:
    absent = (None,) * len(names)
    return Cell(values=absent if entry is None else _values(entry, names), best=best)


def _best(
    entries: Sequence[Measured | None], names: tuple[str, ...], *, most: bool = False
) -> list[bool]:
    """The best entries, as rounded; none if only one method has an entry."""
    sign = -1 if most else 1
    written = [
        None
        if entry is None
        else tuple(sign * round(value, _DIGITS) for value in _values(entry, names))
        for entry in entries
    ]
    there = [one for one in written if one is not None]
    return [len(there) > 1 and one == min(there) for one in written]


def _gaps(comparisons: Sequence[Comparison]) -> str:
    """How the gaps of the comparisons were measured, as part of a sentence."""
    if comparisons[0].gaps == "exact":
        return "the multiplicative and the additive gap over all weights, exactly"
    samples = sorted({one.samples for one in comparisons})
    counts = " or ".join(map(str, samples))
    return f"the multiplicative and the additive gap over {counts} sampled weights"


def _facts(comparisons: Iterable[Comparison], *, sampled: bool = False) -> list[str]:
    """A note for each comparison: its runs, and the candidates of its gaps."""
    found = []
    for one in comparisons:
        units = (
            "in the oracle's units"
            if one.normalization == "none"
            else "rewards scaled to [0, 1] over all of them"
        )
        title = f"{one.name}: objectives" if one.name else "Objectives"
        note = f"{title} {', '.join(one.objectives)}; against {one.candidates} policies, {units}"
        if sampled or one.gaps == "sampled":
            note += f"; {one.samples} sampled weights, seed {one.seed}"
        found.append(f"{note}.")
    return found


def _about_sizes(comparisons: Sequence[Comparison]) -> list[str]:
    """Notes on the columns and on absent entries."""
    notes = [
        "PALM: the best pruning of that size over all runs and μ'. Random: the mean of three "
        "runs. Least gap: the choice of that size among the runs' policies with the least ε "
        "that was found (not in the paper)."
    ]
    for one in comparisons:
        why: dict[tuple[str, str], list[int]] = {}
        for (method, size), reason in one.absent.items():
            if method in _TITLES:
                why.setdefault((method, reason), []).append(size)
        for (method, reason), sizes in why.items():
            of = f"{one.name}, " if one.name else ""
            listed = ", ".join(map(str, sorted(sizes)))
            notes.append(f"{ABSENT} {of}{_TITLES[method]} at {listed}: {reason}.")
    return notes
