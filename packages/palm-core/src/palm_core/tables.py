"""Tables of models and scores: CSV, Parquet, JSON and NumPy files.

A table becomes a :class:`PolicySet` by naming the columns to maximise and to
minimise. Costs are negated here, at the door, and nowhere else.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.arrays import read_npy, read_npz
from palm_core.errors import InputError
from palm_core.files import is_folder, read_bounded
from palm_core.parquet import read_parquet
from palm_core.policies import PolicySet
from palm_core.text import did_you_mean, is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# A table of models is small; anything larger is a wrong file.
LARGEST_FILE = 1 << 26
LARGEST_TABLE = 1 << 22
LONGEST_NAME = 1000


@dataclass(frozen=True)
class Table:
    """Columns of equal length, in the order of the file.

    Args:
        columns: name → cells, as they stood in the file.
        source: what error messages call the table.
        lines: the line of the file that each row came from, where it has lines.
    """

    columns: Mapping[str, Sequence[Any]]
    source: str = "table"
    lines: Sequence[int] | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows, one model each."""
        return len(next(iter(self.columns.values()), ()))

    def numbers(self, column: str) -> list[float]:
        """Return a column as finite floats.

        Raises:
            InputError: no such column (naming the nearest), or a cell that is
                empty, not a number or not finite, with its place.
        """
        cells = self._column(column)
        values = [_number(cell) for cell in cells]
        for index, value in enumerate(values):
            if value is None or not math.isfinite(value):
                kind = (
                    "is not finite"
                    if value is not None
                    else f"is not a number{_meant(cells[index])}"
                )
                shown = "an empty cell" if _empty(cells[index]) else _shown(cells[index])
                raise InputError(
                    f"{self.source}: column {_shown(column)}, {self._place(index)}: {shown} {kind}"
                )
        return [float(value) for value in values if value is not None]

    def names(self, besides: Sequence[str] = ()) -> list[str]:
        """Name the rows by the first non-numeric column, or by number from 0.

        Args:
            besides: columns that hold objectives, never names.

        Raises:
            InputError: a name that is empty, stands twice or cannot be shown.
        """
        for column, cells in self.columns.items():
            if column in besides or all(_empty(c) or _number(c) is not None for c in cells):
                continue
            seen: dict[str, int] = {}
            for index, cell in enumerate(cells):
                name = "" if _empty(cell) else _on_one_line(str(cell))
                where = f"{self.source}: column {_shown(column)}, {self._place(index)}"
                if not name:
                    raise InputError(f"{where}: the name is empty")
                _check_name(name, where)
                if name in seen:
                    other = self._place(seen[name])
                    raise InputError(f"{where}: {_shown(name)} already stands in {other}")
                seen[name] = index
            return list(seen)
        return [str(index) for index in range(self.n_rows)]

    def policies(self, *, maximize: Sequence[str] = (), minimize: Sequence[str] = ()) -> PolicySet:
        """Take the named columns as objectives, those of ``minimize`` negated.

        Returns:
            The models as policies, objectives in the order maximize, minimize.

        Raises:
            InputError: fewer than two objectives or models, a column named
                twice or not in the table, cells that are not finite numbers.
        """
        objectives = [*maximize, *minimize]
        for column in objectives:
            self._column(column)
        if len(set(objectives)) != len(objectives):
            twice = next(name for name in objectives if objectives.count(name) > 1)
            raise InputError(f"column {_shown(twice)} is named twice among the objectives")
        if len(objectives) < 2:
            have = f"only {_shown(objectives[0])} is given" if objectives else "none is given"
            raise InputError(
                f"at least 2 columns to maximise or minimise are needed, {have}; "
                f"{self.source} has {_listed(self.columns)}"
            )
        if self.n_rows < 2:
            raise InputError(
                f"{self.source}: at least 2 models are needed to select from, it has {self.n_rows}"
            )
        signs = [1.0] * len(maximize) + [-1.0] * len(minimize)
        rewards = np.column_stack(
            [sign * np.array(self.numbers(c)) for sign, c in zip(signs, objectives, strict=True)]
        )
        return PolicySet(rewards, names=self.names(objectives), objectives=objectives)

    def _column(self, name: str) -> Sequence[Any]:
        if name not in self.columns:
            ask = did_you_mean(name, self.columns) or f"; it has {_listed(self.columns)}"
            raise InputError(f"{self.source}: no column {_shown(name)}{ask}")
        return self.columns[name]

    def _place(self, index: int) -> str:
        return f"row {index}" if self.lines is None else f"line {self.lines[index]}"


def read_table(path: str | Path) -> Table:
    """Read a table by its ending: .csv, .tsv, .json, .parquet, .npy or .npz.

    JSON is a list of objects or an object of lists; .npz holds one array per
    column; .npy a matrix (m, d) whose columns are named "0", "1", …

    Raises:
        InputError: not a file, an unknown ending, too large, or contents that are
            not a table, each with its reason.
    """
    file = Path(path)
    if file.suffix.lower() not in _READERS:
        accepted = ", ".join(_READERS)
        if is_folder(file):
            raise InputError(f"{one_line(file)} is a directory, must be a table: {accepted}")
        raise InputError(f"{one_line(file)}: must be a table file ending in one of {accepted}")
    return parse_table(read_bounded(file, LARGEST_FILE), file.suffix, one_line(file))


