"""Tables of models and scores: CSV, Parquet, JSON and NumPy files.

A table becomes a :class:`PolicySet` by naming the columns to maximise and to
minimise. Costs are negated here, at the door, and nowhere else.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError
from palm_core.policies import PolicySet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# A spreadsheet of models is small; anything larger is a wrong file.
LARGEST_FILE = 1 << 30


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
                kind = "is not a number" if value is None else "is not finite"
                shown = "an empty cell" if _empty(cells[index]) else repr(cells[index])
                raise InputError(
                    f"{self.source}: column {column!r}, {self._place(index)}: {shown} {kind}"
                )
        return [float(value) for value in values if value is not None]

    def names(self, besides: Sequence[str] = ()) -> list[str]:
        """Name the rows by the first non-numeric column, or by number from 0.

        Args:
            besides: columns that hold objectives, never names.

        Raises:
            InputError: a name that is empty or stands twice.
        """
        for column, cells in self.columns.items():
            if column in besides or all(_empty(c) or _number(c) is not None for c in cells):
                continue
            seen: dict[str, int] = {}
            for index, cell in enumerate(cells):
                name = "" if _empty(cell) else str(cell).strip()
                where = f"{self.source}: column {column!r}, {self._place(index)}"
                if not name:
                    raise InputError(f"{where}: the name is empty")
                if name in seen:
                    other = self._place(seen[name])
                    raise InputError(f"{where}: {name!r} already stands in {other}")
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
            raise InputError(f"column {twice!r} is named twice among the objectives")
        if len(objectives) < 2:
            have = f"only {objectives[0]!r} is given" if objectives else "none is given"
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
            near = difflib.get_close_matches(name, self.columns, 1)
            ask = f"; did you mean {near[0]!r}?" if near else f"; it has {_listed(self.columns)}"
            raise InputError(f"{self.source}: no column {name!r}{ask}")
        return self.columns[name]

    def _place(self, index: int) -> str:
        return f"row {index}" if self.lines is None else f"line {self.lines[index]}"


def read_table(path: str | Path) -> Table:
    """Read a table by its ending: .csv, .tsv, .json, .parquet, .npy or .npz.

    JSON is a list of objects or an object of lists; .npz holds one array per
    column; .npy a matrix (m, d) whose columns are named "0", "1", …

    Raises:
        InputError: not a file, an unknown ending, or contents that are not a
            table, each with its reason.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        accepted = ", ".join(_READERS)
        raise InputError(f"{file}: must be a table file ending in one of {accepted}")
    if file.is_dir():
        raise InputError(f"{file} is a directory, must be a file")
    try:
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{file}: {size} bytes, must be at most {LARGEST_FILE}")
        table = reader(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not table.columns:
        raise InputError(f"{file}: the file is empty")
    return table


def _read_csv(data: bytes, source: str) -> Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: must be UTF-8 text, byte {error.start} is not") from error
    first = text.split("\n", 1)[0]
    # European spreadsheets write semicolons, others tabs; a comma wins.
    marks = "\t" if source.lower().endswith(".tsv") else ",;\t"
    delimiter = next((mark for mark in marks if mark in first), marks[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{source}: line {reader.line_num}: {error}") from error
    if not rows:
        return Table({}, source)
    header = [name.strip() for name in rows[0]]
    for index, name in enumerate(header):
        if not name:
            raise InputError(f"{source}: column {index + 1} has no name in the first line")
        if name in header[:index]:
            raise InputError(f"{source}: two columns are named {name!r}")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{source}: line {line} has {len(row)} cells, the first line has {len(header)}"
            )
    cells = list(zip(*rows[1:], strict=True)) or [()] * len(header)
    return Table(dict(zip(header, cells, strict=True)), source, lines[1:])


def _read_json(data: bytes, source: str) -> Table:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not JSON: {error}") from error
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        header = list(dict.fromkeys(name for row in content for name in row))
        return Table({name: [row.get(name) for row in content] for name in header}, source)
    if isinstance(content, dict) and all(isinstance(cells, list) for cells in content.values()):
        return _equal(content, source)
    raise InputError(f"{source}: must be a list of objects or an object of lists")


def _read_parquet(data: bytes, source: str) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{source}: reading Parquet needs pyarrow (the extra palm-core[parquet])"
        ) from error
    try:
        content = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{source}: is not a Parquet file: {_line(error)}") from error
    if len(set(content.column_names)) != len(content.column_names):
        raise InputError(f"{source}: two columns have the same name")
    return Table(dict(content.to_pydict()), source)


def _read_npy(data: bytes, source: str) -> Table:
    matrix = _load(data, source)
    if matrix.ndim != 2:
        raise InputError(f"{source}: must hold a matrix (m, d), has shape {matrix.shape}")
    return Table({str(i): column.tolist() for i, column in enumerate(matrix.T)}, source)


def _read_npz(data: bytes, source: str) -> Table:
    archive = _load(data, source)
    try:
        columns = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source}: is not a NumPy file: {_line(error)}") from error
    for name, column in columns.items():
        if column.ndim != 1:
            raise InputError(f"{source}: {name!r} must have shape (m,), has {column.shape}")
    return _equal({name: column.tolist() for name, column in columns.items()}, source)


def _load(data: bytes, source: str) -> Any:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{source}: is not a NumPy file: {_line(error)}") from error


def _equal(columns: Mapping[str, Sequence[Any]], source: str) -> Table:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise InputError(f"{source}: columns must be equally long, got {shown}")
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
            return None
    return None


def _listed(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:12])
    return f"the columns {shown}" + (", …" if len(names) > 12 else "")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
