"""Checkpoints that a killed call goes on from: whole, or not there."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_WHOLE = "whole"


def mark_whole(folder: str | Path, step: int) -> None:
    """Say that the checkpoint of ``step`` is complete, once it is on disk.

    Raises:
        OSError: the disk is full, or gone.
    """
    checkpoint = Path(folder) / f"checkpoint-{step}"
    for file in checkpoint.rglob("*"):
        if file.is_file():
            _flush(file)
    mark = checkpoint / _WHOLE
    mark.write_bytes(b"")
    _flush(mark)
    with suppress(OSError):  # some file systems cannot flush folders
        _flush(checkpoint)


def last_whole(folder: Path, *, clean: bool = False) -> Path | None:
    """The latest checkpoint in ``folder`` that is complete, or ``None``.

    Args:
        folder: of checkpoints; need not be there.
        clean: remove those that are not.
    """
    found = {}
    for checkpoint in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(checkpoint.name)
        if match and (checkpoint / _WHOLE).is_file():
            found[int(match[1])] = checkpoint
        elif clean:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return found[max(found)] if found else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
