"""The kinds of values that options take: what help calls them, and what is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from palm_core.text import read_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _wholes(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(int(token.value) for token in tokens)
    except ValueError:
        raise ValueError("must be whole numbers with spaces between: 1 2 3") from None


def _number(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value.strip()
    try:
        return read_number(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number{_meant(text)}") from None


def _meant(text: str) -> str:
    """What was meant by a share in percent, or by a decimal comma."""
    share = text.endswith("%")
    written = text.removesuffix("%").strip().replace(",", ".")
    try:
        value = float(written)
    except ValueError:
        return ""
    return f"; {written} % is {value / 100:g}" if share else f", with a point: {written}"


def _path(_: Any, tokens: Sequence[Token]) -> Path:
    text = tokens[0].value
    if not text:
        raise ValueError("must not be empty")
    try:
        return Path(text).expanduser()  # --out=~/runs: shells leave that one to us
    except RuntimeError:
        raise ValueError("no such home folder") from None


def _task(type_: Any, tokens: Sequence[Token]) -> Path:
    file = _path(type_, tokens)
    if file.suffix.lower() in _TABLES:
        raise ValueError("must be a task, a .toml file; palm select is for tables of models")
    return file


_TABLES = (".csv", ".tsv", ".parquet", ".npy", ".npz")
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Count = Annotated[int, Parameter(converter=_whole, metavar="N")]
Counts = Annotated[
    tuple[int, ...],
    Parameter(
        converter=_wholes, consume_multiple=True, negative="", show_default=False, metavar="N..."
    ),
]
Number = Annotated[float, Parameter(converter=_number, metavar="NUMBER", allow_leading_hyphen=True)]
Columns = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, negative="", show_default=False, metavar="COLUMN..."),
]
Names = Annotated[tuple[str, ...], Parameter(negative="", show_default=False, metavar="NAME")]
File = Annotated[Path, Parameter(converter=_path, metavar="FILE")]
Folder = Annotated[Path, Parameter(converter=_path, metavar="DIR")]
TaskFile = Annotated[Path, Parameter(converter=_task, name="TASK")]
TaskOption = Annotated[Path, Parameter(converter=_task, metavar="TASK")]
RunFolder = Annotated[Path, Parameter(converter=_path, name="RUN")]
TablePath = Annotated[Path, Parameter(converter=_path, name="TABLE")]
TableOption = Annotated[Path, Parameter(converter=_path, metavar="TABLE")]
PortfolioPath = Annotated[Path, Parameter(converter=_path, name="PORTFOLIO")]
Weightings = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, negative="", show_default=False, metavar="NAME=VALUE,..."),
]
