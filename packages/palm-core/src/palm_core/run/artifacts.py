"""Artifacts: atomic writes of models into a folder beside the ledger, content hashes.

An oracle writes an artifact under a temporary name and renames it when it is complete
(:func:`write_artifact`). The run records a content hash, and never follows a path out of
its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from palm_core.errors import InputError, OracleAnswerError, WorkError
from palm_core.model.files import unportable_name
from palm_core.validation import is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Name of the folder for artifacts in a run's folder.
ARTIFACTS = "artifacts"
_TEMPORARY = ".writing-"
_REPLACED = ".replaced-"
_BLOCK = 1 << 20
# Windows flushes only files that are open for writing.
_TO_FLUSH = os.O_RDONLY if os.name == "posix" else os.O_RDWR


@dataclass(frozen=True)
class Artifact:
    """A recorded file or folder in the run's folder for artifacts.

    Args:
        path: relative to that folder, with forward slashes.
        sha256: content hash: of the file, or of all names in the folder, empty
            folders too, with the hashes of files and the targets of links;
            without dates, owners and permissions.
        bytes: total size of its files.
    """

    path: str
    sha256: str
    bytes: int


@contextmanager
def write_artifact(folder: str | Path, name: str) -> Iterator[Path]:
    """Write an artifact atomically: complete or absent, whenever the writer is killed.

    Yields an empty folder with a temporary name; when the block ends without an
    exception, its files are flushed to disk and it is renamed to ``folder/name``,
    replacing an older one. Incomplete folders of earlier writers of ``name`` are removed.

    Args:
        folder: the run's folder for artifacts, the factory parameter ``artifact_dir``.
        name: of the artifact, usually the policy's id: a portable file name.

    Raises:
        InputError: ``name`` is not a plain file name.
        OSError: as the file system says, for the oracle to pass on.
    """
    reserved = name.startswith((_TEMPORARY, _REPLACED))
    # Path.name differs from a Windows path with a drive.
    nameless = not name or reserved or name in {".", ".."}
    if nameless or not _is_plain(name) or Path(name).name != name:
        shown = one_line(repr(name), 80)
        raise InputError(f"name = {shown}: must be a plain file name, without slashes")
    if unfit := unportable_name(name):
        raise InputError(
            f"name = {one_line(repr(name), 80)}: {unfit}; must be a valid file name on every "
            'system, without < > : " | ? *'
        )
    parent = Path(folder)
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / name
    temporary, replaced = parent / f"{_TEMPORARY}{name}", parent / f"{_REPLACED}{name}"
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for _, file, _ in _entries(temporary):
            _flush(file)
        _flush(temporary)
        # Renamed before removal: otherwise a partly removed one would be visible.
        _remove(replaced)
        with suppress(FileNotFoundError):  # no earlier one
            final.rename(replaced)
        temporary.rename(final)
        _flush(parent)
        _remove(replaced)
    except BaseException:
        _remove(temporary)
        raise


def seal(folder: Path, given: str) -> Artifact | None:
    """Hash the artifact of an answer; ``None`` for one outside the run's folder.

    Args:
        folder: the run's folder for artifacts.
        given: from the oracle: a path, relative to ``folder`` or absolute, or a URI.

    Raises:
        OracleAnswerError: a relative path to nothing or out of the folder, or what it
            leads to cannot be read.
    """
    if "://" in given:
        return None
    path = Path(given)
    if path.is_absolute():
        # ``folder`` may contain symbolic links, as /tmp on macOS.
        roots = [r for r in (folder.absolute(), folder.resolve()) if path.is_relative_to(r)]
        if not roots:
            return None
        path = path.relative_to(roots[0])
    name = path.as_posix()
    try:
        digest, size = content_hash(locate_artifact(folder, name))
    except InputError as error:
        raise OracleAnswerError(str(error)) from error
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise OracleAnswerError(f"artifact {_shown(name)}: cannot be read: {reason}") from error
    return Artifact(name, digest, size)


def locate_artifact(folder: str | Path, name: str) -> Path:
    """Resolve the artifact ``name`` in a run's folder for artifacts.

    Raises:
        InputError: ``name`` is absolute, leads out of ``folder`` (by its parts or by a
            link), or the file does not exist.
    """
    parts, shown = PurePosixPath(name).parts, f"artifact {_shown(name)}"
    if not parts or name.startswith(("/", "\\")) or ".." in parts or not all(map(_is_plain, parts)):
        raise InputError(f"{shown}: must be a path inside the run's {ARTIFACTS} folder")
    try:
        root = Path(folder).resolve()
        found = (root / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop of links
        raise InputError(f"{shown}: no such file in {one_line(folder)}") from None
    if not found.is_relative_to(root):
        raise InputError(f"{shown}: must be inside {one_line(folder)}")
    return found


def reached(run: str | Path, given: str | None) -> str | None:
    """Resolve a policy's artifact to a path below ``run``, if it is in the run's folder.

    Others (a URI, an absolute path, a missing file) are returned unchanged.
    """
    if given is None or "://" in given or Path(given).is_absolute():
        return given
    folder = Path(run) / ARTIFACTS
    try:
        locate_artifact(folder, given)
    except InputError:
        return given
    return str(folder / given)


def content_hash(path: Path) -> tuple[str, int]:
    """SHA-256 and size in bytes of a file, or of all files in a folder.

    Symbolic links are hashed as links, not followed.

    Raises:
        OracleAnswerError: it holds something that is neither file, folder nor link.
        OSError: something in it cannot be read.
    """
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        raise OracleAnswerError(f"artifact {_shown(path.name)}: is neither a file nor a folder")
    digest, total = hashlib.sha256(b"palm artifact 1\n"), 0
    found = {name: (file, mode) for name, file, mode in _entries(path)}
    for name, (file, mode) in sorted(found.items()):
        if stat.S_ISLNK(mode):
            entry = ["link", os.readlink(file)]  # noqa: PTH115  as text, unresolved
        elif stat.S_ISDIR(mode):
            entry = ["folder"]
        elif stat.S_ISREG(mode):
            content, size = _file_hash(file)
            entry, total = ["file", content], total + size
        else:
            raise OracleAnswerError(f"artifact {_shown(name)}: is neither a file nor a folder")
        # as JSON: unambiguous separation of entries
        digest.update(json.dumps([name, *entry]).encode() + b"\n")
    return digest.hexdigest(), total


def verify_artifact(folder: str | Path, artifact: Artifact) -> str | None:
    """Compare an artifact with its record: the difference as text, or ``None``."""
    try:
        digest, size = content_hash(locate_artifact(folder, artifact.path))
    except (InputError, WorkError, OracleAnswerError) as error:
        return str(error)
    except OSError as error:
        reason = one_line(error.strerror or error)
        return f"artifact {_shown(artifact.path)}: cannot be read: {reason}"
    if digest != artifact.sha256:
        return (
            f"artifact {_shown(artifact.path)}: has changed since it was recorded "
            f"({artifact.bytes} bytes then, {size} now)"
        )
    return None


def _file_hash(file: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _entries(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """All entries of a folder, recursively: relative name, path, mode; links are not followed."""
    waiting = [("", folder)]
    while waiting:
        above, inner = waiting.pop()
        with os.scandir(inner) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                name, path = above + entry.name, Path(entry.path)
                yield name, path, mode
                if stat.S_ISDIR(mode):
                    waiting.append((name + "/", path))


def _remove(path: Path) -> None:
    with suppress(OSError):  # it may be gone; a remainder only takes disk space
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _flush(path: Path) -> None:
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return  # nothing to flush; opening a pipe would block
    # Some systems cannot open or flush folders.
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, _TO_FLUSH)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _shown(name: str) -> str:
    return one_line(repr(name), 80)


def _is_plain(name: str) -> bool:
    return is_plain(name) and not any(mark in name for mark in ("/", "\\", "\0"))
