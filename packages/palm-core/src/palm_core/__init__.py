"""PALM: which few policies are enough, and how good is "enough", provably.

The public names below are loaded when first used, so that ``import palm_core``
costs milliseconds and needs neither Numba nor SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_core.errors import InputError, OracleAnswerError, PalmError, PluginError, WorkError
    from palm_core.policies import Policy, PolicySet
    from palm_core.portfolio import Portfolio
    from palm_core.simplex import check_weights, sample_weights, uniform_lattice

_HOME = {
    "errors": ("InputError", "OracleAnswerError", "PalmError", "PluginError", "WorkError"),
    "policies": ("Policy", "PolicySet"),
    "portfolio": ("Portfolio",),
    "simplex": ("check_weights", "sample_weights", "uniform_lattice"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "InputError",
    "OracleAnswerError",
    "PalmError",
    "PluginError",
    "Policy",
    "PolicySet",
    "Portfolio",
    "WorkError",
    "check_weights",
    "sample_weights",
    "uniform_lattice",
]


def __getattr__(name: str) -> Any:
    module = _MODULE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE})
