"""Numba compilation with a disk cache, in memory where the cache is unusable."""

from __future__ import annotations

import os
import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError, PalmWarning, WorkError
from palm_core.validation import error_reason, one_line

if TYPE_CHECKING:
    from collections.abc import Callable


def available_cores() -> int:
    """The number of cores available to this process."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


# A warning of numba/core/config.py; a traceback follows.
_UNREADABLE = re.compile(r"Environment variable '(\w+)' is defined but [a-z ]*value '(.*?)'")


def _check_environment() -> None:
    """Remove ``NUMBA_…`` variables with values that would abort the process."""
    cores = available_cores()
    text = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not (text.strip().isdecimal() and 1 <= int(text) <= cores):
        del os.environ["NUMBA_NUM_THREADS"]  # Numba re-reads it at each compilation
        _warn(
            f"NUMBA_NUM_THREADS = {text!r}: must be a whole number from 1 to {cores}, the cores "
            f"that this process may use; {cores} is used"
        )
    text = os.environ.get("NUMBA_CPU_FEATURES", "")
    if not all(item[:1] in ("+", "-") for item in text.split(",") if item):
        del os.environ["NUMBA_CPU_FEATURES"]  # LLVM aborts
        _warn(
            f"NUMBA_CPU_FEATURES = {text!r}: must be names that begin with + or -, such as "
            "+avx2,-fma; it is ignored"
        )


@cache
def _numba() -> Any:
    """Import Numba, with a warning for each unusable environment variable.

    Raises:
        InputError: it does not start with the ``NUMBA_…`` variables as they are.
        WorkError: it is not installed, or does not fit what is.
    """
    _check_environment()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import numba
        except ImportError as error:
            raise WorkError(f"numba cannot be imported: {error_reason(error)}") from error
        except Exception as error:
            given = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_")]
            raise InputError(
                f"numba cannot be configured: {error_reason(error)}; it reads .numba_config.yaml "
                f"in this folder and the variables {' '.join(given) or 'NUMBA_*'}"
            ) from error
    for item in caught:
        unreadable = _UNREADABLE.match(str(item.message))
        if unreadable:
            name, value = unreadable.groups()
            _warn(f"{name} = {value!r}: numba cannot read this and uses its default")
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # set at import
        _warn("NUMBA_DISABLE_JIT is set: nothing is compiled, so loops take far longer")
    return numba


def _warn(message: str) -> None:
    warnings.warn(one_line(message), PalmWarning, stacklevel=2)


_reported: list[object] = []


def n_threads() -> int:
    """Number of threads: ``NUMBA_NUM_THREADS``, or the cores available to this process."""
    return min(max(int(_numba().config.NUMBA_NUM_THREADS), 1), available_cores())


def compiled(function: Callable[..., Any]) -> Any:
    """Compile ``function`` at its first call; cache the machine code on disk where possible."""
    dispatcher = _numba().njit(nogil=True)(function)
    if dispatcher is not function:  # equal under NUMBA_DISABLE_JIT
        try:
            from palm_core.geometry.code_cache import CodeCache

            dispatcher._cache = CodeCache(function, _report)
        except Exception as error:  # noqa: BLE001  the cache is optional
            _report(_numba().config.CACHE_DIR or Path(__file__).parent, error)
    return dispatcher


def _report(folder: object, error: Exception) -> None:
    """Warn about the cache folder, once per process."""
    if not _reported:
        _reported.append(folder)
        _warn(
            f"{folder}: compiled code cannot be kept there or read from there "
            f"({getattr(error, 'strerror', None) or error_reason(error)}); "
            "results are the same, some "
            "seconds later. NUMBA_CACHE_DIR can name a folder that is writable"
        )