def parse_table(data: bytes, suffix: str, source: str) -> Table:
    """Read the contents of a table file.

    Args:
        data: at most :data:`LARGEST_FILE` bytes; a table has at most
            :data:`LARGEST_TABLE` cells.
        suffix: ".csv" and so on.
        source: what error messages call it.

    Raises:
        InputError: they are not a table, with the reason.
    """
    table = _READERS[suffix.lower()](data, source)
    if not table.columns:
        raise InputError(f"{source}: the file is empty")
    for index, name in enumerate(table.columns):
        _check_name(name, f"{source}: column {index + 1}")
    return table


def _read_csv(data: bytes, source: str) -> Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: must be UTF-8 text, byte {error.start} is not (spreadsheets call it "
            "'CSV UTF-8')"
        ) from error
    first = text.split("\n", 1)[0]
    # European spreadsheets write semicolons, others tabs; a comma wins.
    marks = "\t" if source.lower().endswith(".tsv") else ",;\t"
    delimiter = next((mark for mark in marks if mark in first), marks[0])
    _check_size(sum(text.count(mark) for mark in (delimiter, "\n", "\r")), source)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{source}: line {reader.line_num}: {one_line(error)}") from error
    if not rows:
        return Table({}, source)
    header = [_on_one_line(name) for name in rows[0]]
    seen: set[str] = set()
    for index, name in enumerate(header):
        if not name:
            raise InputError(f"{source}: column {index + 1} has no name in the first line")
        if name in seen:
            raise InputError(f"{source}: two columns are named {_shown(name)}")
        seen.add(name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{source}: line {line} has {len(row)} cells, the first line has {len(header)}"
            )
    cells = list(zip(*rows[1:], strict=True)) or [()] * len(header)
    return Table(dict(zip(header, cells, strict=True)), source, lines[1:])


def _read_json(data: bytes, source: str) -> Table:
    _check_size(data.count(b","), source)
    # each is an object of its own, many times the size of its two characters
    _check_size(data.count(b"{") + data.count(b"["), source)
    try:
        content = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not JSON: {one_line(error)}") from error
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        header = list(dict.fromkeys(name for row in content for name in row))
        _check_size(len(header) * len(content), source)
        columns = {name: [row.get(name) for row in content] for name in header}
    elif isinstance(content, dict) and all(isinstance(cells, list) for cells in content.values()):
        columns = content
    else:
        raise InputError(f"{source}: must be a list of objects or an object of lists")
    for name, cells in columns.items():
        for index, cell in enumerate(cells):
            if isinstance(cell, (list, dict)):
                where = f"column {_shown(name)}, row {index}"
                raise InputError(f"{source}: {where}: must be a number or a text")
    return _equal(columns, source)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _read_parquet(data: bytes, source: str) -> Table:
    columns = read_parquet(data, source, most_cells=LARGEST_TABLE, most_bytes=LARGEST_FILE)
    return Table(columns, source)


def _read_npy(data: bytes, source: str) -> Table:
    matrix = read_npy(data, source)
    if matrix.ndim != 2:
        raise InputError(f"{source}: must hold a matrix (m, d), has shape {matrix.shape}")
    _check_size(matrix.size, source)
    return Table({str(i): column.tolist() for i, column in enumerate(matrix.T)}, source)


def _read_npz(data: bytes, source: str) -> Table:
    columns = read_npz(data, source, LARGEST_FILE)
    _check_size(sum(column.size for column in columns.values()), source)
    for name, column in columns.items():
        if column.ndim != 1:
            raise InputError(f"{source}: {_shown(name)} must have shape (m,), has {column.shape}")
    return _equal({name: column.tolist() for name, column in columns.items()}, source)


def _check_size(cells: int, source: str) -> None:
    if cells > LARGEST_TABLE:
        raise InputError(f"{source}: must be a table of at most {LARGEST_TABLE} cells")


def _check_name(name: str, where: str) -> None:
    if not is_plain(name):
        raise InputError(f"{where}: {_shown(name)} has characters that cannot be shown in a name")
    if len(name) > LONGEST_NAME:
        raise InputError(f"{where}: the name {_shown(name)} is longer than {LONGEST_NAME}")


def _equal(columns: Mapping[str, Sequence[Any]], source: str) -> Table:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} {length}" for name, length in list(lengths.items())[:12])
        raise InputError(f"{source}: columns must be equally long, got {one_line(shown)}")
    return Table(columns, source)


_READERS: dict[str, Callable[[bytes, str], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, (int, float, np.number)):
        try:
            return float(cell)
        except OverflowError:  # a whole number beyond 1e308
            return math.inf
    # float() also reads "1_000", which is more likely a name than a score
    if isinstance(cell, str) and "_" not in cell:
        try:
            return float(cell)
        except ValueError:
            return None  # text, which the caller names or takes as such
    return None


def _listed(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:12])
    return f"the columns {one_line(shown)}" + (", …" if len(names) > 12 else "")


def _meant(cell: Any) -> str:
    """What to write instead of a number with a decimal comma."""
    with_point = cell.replace(",", ".") if isinstance(cell, str) and cell.count(",") == 1 else ""
    return f"; with a point it is: {with_point.strip()}" if _number(with_point) is not None else ""


def _shown(value: Any) -> str:
    return one_line(repr(value), 80)


def _on_one_line(name: str) -> str:
    """Spreadsheets break the lines of long headers."""
    return re.sub(r"\s*[\r\n]+\s*", " ", name.strip())
