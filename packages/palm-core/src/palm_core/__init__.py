"""PALM: which few policies are enough, and how good is "enough", provably.

The public names below are loaded when first used, so that ``import palm_core``
costs milliseconds and needs neither Numba nor SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core._on_demand import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_core.adaptive import AdaptiveGrid
    from palm_core.asking import answers_at
    from palm_core.bounds import Guarantee, apply_theorem, lemma_33, lemma_a1, theorem_bounds
    from palm_core.build import build_portfolio
    from palm_core.certificate import Certificate, certify
    from palm_core.cover import Best, Cover, best_policies, cover_weights, greedy
    from palm_core.envelope import corner_weights, serving_intervals, serving_shares
    from palm_core.errors import (
        InputError,
        OracleAnswerError,
        PalmError,
        PalmWarning,
        PluginError,
        RefutedClaimWarning,
        WorkError,
    )
    from palm_core.exact_gaps import Gaps, gap_frontier, gaps, gaps_without, violations
    from palm_core.execution import Execution
    from palm_core.grid import construct_grid, grid_size, grid_values
    from palm_core.minimal import Minimal, minimal_portfolio, minimal_report
    from palm_core.normalization import Normalization
    from palm_core.oracle import Oracle
    from palm_core.plugins import available_oracles, describe_oracles, load_oracle
    from palm_core.policies import Policy, PolicySet
    from palm_core.portfolio import Portfolio
    from palm_core.pruning import Pruned, prune, prune_curve, prune_report
    from palm_core.selection import Selection, select_models
    from palm_core.simplex import check_weights, sample_weights, uniform_lattice
    from palm_core.sizes import SizeGap, size_gap_curve
    from palm_core.tables import Table, read_table
    from palm_core.tabular import TabularOracle

_HOME = {
    "adaptive": ("AdaptiveGrid",),
    "asking": ("answers_at",),
    "bounds": (
        "Guarantee",
        "apply_theorem",
        "lemma_33",
        "lemma_a1",
        "theorem_bounds",
    ),
    "build": ("build_portfolio",),
    "certificate": ("Certificate", "certify"),
    "cover": (
        "Best",
        "Cover",
        "best_policies",
        "cover_weights",
        "greedy",
    ),
    "envelope": (
        "corner_weights",
        "serving_intervals",
        "serving_shares",
    ),
    "errors": (
        "InputError",
        "OracleAnswerError",
        "PalmError",
        "PalmWarning",
        "PluginError",
        "RefutedClaimWarning",
        "WorkError",
    ),
    "execution": ("Execution",),
    "exact_gaps": (
        "Gaps",
        "gap_frontier",
        "gaps",
        "gaps_without",
        "violations",
    ),
    "grid": (
        "construct_grid",
        "grid_size",
        "grid_values",
    ),
    "minimal": (
        "Minimal",
        "minimal_portfolio",
        "minimal_report",
    ),
    "normalization": ("Normalization",),
    "oracle": ("Oracle",),
    "plugins": (
        "available_oracles",
        "describe_oracles",
        "load_oracle",
    ),
    "policies": (
        "Policy",
        "PolicySet",
    ),
    "portfolio": ("Portfolio",),
    "pruning": (
        "Pruned",
        "prune",
        "prune_curve",
        "prune_report",
    ),
    "selection": (
        "Selection",
        "select_models",
    ),
    "simplex": (
        "check_weights",
        "sample_weights",
        "uniform_lattice",
    ),
    "sizes": ("SizeGap", "size_gap_curve"),
    "tables": (
        "Table",
        "read_table",
    ),
    "tabular": ("TabularOracle",),
}

__all__ = [
    "AdaptiveGrid",
    "Best",
    "Certificate",
    "Cover",
    "Execution",
    "Gaps",
    "Guarantee",
    "InputError",
    "Minimal",
    "Normalization",
    "Oracle",
    "OracleAnswerError",
    "PalmError",
    "PalmWarning",
    "PluginError",
    "Policy",
    "PolicySet",
    "Portfolio",
    "Pruned",
    "RefutedClaimWarning",
    "Selection",
    "SizeGap",
    "Table",
    "TabularOracle",
    "WorkError",
    "answers_at",
    "apply_theorem",
    "available_oracles",
    "best_policies",
    "build_portfolio",
    "certify",
    "check_weights",
    "construct_grid",
    "corner_weights",
    "cover_weights",
    "describe_oracles",
    "gap_frontier",
    "gaps",
    "gaps_without",
    "greedy",
    "grid_size",
    "grid_values",
    "lemma_33",
    "lemma_a1",
    "load_oracle",
    "minimal_portfolio",
    "minimal_report",
    "prune",
    "prune_curve",
    "prune_report",
    "read_table",
    "sample_weights",
    "select_models",
    "serving_intervals",
    "serving_shares",
    "size_gap_curve",
    "theorem_bounds",
    "uniform_lattice",
    "violations",
]

if not TYPE_CHECKING:  # to whom it would say that there is every name
    __getattr__, __dir__ = on_demand(__name__, _HOME)
