"""Reading tables from untrusted files: CSV, JSON, Parquet, NumPy; sizes are validated first.

``numpy.load`` trusts a header of a hundred bytes that declares a terabyte, and a
decompression bomb. Pickles are never read.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from palm_core.errors import InputError
from palm_core.model.files import is_folder, read_bounded
from palm_core.model.policy import PolicySet
from palm_core.validation import did_you_mean, is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_MOST_ARRAYS = 4096
_ENTRY = b"PK\x01\x02"  # signature of an entry in a zip file's central directory
# Decompression-bomb guard: limit on the compression ratio of large entries.
_MOST_COMPRESSED = 100
_SMALL = 1 << 26
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_LARGEST_CHARACTER = 0x10FFFF


def read_npy(data: bytes, source: str) -> NDArray[Any]:
    """Read one array of numbers, texts or dates, whose declared size must match ``data``.

    Raises:
        InputError: anything else, in one line with ``source``.
    """
    with _numpy_errors(source):
        return _array(data)


def read_npz(
    data: bytes, source: str, most: int, *, limit: str | None = None
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an archive, by name.

    Args:
        data: the file.
        source: its name in error messages.
        most: the largest size of all arrays together, in bytes.
        limit: the same limit as text for messages.

    Raises:
        InputError: not such an archive, or larger, in one line with ``source``.
    """
    with _numpy_errors(source):
        if data.count(_ENTRY) > _MOST_ARRAYS:
            raise ValueError(f"must hold at most {_MOST_ARRAYS} arrays")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            items = archive.infolist()
            size = sum(item.file_size for item in items)
            if size > most:
                raise ValueError(f"must hold at most {limit or f'{most} bytes'}")
            if size > max(_SMALL, _MOST_COMPRESSED * len(data)):
                raise ValueError(f"{len(data)} bytes unpack to {size}")
            found: dict[str, NDArray[Any]] = {}
            for item in items:
                name = item.filename.removesuffix(".npy")
                if name in found:
                    raise ValueError(f"duplicate array {name!r}")
                found[name] = _array(archive.read(item))
            return found


def _array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"format version {version} is not supported")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("Object arrays are refused: loading them can run code")
    if dtype.kind not in "biufcSUMm" or dtype.shape:
        raise ValueError(f"holds {dtype}, must hold numbers or texts")
    declared = math.prod(shape) * max(dtype.itemsize, 1)
    if min(shape, default=0) < 0 or declared > len(data):
        raise ValueError(f"declares an array {one_line(shape, 80)}, holds {len(data)} bytes")
    stream.seek(0)
    array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    if dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.astype(dtype.newbyteorder("=")).tobytes(), dtype=np.uint32)
        if codes.max(initial=0) > _LARGEST_CHARACTER:
            raise ValueError("has code points that are not characters")
    return array


