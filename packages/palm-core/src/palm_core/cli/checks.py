"""What commands refuse before any work is done: options apart, files not ours."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.files import is_folder, is_special
from palm_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from palm_core.tables import Table

#: How far into a file its kind is looked for.
BEGINNING = 4096


def check_curve(curve: bool, most: object, others: Mapping[str, Any]) -> None:
    """Refuse options that ``--curve`` leaves nothing to do for, and ``--most`` without it."""
    for name, value in others.items():
        if curve and value is not None:
            raise InputError(f"--curve finds all sizes itself: it does not go with --{name}")
    if most is not None and not curve:
        raise InputError(f"--most {most}: goes with --curve only")


def check_portfolio_file(save: Path | None) -> None:
    """Refuse a ``--save`` that would write over something else than a portfolio."""
    if save is not None:
        file = save / "portfolio.json" if is_folder(save) else save
        check_new(file, "--save", "portfolio", b'"palm-portfolio"')


def check_out(folder: Path, option: str = "--out") -> None:
    """Refuse a folder that cannot be written to, or made. Makes none."""
    name = f"{option} {one_line(folder)}"
    try:
        if folder.is_file():
            raise InputError(f"{name}: is a file, must be a folder")
        place = next(one for one in (folder, *folder.parents) if one.exists())
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise InputError(f"{name}: is no folder and cannot be made: {reason}") from error
    if not place.is_dir():
        raise InputError(f"{name}: is no folder and cannot be made: {one_line(place)} is a file")
    if not os.access(place, os.W_OK):
        raise InputError(f"{name}: cannot be written to")


def check_apart(option: str, names: Iterable[str], columns: Collection[str]) -> None:
    """Refuse columns that were named with commas between: a column's name may have one."""
    for name in names:
        parts = [part.strip() for part in name.split(",") if part.strip()]
        if name not in columns and "," in name and all(part in columns for part in parts):
            raise InputError(
                f"--{option} {one_line(name)}: names take spaces between: --{option} "
                f"{' '.join(parts)}"
            )


def objectives_example(
    table: Table, file: Path, maximize: Sequence[str], minimize: Sequence[str]
) -> str:
    """Return "; for example: palm select …" with two of the table's columns, if fewer are named."""
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
    except InputError:
        return False
    return True


def check_new(file: Path, option: str, kind: str, mark: bytes) -> None:
    """Refuse to write over a file that is something else, before any work is done.

    Args:
        file: that is going to be written; where there is none, all is well.
        option: that named it.
        kind: what the command writes.
        mark: what such a file has near its beginning.

    Raises:
        InputError: the file is there and is not of that kind.
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
        return  # what is wrong with it is said where it is written
    if beginning and mark not in beginning:
        raise InputError(f"{name}: is there already and is no {kind}; name another file")
