"""The machine code of kernels on disk: a cache for Numba's dispatcher that never raises.

Numba's own index is read, changed and written again without a lock, so that two processes
which compile the same function for different closures can leave the code of one under the
name of the other. And what Numba loads is not verified: a page of zeros in a file of the
right length, as a power failure leaves it, is run as machine code. Here each signature,
closure and processor has a file of its own, with a digest at its end.

Apart from :mod:`palm_core.geometry.compilation`, which does without where Numba has changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba.core import caching, config

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[object, Exception], None]

_numba: Any = caching
_SIZE = hashlib.sha256().digest_size


class DamagedFileError(Exception):
    """A file of machine code is not as it was written."""


class CodeCache(_numba.FunctionCache):  # type: ignore[misc]  # untyped
    """The cache of one function.

    Args:
        function: the kernel.
        report: called where the cache cannot be used; the kernel is then compiled in memory.

    Raises:
        RuntimeError: no folder can be written.
    """

    def __init__(self, function: Callable[..., Any], report: Report) -> None:
        super().__init__(function)
        self._report = report
        self._cache_file = _CodeFiles(
            self.cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )
        wanted = config.CACHE_DIR  # type: ignore[attr-defined]  # set at import
        if wanted and Path(wanted).absolute() not in Path(self.cache_path).absolute().parents:
            report(wanted, PermissionError(0, "it cannot be written"))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for a signature, or ``None``: it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  of any kind: bytes from a disk
            self._report(self.cache_path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, if that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # noqa: BLE001
            self._report(self.cache_path, error)


class _CodeFiles(_numba.IndexDataCacheFile):  # type: ignore[misc]  # untyped
    """A file per key: the pickled code, the digest of its key, the digest of both."""

    def load(self, key: object) -> Any:
        """What was saved under ``key``; ``None`` if nothing was, or from another source.

        Raises:
            DamagedFileError: it is not what was saved.
            OSError: it cannot be read.
        """
        name, made_from = self._place(key)
        try:
            data = Path(self._data_path(name)).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data[:-_SIZE]).digest() != data[-_SIZE:]:
            raise DamagedFileError(f"{name} is damaged")
        return self._load_data(name) if data[-2 * _SIZE : -_SIZE] == made_from else None

    def save(self, key: object, data: object) -> None:
        """Put ``data`` in the place of what is there, all of it or nothing.

        Raises:
            OSError: it cannot be written.
        """
        name, made_from = self._place(key)
        content = self._dump(data) + made_from
        with self._open_for_write(self._data_path(name)) as stream:
            stream.write(content + hashlib.sha256(content).digest())

    def flush(self) -> None:
        """Do nothing: there is no index, and code made from another source is not loaded."""

    def _place(self, key: object) -> tuple[str, bytes]:
        """The file for ``key``, and the digest of all that its code depends on."""
        name = self._data_name(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6]))
        made_from = repr((key, self._version, self._source_stamp)).encode()
        return name, hashlib.sha256(made_from).digest()
