"""PALM beside its baselines at every size and budget: the numbers of the paper's tables."""

from palm_eval.comparison.comparing import compare_runs
from palm_eval.comparison.results import METHODS, Budget, Comparison, Measured, Sweep, Swept
from palm_eval.comparison.rivals import Rival, Rivals, compare_oracles

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
