"""PALM's GRPO oracle: a policy trained for every weight vector of the objectives.

The public names below are loaded when first used: ``import palm_trl`` and listing oracles
load neither NumPy nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_trl.grpo import GrpoOracle
    from palm_trl.measurement import Measurement
    from palm_trl.measuring import measure
    from palm_trl.options import GrpoSettings, PromptSet


__all__ = [
    "GrpoOracle",
    "GrpoSettings",
    "Measurement",
    "PromptSet",
    "measure",
]

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
