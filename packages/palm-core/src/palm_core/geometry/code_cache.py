"""Disk cache of compiled kernels for Numba's dispatcher; errors never propagate.

Numba updates its index without a lock, so that two processes which compile the same function
for different closures can store the code of one under the name of the other. And Numba does
not verify the files that it loads: a page of zeros in a file of the right length, as after a
power failure, is run as machine code. Here each signature, closure and processor has a
separate file, with a digest at its end.

Separate from :mod:`palm_core.geometry.compilation`, which works without this cache where the
internals of Numba have changed.
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
    """A cache file is corrupted."""


class CodeCache(_numba.FunctionCache):  # type: ignore[misc]  # untyped
    """The cache of one function.

    Args:
        function: the kernel.
        report: called where the cache is unusable; the kernel is then compiled in memory.

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
        """Load the code for a signature; ``None`` if it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  untrusted bytes
            self._report(self.cache_path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code for a signature, if possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # noqa: BLE001  a cache must not cost the answer
            self._report(self.cache_path, error)


class _CodeFiles(_numba.IndexDataCacheFile):  # type: ignore[misc]  # untyped
    """One cache file per key: the pickled code, the digest of its key, the digest of both."""

    def load(self, key: object) -> Any:
        """Load the data of ``key``; ``None`` if there is none, or from another source version.

        Raises:
            DamagedFileError: it is not what was saved.
            OSError: it cannot be read.
        """
        name, made_from = self._place(key)
        try:
            data = Path(self._data_path(name)).read_bytes()
        except FileNotFoundError:  # not compiled yet
            return None
        if hashlib.sha256(data[:-_SIZE]).digest() != data[-_SIZE:]:
            raise DamagedFileError(f"{name} is damaged")
        return self._load_data(name) if data[-2 * _SIZE : -_SIZE] == made_from else None

    def save(self, key: object, data: object) -> None:
        """Write ``data`` atomically, replacing an existing file.

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
        """The path for ``key``, and the digest of everything that its code depends on."""
        name = self._data_name(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6]))
        made_from = repr((key, self._version, self._source_stamp)).encode()
        return name, hashlib.sha256(made_from).digest()
