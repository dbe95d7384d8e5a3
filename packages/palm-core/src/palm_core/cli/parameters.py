"""Parameters of commands: types, validation, weights."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from palm_core.cli import output
from palm_core.errors import InputError
from palm_core.model.files import is_folder, is_special
from palm_core.validation import SUM_TOLERANCE, did_you_mean, one_line, read_number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cyclopts import Token

    from palm_core.tables.read import Table


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _wholes(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    try:
        return tuple(int(token.value) for token in tokens)
    except ValueError:
        raise ValueError("must be whole numbers separated by spaces: 1 2 3") from None


def _number(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value.strip()
    try:
        return read_number(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number{_meant(text)}") from None


def _meant(text: str) -> str:
    """Suggestion for a share in percent or a decimal comma."""
    share = text.endswith("%")
    written = text.removesuffix("%").strip().replace(",", ".")
    try:
        value = float(written)
    except ValueError:
        return ""
    return f"; {written} % is {value / 100:g}" if share else f" with a decimal point: {written}"


def _path(_: Any, tokens: Sequence[Token]) -> Path:
    text = tokens[0].value
    if not text:
        raise ValueError("must not be empty")
    try:
        return Path(text).expanduser()  # shells do not expand --out=~/runs
    except RuntimeError:
        raise ValueError("the home folder does not exist") from None


def _task(type_: Any, tokens: Sequence[Token]) -> Path:
    file = _path(type_, tokens)
    if file.suffix.lower() in _TABLES:
        raise ValueError("must be a task, a .toml file; for a table of models use palm select")
    return file


_TABLES = (".csv", ".tsv", ".parquet", ".npy", ".npz")
#: Option without a value.
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
#: Whole number.
Count = Annotated[int, Parameter(converter=_whole, metavar="N")]
#: Several whole numbers after one option.
Counts = Annotated[
    tuple[int, ...],
    Parameter(
        converter=_wholes, consume_multiple=True, negative="", show_default=False, metavar="N..."
    ),
]
#: Number, which may be negative.
Number = Annotated[float, Parameter(converter=_number, metavar="NUMBER", allow_leading_hyphen=True)]
#: Several names of columns after one option.
Columns = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, negative="", show_default=False, metavar="COLUMN..."),
]
#: Name; the option may be given several times.
Names = Annotated[tuple[str, ...], Parameter(negative="", show_default=False, metavar="NAME")]
#: Path of a file, as the value of an option.
File = Annotated[Path, Parameter(converter=_path, metavar="FILE")]
#: Path of a folder, as the value of an option.
Folder = Annotated[Path, Parameter(converter=_path, metavar="DIR")]
#: Positional path of a task file.
TaskFile = Annotated[Path, Parameter(converter=_task, name="TASK")]
#: Path of a task file, as the value of an option.
TaskOption = Annotated[Path, Parameter(converter=_task, metavar="TASK")]
#: Positional path of a run's folder.
RunFolder = Annotated[Path, Parameter(converter=_path, name="RUN")]
#: Positional path of a table.
TablePath = Annotated[Path, Parameter(converter=_path, name="TABLE")]
#: Path of a table, as the value of an option.
TableOption = Annotated[Path, Parameter(converter=_path, metavar="TABLE")]
#: Positional path of a portfolio or a run.
PortfolioPath = Annotated[Path, Parameter(converter=_path, name="PORTFOLIO")]
#: Weights as NAME=VALUE,…, several after one option.
WeightVectors = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, negative="", show_default=False, metavar="NAME=VALUE,..."),
]

#: Bytes of a file that are searched for its kind.
BEGINNING = 4096


def check_curve(curve: bool, most: object, others: Mapping[str, Any]) -> None:
    """Refuse options without effect beside ``--curve``, and ``--most`` without it."""
    for name, value in others.items():
        if curve and value is not None:
            raise InputError(f"--curve and --{name} exclude each other; --curve shows all sizes")
    if most is not None and not curve:
        raise InputError(f"--most {most}: requires --curve")


def check_portfolio_file(save: Path | None) -> None:
    """Refuse a ``--save`` that would overwrite a file other than a portfolio."""
    if save is not None:
        from palm_core.model.portfolio import PORTFOLIO_FILE

        file = save / PORTFOLIO_FILE if is_folder(save) else save
        check_new_file(file, "--save", "portfolio", b'"palm-portfolio"')


def check_output_folder(folder: Path, option: str = "--out") -> None:
    """Refuse a folder that is not writable or cannot be created; creates none.

    Raises:
        InputError: ``folder`` is a file, cannot be created or is not writable.
    """
    name = f"{option} {one_line(folder)}"
    try:
        if folder.is_file():
            raise InputError(f"{name}: is a file, must be a folder")
        place = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise InputError(f"{name}: cannot be created: {reason}") from error
    if not place.is_dir():
        raise InputError(f"{name}: cannot be created: {one_line(place)} is a file")
    if not os.access(place, os.W_OK):
        raise InputError(f"{name}: is not writable")


def check_apart(option: str, names: Iterable[str], columns: Collection[str]) -> None:
    """Refuse comma-separated columns, since a column's name may contain a comma."""
    for name in names:
        parts = [part.strip() for part in name.split(",") if part.strip()]
        if name not in columns and "," in name and all(part in columns for part in parts):
            raise InputError(
                f"--{option} {one_line(name)}: names must be separated by spaces: --{option} "
                f"{' '.join(parts)}"
            )


