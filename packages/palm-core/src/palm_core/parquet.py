"""Parquet files from elsewhere, read so that a small file cannot fill the memory."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

from palm_core.errors import InputError
from palm_core.text import one_line

# Each text is written as its difference from the one before: small files of huge texts.
_BURSTING = "DELTA_BYTE_ARRAY"


def read_parquet(
    data: bytes, source: str, *, most_cells: int, most_bytes: int
) -> dict[str, list[Any]]:
    """Read the columns of a table of numbers and texts.

    Args:
        data: the file.
        source: what error messages call it.
        most_cells: the greatest number of cells.
        most_bytes: the largest size of the table when it is unpacked.

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
        # Texts stay in the file's dictionary: one long text may stand in every row.
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
    """Refuse what is no small table; return the names of the columns of texts."""
    from pyarrow import types

    if len(set(schema.names)) != len(schema.names):
        raise InputError("two columns have the same name")
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
    """Values of a column would be read now: what is said about it was in order."""


class _Unread(io.BytesIO):
    """A file whose bytes cannot be read."""

    def read(self, *_: object) -> bytes:
        raise _ReachedError


def _touch(file: Any) -> None:
    """Have the reader look at what is said about each column, without reading any.

    Where that is broken, the reader raises; ``row_group(…).column(…)`` ends the process,
    with pyarrow 26 at least.
    """
    for index in range(file.num_row_groups):
        for name in file.schema_arrow.names:
            with suppress(_ReachedError):
                file.read_row_group(index, columns=[name], use_threads=False)


def _check_encodings(about: Any) -> None:
    for row_group in range(about.num_row_groups):
        group = about.row_group(row_group)
        for index in range(group.num_columns):
            if _BURSTING in group.column(index).encodings:
                raise InputError(f"texts encoded as {_BURSTING} are not read")


def _cells(column: Any) -> list[Any]:
    """The values of an Arrow array; equal ones of a dictionary are one object."""
    if not hasattr(column, "dictionary"):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]
