"""PALM's multi-objective decoding: d experts mixed for any weights, all weights at once.

The public names below are loaded when first used: ``import palm_mod`` and listing oracles
load neither NumPy nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_mod.experts import load_experts
    from palm_mod.mixing import Mixing, PublishedMixing
    from palm_mod.mod import ModOracle
    from palm_mod.options import LanguageSettings
    from palm_mod.prefix_tree import (
        Counts,
        Leaf,
        Limits,
        Models,
        Prefixes,
        Splitter,
        WeightSplitter,
        grow,
    )
    from palm_mod.regions import Region, RegionSplitter, decode_regions, whole_simplex
    from palm_mod.sampling import GumbelNoise, Sampling
    from palm_mod.simplex_family import (
        Family,
        RegionPolicies,
        family_of,
        policies_of_regions,
        reward_pieces,
    )
    from palm_mod.soup import SoupOracle


__all__ = [
    "Counts",
    "Family",
    "GumbelNoise",
    "LanguageSettings",
    "Leaf",
    "Limits",
    "Mixing",
    "ModOracle",
    "Models",
    "Prefixes",
    "PublishedMixing",
    "Region",
    "RegionPolicies",
    "RegionSplitter",
    "Sampling",
    "SoupOracle",
    "Splitter",
    "WeightSplitter",
    "decode_regions",
    "family_of",
    "grow",
    "load_experts",
    "policies_of_regions",
    "reward_pieces",
    "whole_simplex",
]

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
