"""JSON of the model's classes: types of fields with their limits, arrays, schema.

A class that is stored is a dataclass whose fields are annotated with what JSON may hold; the
same object is used in memory, so there is one declaration of each.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_origin

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from palm_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    Bound = float
else:
    #: A number ≥ 0; ∞ in memory is null in JSON, which has no infinity.
    Bound = Annotated[float, Meta(ge=0.0)] | None

T = TypeVar("T")

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Amount = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]
Array = NDArray[np.float64]
Indices = NDArray[np.intp]
#: An array of shares, such as a weight vector (d,); :func:`check_vector` checks it.
Shares = Annotated[
    Array, Meta(extra_json_schema={"items": {"type": "number", "minimum": 0, "maximum": 1}})
]
#: An array of numbers ≥ 0.
Amounts = Annotated[Array, Meta(extra_json_schema={"items": {"type": "number", "minimum": 0}})]
#: An array (p, d).
Matrix = Annotated[
    Array,
    Meta(extra_json_schema={"items": {"type": "array", "items": {"type": "number"}}}),
]


class Record:
    """Base of stored classes with arrays: equal where all fields are equal."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and bool(plain(self) == plain(other))

    # As Python does for a class with __eq__; mypy knows __hash__ as a method.
    __hash__ = None  # type: ignore[assignment]


def plain(value: Any) -> Any:
    """Convert dataclasses and NumPy arrays to plain values: lists, numbers, dictionaries."""
    return msgspec.to_builtins(value, enc_hook=_to_list)


def stored(value: Any) -> dict[str, Any]:
    """The plain values of a dataclass without the fields in its ``NOT_STORED``."""
    left_out = value.NOT_STORED
    return {
        item.name: plain(getattr(value, item.name))
        for item in fields(value)
        if item.name not in left_out
    }


def encode(value: Any) -> bytes:
    """Encode as JSON; ±∞ and NaN become null."""
    return msgspec.json.encode(value, enc_hook=_to_list)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Decode JSON as an object of a dataclass; unknown keys are ignored.

    Raises:
        msgspec.MsgspecError: it is no JSON, or not of that class; the text names the field.
        RecursionError: nested too deep.
    """
    return msgspec.json.decode(data, type=kind, dec_hook=_to_array)


def convert(value: Any, kind: type[T]) -> T:
    """:func:`decode` for plain values."""
    return msgspec.convert(value, kind, dec_hook=_to_array)


def json_schema(kind: type, partly: Iterable[Any] = ()) -> dict[str, Any]:
    """The JSON Schema of a dataclass; of the classes ``partly`` without their ``NOT_STORED``."""
    found = msgspec.json.schema(kind, schema_hook=_array_schema)
    schema: dict[str, Any] = msgspec.json.decode(encode(found))  # lists in place of tuples
    records = schema["$defs"]
    for part in partly:
        for name in part.NOT_STORED:
            del records[part.__name__]["properties"][name]
    for record in records.values():
        if "description" in record:  # a docstring; Python 3.13 removes its indentation
            text = inspect.cleandoc(record["description"])
            record["description"] = text.partition("\n\n")[0].replace("\n", " ")
    return schema


def _to_list(value: Any) -> Any:
    """Convert NumPy arrays and scalars for JSON."""
    return value.tolist()


def _to_array(kind: Any, value: Any) -> Any:
    if get_origin(kind) is not np.ndarray:
        raise NotImplementedError(f"{kind} is not a type of stored fields")
    number = int if kind == Indices else float
    deep = isinstance(value, list) and any(isinstance(item, list) for item in value)
    try:
        # mypy takes no variable for a type.
        items = msgspec.convert(value, list[list[number]] if deep else list[number])  # type: ignore[valid-type]
        return np.array(items, dtype=np.intp if number is int else np.float64)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        # Plain ValueErrors are reported with the path of the field.
        raise ValueError(f"must be an array of numbers ({error})") from error


def _array_schema(kind: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer" if kind == Indices else "number"}}


def check_vector(
    vector: NDArray[np.float64] | None, d: int, name: str, *, most: float = np.inf
) -> None:
    """Check that a vector of a file has d values between 0 and ``most``.

    Raises:
        InputError: it has not.
    """
    if vector is None:
        return
    values = np.asarray(vector, dtype=float)
    if values.shape != (d,) or not ((values >= 0) & (values <= most)).all():
        limit = f"from 0 to {most:g}" if np.isfinite(most) else "of at least 0"
        raise InputError(f"{name}: must be {d} numbers {limit}")
