"""PALM's multi-objective decoding: any weighting of d experts, all weightings at once.

The public names below are loaded when first used: ``import palm_mod`` and listing oracles
load neither NumPy nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core._on_demand import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_mod.families import (
        RegionPolicies,
        policies_of_regions,
        reward_pieces,
    )
    from palm_mod.forest import (
        Counts,
        Leaf,
        Limits,
        Models,
        Prefixes,
        Splitter,
        grow,
    )
    from palm_mod.loading import (
        load_experts,
    )
    from palm_mod.mixing import (
        Mixing,
    )
    from palm_mod.oracle import (
        ModOracle,
    )
    from palm_mod.published import (
        PublishedMixing,
    )
    from palm_mod.regions import (
        Region,
        RegionSplitter,
        decode_regions,
        whole_simplex,
    )
    from palm_mod.sampling import (
        GumbelNoise,
        Sampling,
    )
    from palm_mod.settings import (
        LanguageSettings,
    )
    from palm_mod.soup import (
        SoupOracle,
    )
    from palm_mod.splitters import (
        WeightSplitter,
    )
    from palm_mod.whole import (
        Family,
        family_of,
    )

_HOME = {
    "families": (
        "RegionPolicies",
        "policies_of_regions",
        "reward_pieces",
    ),
    "forest": (
        "Counts",
        "Leaf",
        "Limits",
        "Models",
        "Prefixes",
        "Splitter",
        "grow",
    ),
    "loading": ("load_experts",),
    "mixing": ("Mixing",),
    "oracle": ("ModOracle",),
    "published": ("PublishedMixing",),
    "regions": (
        "Region",
        "RegionSplitter",
        "decode_regions",
        "whole_simplex",
    ),
    "sampling": (
        "GumbelNoise",
        "Sampling",
    ),
    "settings": ("LanguageSettings",),
    "soup": ("SoupOracle",),
    "splitters": ("WeightSplitter",),
    "whole": (
        "Family",
        "family_of",
    ),
}

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

if not TYPE_CHECKING:  # to whom it would say that there is every name
    __getattr__, __dir__ = on_demand(__name__, _HOME)