def objectives_example(
    table: Table, file: Path, maximize: Sequence[str], minimize: Sequence[str]
) -> str:
    """Return "; for example: palm select …" with two columns of the table, if fewer are named."""
    given = [*maximize, *minimize]
    more = [name for name in table.columns if name not in given and _holds_numbers(table, name)]
    if len(given) > 1 or len(given) + len(more) < 2 or not {*given} <= {*table.columns}:
        return ""
    words = ["palm", "select", str(file)]
    if kept := [*maximize, *more[: 2 - len(given)]]:
        words += ["--maximize", *kept]
    if minimize:
        words += ["--minimize", *minimize]
    return f"; for example: {shlex.join(words)}"


def _holds_numbers(table: Table, column: str) -> bool:
    try:
        table.numbers(column)
    except InputError:  # a column of texts
        return False
    return True


def check_new_file(file: Path, option: str, kind: str, mark: bytes) -> None:
    """Refuse to overwrite a file of another kind, before any work is done.

    Args:
        file: the file to write; it need not exist.
        option: the option that named it.
        kind: what the command writes.
        mark: bytes near the beginning of such a file.

    Raises:
        InputError: the file exists and is not of that kind.
    """
    name = f"{option} {one_line(file)}"
    if is_special(file):
        raise InputError(f"{name}: is a pipe, a socket or a device, must be a file")
    if is_folder(file):
        raise InputError(f"{name}: is a folder, must be a file")
    try:
        if not file.is_file():
            return
        with file.open("rb") as stream:
            beginning = stream.read(BEGINNING)
    except (OSError, ValueError):
        return  # the later write reports the error
    if beginning and mark not in beginning:
        raise InputError(f"{name}: exists and is not a {kind}; must be a new file or a {kind}")


def read_weight_vectors(texts: Sequence[str], objectives: Sequence[str]) -> list[list[float]]:
    """Parse weights, one row per text, in the order of the objectives; omitted ones are 0.

    Raises:
        InputError: a text is not a weight vector of these objectives.
    """
    found = [_named(text, objectives) for text in texts]
    for text, named in zip(texts, found, strict=True):
        _check(text, named, found)
    return [[named.get(name, 0.0) for name in objectives] for named in found]


def _named(text: str, objectives: Sequence[str]) -> dict[str, float]:
    shown = f"--weights {one_line(text, 200)}"
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        name = name.strip()
        if not equals:
            example = output.example_weights(objectives)
            raise InputError(f"{shown}: {part!r}: must be name=value; for example {example}")
        if name not in objectives:
            ask = did_you_mean(name, objectives)
            accepted = f"must be one of {', '.join(objectives)}{ask}"
            raise InputError(f"{shown}: unknown objective {name!r}: {accepted}")
        if name in found:
            raise InputError(f"{shown}: duplicate objective {name!r}")
        try:
            found[name] = read_number(value)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{shown}: {value!r}: must be a number such as 0.5") from None
        if not math.isfinite(found[name]) or found[name] < 0:
            raise InputError(f"{shown}: {name} = {value}: must be in [0, 1]")
    return found


def _check(text: str, named: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> None:
    """Refuse weights that do not add to 1, with a suggestion."""
    total = math.fsum(named.values())
    if abs(total - 1.0) <= SUM_TOLERANCE:
        return
    ask = ""
    if total > 0:
        ask = f"; in the same proportions: {_written(_in_proportion(named, total))}"
    together = {name: value for other in others for name, value in other.items()}
    apart = len(others) > 1 and len(together) == sum(map(len, others))
    if apart and abs(math.fsum(together.values()) - 1.0) <= SUM_TOLERANCE:
        ask = f"; write one weight vector without spaces: {_written(together)}"
    numbers = " and ".join(f"{value:g}" for value in named.values())
    adds = f"{numbers} add to {total:g}" if len(named) > 1 else f"adds to {total:g}"
    raise InputError(f"--weights {one_line(text, 200)}: {adds}, must add to 1{ask}")


def _in_proportion(named: Mapping[str, float], total: float) -> dict[str, float]:
    """The weights divided by their sum, in three digits that add to 1."""
    shares = {name: round(value / total, 3) for name, value in named.items()}
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] = round(shares[largest] + 1.0 - math.fsum(shares.values()), 3)
    return shares


def _written(named: Mapping[str, float]) -> str:
    return ",".join(f"{name}={value:g}" for name, value in named.items())
