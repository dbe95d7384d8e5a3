"""The family {π_w : w ∈ Δ}: the finitely many policies that decoding has for all weights.

Greedy decoding (or decoding with fixed noise) gives each prompt finitely many responses, each
on a region of weights (:mod:`palm_mod.regions`). The policy π_w, all prompts' responses at w,
is constant on the cells of their common refinement: finitely many policies. So rewards are
known exactly as functions of w, and the gaps of any portfolio within the family are exact by
:func:`palm_core.gaps`, over every weight instead of sampled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from palm_core import InputError, PolicySet, check_weights
from palm_core.plugin import check_count
from palm_eval.plugin import overlap, place, share
from palm_mod.regions import decode_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_mod.decoding import Loaded
    from palm_mod.mixing import Mixing
    from palm_mod.prefix_tree import Counts, Leaf
    from palm_mod.regions import Region

    Array = NDArray[np.float64]

# Cells below this share of the simplex are rounding.
_SMALLEST = 1e-13
# Tolerance for regions of a prompt to tile the simplex.
_TILED = 1e-6


@dataclass(frozen=True, eq=False)
class RegionPolicies:
    """The policies {π_w}: m cells of the simplex with constant responses in each.

    Args:
        prompts: p numbers of prompts.
        weights: (m, d) a weight vector inside each cell.
        rewards: (m, d) mean rewards over the prompts.
        responses: (m, p) indices of the responses among the leaves.
        cells: corners (n, d) of each cell, as in :class:`palm_mod.regions.Region`; none if not
            ``complete``.
        shares: (m,) of the simplex; NaN if not ``complete``.
        complete: whether these are all policies; otherwise, with too many cells, they are
            those at the centres of all prompts' regions.
        exact: the share of the simplex in which all prompts' regions are exact.
    """

    prompts: tuple[int, ...]
    weights: Array
    rewards: Array
    responses: NDArray[np.intp]
    cells: tuple[Array, ...]
    shares: Array
    complete: bool
    exact: float

    def at(self, weights: ArrayLike) -> NDArray[np.intp]:
        """The index of the policy π_w, for each row of ``weights`` (k, d) or one (d,): (k,).

        Raises:
            InputError: no weights, or the cells are unknown.
        """
        if not self.complete:
            raise InputError("policies: must be complete, with known cells")
        points = check_weights(weights, self.weights.shape[1])
        return place(list(self.cells), points)


def reward_pieces(
    leaves: Sequence[Leaf[Region]], rewards: ArrayLike
) -> dict[int, list[tuple[Region, Array]]]:
    """Each prompt's rewards as a function of w: regions, and the rewards (d,) in each.

    Args:
        leaves: responses and their regions.
        rewards: (n, d) of each of the n leaves.

    Returns:
        By prompt; for d = 2 by ascending w_1.

    Raises:
        InputError: not one finite row of rewards for each leaf, or regions of a prompt
            that do not tile the simplex.
    """
    values = _check_rewards(leaves, rewards)
    return {
        prompt: [(leaves[one].members, values[one]) for one in places]
        for prompt, places in _by_prompt(leaves).items()
    }


def policies_of_regions(
    leaves: Sequence[Leaf[Region]], rewards: ArrayLike, *, most_cells: int = 20_000
) -> RegionPolicies:
    """All policies π_w, and their mean rewards over the prompts.

    Args:
        leaves: responses and their regions.
        rewards: (n, d) of each of the n leaves.
        most_cells: for d = 3, the maximum number of cells; beyond it the policies
            at the centres of all regions are returned, and ``complete`` is False.

    Raises:
        InputError: as :func:`reward_pieces`, or ``most_cells`` below 1.

    Example:
        ``palm_core.gaps(found.rewards[[0, 5]], found.rewards)`` are the exact gaps of two of
        the policies within the family.
    """
    most_cells = check_count(most_cells, name="most_cells", least=1)
    values = _check_rewards(leaves, rewards)
    places = _by_prompt(leaves)
    polygons = [leaf.members.polygon for leaf in leaves]
    if values.shape[1] == 2:
        cells, responses = _intervals(places, polygons)
    else:
        cells, responses = _refinement(places, polygons, most_cells)
    complete = bool(cells)
    sharp = np.array([leaf.members.exact for leaf in leaves])
    if complete:
        weights = np.array([cell.mean(axis=0) for cell in cells])
        shares = np.array([share(cell) for cell in cells])
        exact = float(shares[sharp[responses].all(axis=1)].sum())
    else:
        weights, responses = _at_centres(places, polygons)
        shares = np.full(len(weights), np.nan)
        vague = [share(one) for one, is_sharp in zip(polygons, sharp, strict=True) if not is_sharp]
        exact = max(0.0, 1.0 - sum(vague))
    return RegionPolicies(
        prompts=tuple(places),
        weights=weights,
        rewards=values[responses].mean(axis=1),
        responses=responses,
        cells=tuple(cells),
        shares=shares,
        complete=complete,
        exact=min(exact, 1.0),
    )


def _check_rewards(leaves: Sequence[Leaf[Region]], rewards: ArrayLike) -> Array:
    if not leaves:
        raise InputError("leaves: must be at least one, got none")
    d = len(leaves[0].members.corners[0])
    try:
        values = np.array(rewards, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"rewards: must be numbers ({len(leaves)}, {d})") from error
    if values.shape != (len(leaves), d):
        raise InputError(
            f"rewards: have shape {values.shape}, must be ({len(leaves)}, {d}), a row for each "
            "response"
        )
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise InputError(f"rewards row {row}: must be finite numbers")
    return values


def _by_prompt(leaves: Sequence[Leaf[Region]]) -> dict[int, list[int]]:
    """The indices of each prompt's leaves, for d = 2 by ascending w_1."""
    places: dict[int, list[int]] = {}
    for one in sorted(range(len(leaves)), key=lambda one: leaves[one].prompt):
        places.setdefault(leaves[one].prompt, []).append(one)
    for prompt, found in places.items():
        if len(leaves[0].members.corners[0]) == 2:
            found.sort(key=lambda one: leaves[one].members.interval)
        tiled = sum(leaves[one].members.share for one in found)
        if abs(tiled - 1.0) > _TILED:
            raise InputError(
                f"leaves: the regions of prompt {prompt} cover {tiled:.6g} of the simplex, must "
                "cover 1"
            )
    return places


