"""Files: atomic writes, bounded reads, portable names, package versions."""

from __future__ import annotations

import os
import platform
import re
import stat
import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

from palm_core.errors import InputError, WorkError
from palm_core.validation import nearest, one_line


def write_atomically(file: Path, data: bytes) -> None:
    """Replace ``file`` by ``data`` atomically: readers see the old contents or the new ones.

    Raises:
        WorkError: the file cannot be written, or is a device or a pipe, which a file is
            not put in place of.
    """
    if is_special(file):
        raise WorkError(f"{one_line(file)}: is a pipe, a socket or a device, must be a file")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):  # the original error is reported
            temporary.unlink()
        raise WorkError(f"{one_line(file)}: cannot be written: {_reason(error)}") from error


def read_bounded(file: Path, most: int, *, kind: str = "file") -> bytes:
    """Read a regular file of at most ``most`` bytes; never blocks on a pipe or a device.

    Args:
        file: the path.
        most: the size limit in bytes.
        kind: kind of file, for error messages.

    Raises:
        InputError: one line: no such file, something else than a file, too large, or
            it cannot be read.
    """
    name = one_line(file)
    try:
        # Checked before opening: opening a device may have side effects.
        _check_regular(file.stat(), name, kind)
        # A pipe created in between would block a plain open().
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            _check_regular(found, name, kind)
            if found.st_size > most:
                raise InputError(f"{name}: {found.st_size} bytes, must be at most {most}")
            data = stream.read(most + 1)  # it may grow, or (as in /proc) report no size
    except FileNotFoundError:
        raise InputError(f"{name}: no such {kind}{may_be_meant(file)}") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {_reason(error)}") from error
    if len(data) > most:
        raise InputError(f"{name}: more than {most} bytes, must be at most {most}")
    return data


def may_be_meant(missing: Path) -> str:
    """Hint for "no such file": the nearest name in its folder, or that the folder is missing."""
    folder = missing.parent
    try:
        with os.scandir(folder) as entries:
            names = [Path(entry.name) for entry in islice(entries, MOST_NAMES)]
    except FileNotFoundError:
        return f" (the folder {one_line(folder)} does not exist)"
    except (OSError, ValueError):
        return ""
    # By stem, since many share the suffix.
    names.sort(key=lambda name: (name.suffix == missing.suffix, name))
    stems = {name.stem: name for name in names if not name.name.startswith(".")}
    near = nearest(missing.stem, stems)
    return "" if near is None else f"; did you mean {one_line(repr(str(folder / stems[near])))}?"


def not_a_folder(path: Path, kind: str) -> InputError:
    """The error for a path that is not a folder: missing, or of another kind."""
    name = one_line(path)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if exists:
        return InputError(f"{name}: is a file, must be a {kind}")
    return InputError(f"{name}: no such {kind}{may_be_meant(path)}")


def unportable_name(name: str) -> str | None:
    """Why a file name is not portable, or ``None``."""
    if found := _UNFIT.search(name):
        return f"has {found[0]!r}"
    if name.endswith((".", " ")):
        return "ends in a dot or a space"
    if name.partition(".")[0].strip().upper() in _DEVICES:
        return "is reserved on Windows"
    if len(name.encode(errors="replace")) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return None


def is_special(path: Path) -> bool:
    """Whether ``path`` exists and is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # missing, no access, or a NUL byte in the name
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; false where access is denied."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no access, or a NUL byte in the name
        return False


#: Maximum length of a file name that we create, in bytes; systems allow 255.
LONGEST_NAME = 200
_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{name}{number}" for name in ("COM", "LPT") for number in "123456789¹²³"
}
#: Number of names in a folder that are searched for suggestions.
MOST_NAMES = 2000
_BINARY = getattr(os, "O_BINARY", 0)  # for Windows


def _check_regular(found: os.stat_result, name: str, kind: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{name}: is a folder, must be a {kind}")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{name}: is a pipe, a socket or a device, must be a {kind}")


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)


@cache
def known_packages() -> dict[str, dict[str, list[str]]]:
    """Packages that extend palm-core, installed or not: the content of ``packages.toml``."""
    return tomllib.loads((Path(__file__).parents[1] / "packages.toml").read_text("utf-8"))


def providers(kind: str) -> dict[str, tuple[str, ...]]:
    """Name → the packages to install for it, its provider last.

    Args:
        kind: "oracles", "commands" or "exporters".
    """
    return {
        name: (*entry["requires"], package)
        for package, entry in known_packages().items()
        for name in entry.get(kind, ())
    }


#: Packages that the arithmetic on answers depends on.
PACKAGES = ("palm-core", "numpy", "scipy", "numba", "pulp")
# Libraries that answers may depend on.
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "ray")


def package_versions(*more: str) -> dict[str, str]:
    """Package → version of Python, our packages and ``more``, as far as installed."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # not installed
    return found


def oracle_versions() -> dict[str, str]:
    """:func:`package_versions` of all packages that answers may depend on."""
    return package_versions(
        *(name for name in known_packages() if name != "palm-core"), *_LIBRARIES
    )
