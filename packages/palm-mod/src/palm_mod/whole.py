"""All policies of multi-objective decoding at once, measured: the family {π_w : w ∈ Δ}.

Greedy decoding gives each prompt finitely many responses, each on a region of weights
(:mod:`palm_mod.regions`). So the family is finite, its rewards are known exactly as
functions of w, and the gaps of any portfolio within it are exact, over every weight
instead of sampled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from palm_core import PolicySet
from palm_core.errors import InputError
from palm_mod.families import RegionPolicies, policies_of_regions
from palm_mod.regions import decode_regions

if TYPE_CHECKING:
    from palm_mod.decoding import Loaded
    from palm_mod.forest import Counts
    from palm_mod.mixing import Mixing


class Decodes(Protocol):
    """An oracle that decodes by mixing experts, as :class:`~palm_mod.oracle.ModOracle` does."""

    temperature: float
    objectives: tuple[str, ...]

    def load(self) -> Loaded:
        """What it decodes with."""

    def mixing(self) -> Mixing:
        """How it mixes."""


@dataclass(frozen=True, eq=False)
class Family:
    """The policies that decoding has for all weights, and what they earn.

    Args:
        policies: the cells of the simplex, and which responses belong to each.
        candidates: rewards and f of the m policies, in the oracle's units: a portfolio's
            exact gaps are ``palm_core.gaps(portfolio.policy_set, family.candidates)``, where
            the portfolio is not normalised.
        texts: by prompt, the different responses that any weights give.
        counts: what decoding cost.
    """

    policies: RegionPolicies
    candidates: PolicySet
    texts: tuple[tuple[str, ...], ...]
    counts: Counts


def family_of(oracle: Decodes, *, leaves: int = 1000, most_cells: int = 20_000) -> Family:
    """Decode the oracle's prompts at all weights; score each different response once.

    Args:
        oracle: with two or three objectives, greedy, of a divergence whose scores are affine.
        leaves: the most responses of a prompt, see :func:`palm_mod.regions.decode_regions`.
        most_cells: see :func:`palm_mod.families.policies_of_regions`.

    Raises:
        InputError: the oracle samples, has other numbers of objectives, or mixes by
            Jensen–Shannon.
        WorkError: a model or a reward failed.
    """
    if oracle.temperature > 0:
        raise InputError(
            f"temperature = {oracle.temperature:g}: must be 0 for responses at all weights"
        )
    loaded = oracle.load()
    found, counts = decode_regions(
        loaded.experts, loaded.tokens, oracle.mixing(), loaded.limits, leaves=leaves
    )
    answering = loaded.answering
    answering.score([(leaf.prompt, leaf.tokens) for leaf in found])
    rewards = np.array([answering.rewards_of(leaf.prompt, leaf.tokens) for leaf in found])
    policies = policies_of_regions(found, rewards, most_cells=most_cells)
    regularizer = None
    if answering.beta > 0:
        # A point mass at its response: KL = −log π_ref, see palm_mod.kl.
        nats = np.array([max(0.0, -leaf.log_probs[-1]) for leaf in found])
        regularizer = answering.beta * nats[policies.responses].mean(axis=1)
    texts: list[dict[str, None]] = [{} for _ in loaded.tokens]
    for leaf in found:
        texts[leaf.prompt][answering.text_of(leaf.prompt, leaf.tokens)] = None
    return Family(
        policies,
        PolicySet(policies.rewards, regularizer, objectives=oracle.objectives),
        tuple(tuple(several) for several in texts),
        counts,
    )
