"""Regions: decoding for all weights at once, d = 2 or 3.

Where scores are ordered by functions affine in w (:attr:`palm_mod.mixing.Mixing.affine`), the
best token's value is the upper envelope of affine functions, and the weights at which
one token is best are an interval (d = 2) or a convex polygon (d = 3). So a region of weights
is split like a group of weight vectors: each part continues with its token. In the end
every response has exactly the weights that produce it. (The idea is old: Och, ACL 2003, and
Macherey et al., EMNLP 2008, tune weights of translation models along such envelopes.)

A token that is best at all corners of a region is best in all of it, for the envelope is
convex. Otherwise the region is divided by the tokens found so far, and all tokens are
evaluated at the corners of the parts; better tokens are added until there are none. So each
part's token is the best at each of its weights, up to 1e-12 of the values compared.

Regions are open: at their borders two tokens tie. Parts with less than 1e-13 of the simplex are
left out. For forward KL and α that can be the neighbourhood of a vertex, where an expert with
a weight near 0 still matters if it finds a prefix unlikely enough; the vertex itself may then
have another response, found by decoding it as a weight vector. Near it, factors of very
different size reduce the precision of borders too: in 20 000 random cases no response was
wrong further than 1e-7 (in weights; d = 2: 1e-9) from a border of its region.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError
from palm_core.plugin import check_count
from palm_eval.plugin import clip, heights, share
from palm_mod.prefix_tree import Counts, Leaf, contenders, grow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from palm_mod.mixing import Mixing
    from palm_mod.prefix_tree import Limits, Models

    Array = NDArray[np.float64]
    Forbidden = NDArray[np.bool_]
    Places = NDArray[np.intp]
    Corners = tuple[tuple[float, ...], ...]
    Children = list[tuple[int, "Region", float]]

# Shares of the simplex below this are rounding.
_SMALLEST = 1e-13
# A margin below this share of the values compared is rounding.
_TIE = 1e-12


@dataclass(frozen=True)
class Region:
    """A convex part of the simplex.

    Args:
        corners: d = 2: the two ends, w_1 ascending; d = 3: the corners of a polygon, in order.
        root: the number of the prompt whose simplex it is part of.
        exact: whether the same tokens are best at all its weights; otherwise they
            are those of its centre, because the limit on divisions was reached.
    """

    corners: tuple[tuple[float, ...], ...]
    root: int = 0
    exact: bool = True

    @property
    def polygon(self) -> Array:
        """The corners (n, d)."""
        return np.array(self.corners)

    @property
    def share(self) -> float:
        """The region's share of the simplex."""
        return share(self.polygon)

    @property
    def centre(self) -> Array:
        """A weight vector (d,) inside: the mean of the corners."""
        return np.asarray(self.polygon.mean(axis=0))

    @property
    def interval(self) -> tuple[float, float]:
        """For d = 2, the least and the greatest w_1.

        Raises:
            InputError: not two objectives.
        """
        if len(self.corners[0]) != 2:
            raise InputError(f"interval: {len(self.corners[0])} objectives, must be 2")
        return self.corners[0][0], self.corners[1][0]


def whole_simplex(n_experts: int, root: int = 0) -> Region:
    """The region of all weights, for a prompt of number ``root``.

    Raises:
        InputError: another number of experts than 2 or 3.
    """
    if n_experts not in (2, 3):
        raise InputError(
            f"experts: has {n_experts}, must have 2 or 3 for regions; decode a grid instead"
        )
    corners = np.eye(n_experts)
    return Region(_tuples(corners if n_experts == 3 else corners[::-1]), root)


def decode_regions(
    models: Models,
    prompts: Sequence[Sequence[int]],
    mixing: Mixing,
    limits: Limits,
    *,
    leaves: int = 1000,
    noise: Callable[[int, Sequence[int], Any], Tensor] | None = None,
    on_complete: Callable[[Leaf[Region]], None] | None = None,
    progress: Callable[[Counts, int], None] | None = None,
) -> tuple[list[Leaf[Region]], Counts]:
    """Every response of some weights, with the region of those weights.

    Args:
        models: two or three experts.
        prompts: token ids, at least one each.
        mixing: must be ``affine``.
        limits: on the length of responses and the prefixes in memory.
        leaves: maximum responses of a prompt. A region with too many parts is not divided
            further but decoded at its centre; ``exact`` is then False. (Which regions those
            are depends on the order of work, and so on ``limits.rows``.)
        noise: as for :func:`palm_mod.prefix_tree.grow`, as are ``on_complete``, ``progress``.
        on_complete: callback for each response as soon as it is complete.
        progress: callback after each step.

    Returns:
        For each prompt, by the order of their tokens, responses whose regions tile the
        simplex; and the cost (margins are 0: at borders tokens tie).

    Raises:
        InputError: other numbers of experts, a mixing that is not affine, or as ``grow``.
        WorkError: as ``grow``.
    """
    return grow(
        models,
        prompts,
        [whole_simplex(models.n_experts, number) for number in range(len(prompts))],
        RegionSplitter(mixing, leaves),
        limits,
        noise=noise,
        on_complete=on_complete,
        progress=progress,
    )