def _intervals(
    places: dict[int, list[int]], polygons: list[Array]
) -> tuple[list[Array], NDArray[np.intp]]:
    """For d = 2: the intervals between neighbouring ends of all prompts' regions."""
    upper = {
        prompt: np.array([polygons[one][1, 0] for one in found]) for prompt, found in places.items()
    }
    ends = np.unique(np.concatenate([[0.0, 1.0], *upper.values()]))
    middles = (ends[1:] + ends[:-1]) / 2
    columns = []
    for prompt, found in places.items():
        # The last region ends at 1, in spite of rounding.
        columns.append(np.array(found)[np.searchsorted(upper[prompt][:-1], middles)])
    cells = [
        np.array([[low, 1.0 - low], [high, 1.0 - high]]) for low, high in pairwise(ends.tolist())
    ]
    return cells, np.column_stack(columns)


def _refinement(
    places: dict[int, list[int]], polygons: list[Array], most: int
) -> tuple[list[Array], NDArray[np.intp]]:
    """For d = 3: intersections of a region of each prompt; no cells if more than ``most``."""
    low = np.array([one.min(axis=0) for one in polygons])
    high = np.array([one.max(axis=0) for one in polygons])
    cells: list[Array] = [np.eye(3)]
    responses: list[tuple[int, ...]] = [()]
    for found in places.values():
        of_prompt = np.array(found)
        parts: list[Array] = []
        chosen: list[tuple[int, ...]] = []
        for cell, so_far in zip(cells, responses, strict=True):
            near = (low[of_prompt] <= cell.max(axis=0)) & (high[of_prompt] >= cell.min(axis=0))
            for one in of_prompt[near.all(axis=1)]:
                part = overlap(cell, polygons[one])
                if share(part) > _SMALLEST:
                    parts.append(part)
                    chosen.append((*so_far, int(one)))
            if len(parts) > most:
                return [], np.empty((0, len(places)), dtype=np.intp)
        cells, responses = parts, chosen
    return cells, np.array(responses, dtype=np.intp)


def _at_centres(
    places: dict[int, list[int]], polygons: list[Array]
) -> tuple[Array, NDArray[np.intp]]:
    """The different policies at the centres of all regions: weights (m, d), responses (m, p)."""
    points = np.array([one.mean(axis=0) for one in polygons])
    columns = [
        np.array(found)[place([polygons[one] for one in found], points)]
        for found in places.values()
    ]
    responses, first = np.unique(np.column_stack(columns), axis=0, return_index=True)
    return points[first], responses


class Decodes(Protocol):
    """An oracle that decodes by mixing experts, as :class:`~palm_mod.mod.ModOracle` does."""

    temperature: float
    objectives: tuple[str, ...]

    def load(self) -> Loaded:
        """Its loaded models, prompts and limits."""

    def mixing(self) -> Mixing:
        """Its mixing of the experts."""


@dataclass(frozen=True, eq=False)
class Family:
    """The policies of decoding for all weights, with their rewards and responses.

    Args:
        policies: the cells of the simplex, and the responses of each.
        candidates: rewards and f of the m policies, in the oracle's units: a portfolio's
            exact gaps are ``palm_core.gaps(portfolio.policy_set, family.candidates)``, where
            the portfolio is not normalised.
        texts: by prompt, the distinct responses of all weights.
        counts: the cost of decoding.
    """

    policies: RegionPolicies
    candidates: PolicySet
    texts: tuple[tuple[str, ...], ...]
    counts: Counts


def family_of(oracle: Decodes, *, leaves: int = 1000, most_cells: int = 20_000) -> Family:
    """Decode the oracle's prompts for all weights; score each distinct response once.

    Args:
        oracle: greedy, with two or three objectives and a divergence with affine scores.
        leaves: maximum responses of a prompt, see :func:`palm_mod.regions.decode_regions`.
        most_cells: see :func:`palm_mod.simplex_family.policies_of_regions`.

    Raises:
        InputError: the oracle samples, has another number of objectives, or mixes by
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
