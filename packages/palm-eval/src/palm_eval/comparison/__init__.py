"""PALM beside its baselines at every size and budget: the numbers of the paper's tables."""

from palm_eval.comparison.oracles import Rival, Rivals, compare_oracles
from palm_eval.comparison.runs import (
    METHODS,
    Budget,
    Comparison,
    Measured,
    Sweep,
    Swept,
    compare_runs,
)

__all__ = [
    "METHODS",
    "Budget",
    "Comparison",
    "Measured",
    "Rival",
    "Rivals",
    "Sweep",
    "Swept",
    "compare_oracles",
    "compare_runs",
]