class RegionSplitter:
    """Splits regions of weights by their best tokens: a :class:`palm_mod.prefix_tree.Splitter`.

    Args:
        mixing: must be ``affine``.
        leaves: maximum number of regions of each simplex.

    Raises:
        InputError: ``mixing`` is not affine, or ``leaves`` is below 1.
    """

    def __init__(self, mixing: Mixing, leaves: int = 1000) -> None:
        if not mixing.affine:
            raise InputError(
                f"divergence = {mixing.divergence!r}: regions need scores that are affine in the "
                "weights; decode a grid instead"
            )
        self.mixing = mixing
        self.leaves = check_count(leaves, name="leaves", least=1)
        # The regions of each simplex so far; a set, since splits may be repeated.
        self._divided: defaultdict[int, set[Corners]] = defaultdict(set)

    def count(self, _members: Region) -> int:
        """One decoding for each region, at one of its weights."""
        return 1

    def split(self, log_probs: Tensor, sums: Tensor, members: Sequence[Region]) -> list[Children]:
        """See :class:`palm_mod.prefix_tree.Splitter`.

        Raises:
            InputError: a divergence whose scores are not affine in the weights.
        """
        d = len(members[0].corners[0])
        left, which = contenders(log_probs[:, :d], sums[:, :d], self.mixing)
        tokens = which.cpu().numpy()
        values = self.mixing.features(left.cpu(), sums[:, :d].cpu()).numpy()
        # A token that an expert forbids cannot win where its weight is positive, that is inside.
        forbidden = (values == -np.inf).any(axis=1)
        values = np.where(forbidden[:, np.newaxis], 0.0, values)
        found: list[Children] = []
        for row, region in enumerate(members):
            points = region.polygon if region.exact else region.centre[np.newaxis]
            best = _heights(values[row], forbidden[row], points).argmax(axis=1)
            if (best == best[0]).all():
                found.append([(int(tokens[row, best[0]]), region, 0.0)])
            else:
                children = self._divide(values[row], forbidden[row], region, best)
                found.append([(int(tokens[row, at]), part, lead) for at, part, lead in children])
        return found

    def _divide(
        self, values: Array, forbidden: Forbidden, region: Region, best: Places
    ) -> Children:
        parts = _parts(values, forbidden, region.polygon, best)
        regions = [Region(_tuples(cell), region.root) for _, cell in parts]
        after = self._divided[region.root] - {region.corners} | {one.corners for one in regions}
        if len(parts) > 1 and len(after) <= self.leaves:
            self._divided[region.root] = after
            return [(place, one, 0.0) for (place, _), one in zip(parts, regions, strict=True)]
        at_centre = _heights(values, forbidden, region.centre[np.newaxis])
        return [(int(at_centre.argmax()), replace(region, exact=len(parts) <= 1), 0.0)]


def _heights(values: Array, forbidden: Forbidden, points: Array) -> Array:
    """Σ_i w_i·values_i at ``points`` (k, d) of all tokens: (k, c), −∞ where forbidden.

    Element by element, so that equal tokens have equal values; the first then wins.
    """
    height = points[:, :1] * values[0]
    for i in range(1, len(values)):
        height = height + points[:, i : i + 1] * values[i]
    return np.where(forbidden, -np.inf, height)


def _parts(
    values: Array, forbidden: Forbidden, whole: Array, best: Places
) -> list[tuple[int, Array]]:
    """The best tokens in a polygon, ascending, and their parts of it."""
    known = np.unique(best)
    while True:
        planes = values[:, known].T
        cells = _cells(whole, planes)
        points = np.unique(np.concatenate([whole, *cells]), axis=0)
        height = _heights(values, forbidden, points)
        best = height.argmax(axis=1)
        reached = height[:, known]
        size = (points * np.abs(values[:, best].T)).sum(axis=1)
        size += (points * np.abs(planes[reached.argmax(axis=1)])).sum(axis=1)
        better = height.max(axis=1) - reached.max(axis=1) > _TIE * size
        new = np.setdiff1d(best[better], known)
        if not len(new):
            break
        known = np.union1d(known, new)
    parts = [
        (int(place), cell)
        for place, cell in zip(known, cells, strict=True)
        if share(cell) > _SMALLEST
    ]
    if parts and whole.shape[1] == 2:
        _join(parts, whole)
    return parts


def _cells(whole: Array, planes: Array) -> list[Array]:
    """The part of a polygon in which each of ``planes`` (m, d) is the highest."""
    cells = []
    for one, plane in enumerate(planes):
        cell = whole
        for other, rival in enumerate(planes):
            if other == one or not len(cell):
                continue
            # Equal up to rounding everywhere: assigned to the lower token.
            if other < one and not heights(cell, rival - plane).any():
                cell = cell[:0]
            else:
                cell = clip(cell, rival - plane)
        cells.append(cell)
    return cells


def _join(parts: list[tuple[int, Array]], whole: Array) -> None:
    """Make the ends of adjacent intervals equal to the last bit."""
    order = sorted(range(len(parts)), key=lambda place: float(parts[place][1][:, 0].sum()))
    start = whole[0]
    for place in order:
        token, cell = parts[place]
        end = whole[1] if place == order[-1] else cell[1]
        parts[place] = token, np.array([start, end])
        start = end


def _tuples(polygon: Array) -> Corners:
    return tuple(tuple(float(x) for x in corner) for corner in polygon)