@contextmanager
def _numpy_errors(source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a foreign reader on foreign bytes raises anything
        reason = one_line((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise InputError(f"{source}: is not a NumPy file of numbers: {reason}") from error


# Delta-encoded text: small files may decode to huge texts.
_BURSTING = "DELTA_BYTE_ARRAY"


def read_parquet(
    data: bytes, source: str, *, most_cells: int, most_bytes: int
) -> dict[str, list[Any]]:
    """Read the columns of a table of numbers and texts.

    Args:
        data: the file.
        source: its name in error messages.
        most_cells: maximum number of cells.
        most_bytes: maximum uncompressed size of the table.

    Raises:
        InputError: not such a table, larger, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{source}: reading Parquet needs pyarrow (the extra palm-core[parquet])"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(io.BytesIO(data)) as file:
            about, schema = file.metadata, file.schema_arrow
            texts = _check(schema, about, most_cells, most_bytes)
        with pyarrow.parquet.ParquetFile(_Unread(data), metadata=about) as file:
            _touch(file)
        _check_encodings(about)
        # Texts remain dictionary-encoded: one long text may occur in every row.
        with pyarrow.parquet.ParquetFile(io.BytesIO(data), read_dictionary=texts) as file:
            columns: dict[str, list[Any]] = {name: [] for name in file.schema_arrow.names}
            for index in range(file.num_row_groups):
                part = file.read_row_group(index, use_threads=False)
                for name, column in zip(columns, part.columns, strict=True):
                    for chunk in column.chunks:
                        columns[name].extend(_cells(chunk))
    except Exception as error:  # a foreign reader on foreign bytes raises anything
        reason = one_line((str(error).splitlines() or [type(error).__name__])[0], 200)
        if isinstance(error, InputError):
            raise InputError(f"{source}: {reason}") from None
        raise InputError(f"{source}: is not a Parquet file: {reason}") from error
    return columns


def _check(schema: Any, about: Any, most_cells: int, most_bytes: int) -> list[str]:
    """Validate schema and size of a table; return the names of the text columns."""
    from pyarrow import types

    if len(set(schema.names)) != len(schema.names):
        raise InputError("duplicate column name")
    texts = []
    for field in schema:
        kind = getattr(field.type, "value_type", field.type)
        is_text = types.is_string(kind) or types.is_large_string(kind)
        one_value = types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind)
        if types.is_nested(field.type) or not (is_text or one_value):
            raise InputError(f"column {field.name!r} holds {kind}, must hold numbers or texts")
        texts += [field.name] * is_text
    if about.num_rows * max(len(schema.names), 1) > most_cells:
        raise InputError(f"must be a table of at most {most_cells} cells")
    groups = [about.row_group(index) for index in range(about.num_row_groups)]
    if sum(group.total_byte_size for group in groups) > most_bytes:
        raise InputError(f"must be at most {most_bytes} bytes when it is unpacked")
    return texts


class _ReachedError(Exception):
    """Raised where a column's values would be read: its metadata is valid."""


class _Unread(io.BytesIO):
    """A file object that raises on reading."""

    def read(self, *_: object) -> bytes:
        raise _ReachedError


def _touch(file: Any) -> None:
    """Parse the metadata of each column, without reading values.

    With corrupted metadata this raises, whereas ``row_group(…).column(…)`` crashes the
    process, with pyarrow 26 at least.
    """
    for index in range(file.num_row_groups):
        for name in file.schema_arrow.names:
            with suppress(_ReachedError):  # the metadata is valid
                file.read_row_group(index, columns=[name], use_threads=False)


def _check_encodings(about: Any) -> None:
    for row_group in range(about.num_row_groups):
        group = about.row_group(row_group)
        for index in range(group.num_columns):
            if _BURSTING in group.column(index).encodings:
                raise InputError(f"texts encoded as {_BURSTING} are not read")


def _cells(column: Any) -> list[Any]:
    """The values of an Arrow array; equal dictionary values share one object."""
    if not hasattr(column, "dictionary"):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


# Size limits: a table of models is small.
LARGEST_FILE = 1 << 26
LARGEST_TABLE = 1 << 22
LONGEST_NAME = 1000


@dataclass(frozen=True)
class Table:
    """Columns of equal length, in the order of the file.

    Args:
        columns: name → cells, as in the file.
        source: its name in error messages.
        lines: the line number of each row, for text files.
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
            InputError: a name that is empty, a duplicate or not printable.
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
                    raise InputError(f"{where}: duplicate name {_shown(name)}, also in {other}")
                seen[name] = index
            return list(seen)
        return [str(index) for index in range(self.n_rows)]

    def policies(self, *, maximize: Sequence[str] = (), minimize: Sequence[str] = ()) -> PolicySet:
        """Convert the named columns to objectives, those of ``minimize`` negated.

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
            raise InputError(f"duplicate objective: column {_shown(twice)}")
        if len(objectives) < 2:
            have = f"got {_shown(objectives[0])} only" if objectives else "got none"
            raise InputError(
                f"at least 2 columns to maximise or minimise are needed, {have}; "
                f"{self.source} has {_listed(self.columns)}"
            )
        if self.n_rows < 2:
            raise InputError(f"{self.source}: must have at least 2 models, has {self.n_rows}")
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
    """Read a table by its suffix: .csv, .tsv, .json, .parquet, .npy or .npz.

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
            raise InputError(f"{one_line(file)}: is a folder, must be a table: {accepted}")
        raise InputError(f"{one_line(file)}: must be a table file ending in one of {accepted}")
    return parse_table(read_bounded(file, LARGEST_FILE), file.suffix, one_line(file))


def parse_table(data: bytes, suffix: str, source: str) -> Table:
    """Parse the contents of a table file.

    Args:
        data: at most :data:`LARGEST_FILE` bytes; a table has at most
            :data:`LARGEST_TABLE` cells.
        suffix: ".csv" and so on.
        source: its name in error messages.

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
    # European spreadsheets write semicolons, others tabs; a comma takes precedence.
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
            raise InputError(f"{source}: duplicate column {_shown(name)}")
        seen.add(name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{source}: line {line} has {len(row)} cells, must have {len(header)} as line 1"
            )
    cells = list(zip(*rows[1:], strict=True)) or [()] * len(header)
    return Table(dict(zip(header, cells, strict=True)), source, lines[1:])


def _read_json(data: bytes, source: str) -> Table:
    _check_size(data.count(b","), source)
    # each is a separate object, many times the size of its two characters
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
        raise ValueError("duplicate name in one object")
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
        raise InputError(f"{source}: columns must have equal lengths, got {one_line(shown)}")
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
        except OverflowError:  # an integer beyond 1e308
            return math.inf
    # float() also reads "1_000", which is more likely a name than a score
    if isinstance(cell, str) and "_" not in cell:
        try:
            return float(cell)
        except ValueError:
            return None  # text, which the caller handles
    return None


def _listed(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:12])
    return f"the columns {one_line(shown)}" + (", …" if len(names) > 12 else "")


def _meant(cell: Any) -> str:
    """Suggestion for a number with a decimal comma."""
    with_point = cell.replace(",", ".") if isinstance(cell, str) and cell.count(",") == 1 else ""
    is_number = _number(with_point) is not None
    return f"; with a decimal point: {with_point.strip()}" if is_number else ""


def _shown(value: Any) -> str:
    return one_line(repr(value), 80)


def _on_one_line(name: str) -> str:
    """Join the lines of a header; spreadsheets wrap long ones."""
    return re.sub(r"\s*[\r\n]+\s*", " ", name.strip())
