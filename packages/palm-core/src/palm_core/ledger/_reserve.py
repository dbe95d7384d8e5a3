"""A few megabytes kept back, so that a full disk does not cost the answer that fills it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "reserve"
SIZE = 4 << 20


class Reserve:
    """A file of zeros in the run's folder, there while the run is worked on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME

    def hold(self) -> None:
        """Take the space.

        Raises:
            OSError: there is not so much.
        """
        try:
            with self._file.open("wb") as stream:
                stream.write(bytes(SIZE))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            self.release()
            raise

    def release(self) -> bool:
        """Give the space back; whether there was any."""
        with suppress(OSError):  # there was none
            self._file.unlink()
            return True
        return False
