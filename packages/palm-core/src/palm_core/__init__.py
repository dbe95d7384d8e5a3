"""PALM: small portfolios of policies for every weight vector, with proven guarantees.

Public names are imported lazily, so that ``import palm_core`` takes milliseconds
and needs neither Numba nor SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_core.cover.cover import CoverMatrix, cover_weights, greedy
    from palm_core.cover.minimal import SizeGap, minimal_portfolio, size_gap_curve
    from palm_core.cover.prune import prune, prune_curve
    from palm_core.cover.regions import corner_weights, serving_intervals, serving_shares
    from palm_core.errors import (
        InputError,
        OracleAnswerError,
        PalmError,
        PalmWarning,
        PluginError,
        RefutedClaimWarning,
        WorkError,
    )
    from palm_core.guarantees.adaptive import AdaptiveGrid
    from palm_core.guarantees.certificate import certify
    from palm_core.guarantees.gaps import gap_frontier, gaps, gaps_without, violations
    from palm_core.guarantees.theorem import (
        Guarantee,
        apply_theorem,
        lemma_33,
        lemma_a1,
        theorem_bounds,
    )
    from palm_core.model.normalization import Normalization
    from palm_core.model.policy import Best, Policy, PolicySet, best_policies
    from palm_core.model.portfolio import Portfolio
    from palm_core.model.results import Certificate, Cover, Gaps
    from palm_core.oracles.protocol import Oracle
    from palm_core.oracles.registry import available_oracles, describe_oracles, load_oracle
    from palm_core.oracles.tabular import TabularOracle
    from palm_core.run.config import Execution
    from palm_core.run.engine import answers_at, build_portfolio
    from palm_core.run.run import Run, open_run, run_status
    from palm_core.tables.read import Table, read_table
    from palm_core.tables.select import Selection, select_models
    from palm_core.validation import check_weights
    from palm_core.weights.grid import construct_grid, grid_size, grid_values
    from palm_core.weights.simplex import sample_weights, uniform_lattice


__all__ = [
    "AdaptiveGrid",
    "Best",
    "Certificate",
    "Cover",
    "CoverMatrix",
    "Execution",
    "Gaps",
    "Guarantee",
    "InputError",
    "Normalization",
    "Oracle",
    "OracleAnswerError",
    "PalmError",
    "PalmWarning",
    "PluginError",
    "Policy",
    "PolicySet",
    "Portfolio",
    "RefutedClaimWarning",
    "Run",
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
    "open_run",
    "prune",
    "prune_curve",
    "read_table",
    "run_status",
    "sample_weights",
    "select_models",
    "serving_intervals",
    "serving_shares",
    "size_gap_curve",
    "theorem_bounds",
    "uniform_lattice",
    "violations",
]

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
