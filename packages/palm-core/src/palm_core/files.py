"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from palm_core.errors import WorkError

if TYPE_CHECKING:
    from pathlib import Path


def write_atomically(file: Path, data: bytes) -> None:
    """Replace ``file`` by ``data``: readers see the old contents or the new ones.

    Raises:
        WorkError: the file cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise WorkError(f"{file}: cannot be written: {error.strerror or error}") from error
