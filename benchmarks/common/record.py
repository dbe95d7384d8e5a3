"""What a benchmark prints, and at the same time writes down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from common.documents import Document, Table, Value
from common.machine import Watch, machine, versions

if TYPE_CHECKING:
    from common.declared import Benchmark, Figure


class Record:
    """Tables, figures and notes of one run, in the order in which they come."""

    def __init__(self, name: str, about: Benchmark, arguments: list[str]) -> None:
        self.name, self.about, self.arguments = name, about, arguments
        self.watch = Watch()
        self.figures: dict[str, list[Value]] = {}
        self.tables: list[Table] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """A sentence; also what could not be measured here, and why."""
        print(text, flush=True)
        self.notes.append(text)

    def table(self, title: str, *columns: str) -> Printed:
        """Begin a table; a column is as wide as its heading, to the left if that ends in " "."""
        self.tables.append(Table(title, [column.strip() for column in columns]))
        return Printed(self.tables[-1], columns)

    def value(self, figure: Figure, of: str, value: float, bound: str = "") -> None:
        """Write down a figure; ``bound`` "≥" or "≤" where ``value`` is only a bound of it."""
        if figure not in self.about.figures:
            raise ValueError(f"{figure.name!r} is not among the figures of {self.name}")
        one = {"of": of, "value": float(f"{float(value):.6g}"), "bound": bound}
        self.figures.setdefault(figure.name, []).append(msgspec.convert(one, Value))

    def document(self) -> Document:
        """All of it."""
        return Document(
            benchmark=self.name,
            arguments=self.arguments,
            conditions=self.watch.conditions(),
            machine=machine(),
            versions=versions(),
            figures=self.figures,
            tables=self.tables,
            notes=self.notes,
        )


class Printed:
    """A table that prints each row when it is added."""

    def __init__(self, table: Table, columns: tuple[str, ...]) -> None:
        self.table, self.columns = table, columns
        print(f"\n{table.title}\n{'  '.join(columns)}", flush=True)

    def row(self, *cells: Any) -> None:
        """Add a row of as many cells as there are columns."""
        texts = [str(cell) for cell in cells]
        if len(texts) != len(self.columns):
            raise ValueError(f"{len(texts)} cells for {len(self.columns)} columns")
        self.table.rows.append(texts)
        sides = ["<" if column.endswith(" ") else ">" for column in self.columns]
        print(
            "  ".join(
                f"{text:{side}{len(column)}}"
                for text, side, column in zip(texts, sides, self.columns, strict=True)
            ),
            flush=True,
        )
