"""PALM's GRPO oracle: a policy trained for every weighting of the objectives.

The public names below are loaded when first used: ``import palm_trl`` and listing oracles
load neither NumPy nor PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_trl.measurement import (
        Measurement,
    )
    from palm_trl.measuring import (
        measure,
    )
    from palm_trl.oracle import (
        GrpoOracle,
    )
    from palm_trl.prompt_sets import (
        PromptSet,
    )

_HOME = {
    "measurement": ("Measurement",),
    "measuring": ("measure",),
    "oracle": ("GrpoOracle",),
    "prompt_sets": ("PromptSet",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "GrpoOracle",
    "Measurement",
    "PromptSet",
    "measure",
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
