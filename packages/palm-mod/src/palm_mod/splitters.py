"""Weight vectors one by one: who goes on with which token."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from palm_mod.candidates import contenders
from palm_mod.mixing import Mixing, choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

# Numbers of one intermediate result that are held at once.
_BLOCK = 8_000_000
# From so many weight vectors on a prefix, tokens that are best for none are left out first.
_MANY = 4


class WeightSplitter:
    """Splits groups of weight vectors, given by their places among ``weights``.

    Args:
        weights: (k, d) on the simplex.
        mixing: how scores are made.
    """

    def __init__(self, weights: NDArray[np.float64], mixing: Mixing) -> None:
        self.weights = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))
        self.mixing = mixing

    def count(self, members: tuple[int, ...]) -> int:
        """One decoding for each weight vector."""
        return len(members)

    def split(
        self, log_probs: Tensor, sums: Tensor, members: Sequence[tuple[int, ...]]
    ) -> list[list[tuple[int, tuple[int, ...], float]]]:
        """See :class:`palm_mod.forest.Splitter`; tokens ascend."""
        models = self.weights.shape[1] + self.mixing.needs_reference
        values, sums = log_probs[:, :models], sums[:, :models]
        sizes = np.array([len(group) for group in members])
        which = np.fromiter(chain.from_iterable(members), np.intp, sizes.sum())
        rows = np.repeat(np.arange(len(members)), sizes)
        tokens, margins = np.empty(len(which), np.intp), np.empty(len(which))
        many = sizes >= _MANY
        if many.any():
            wide = torch.from_numpy(np.flatnonzero(many))
            here = many[rows]
            # Places among the rows that are wide.
            own = (np.cumsum(many) - 1)[rows[here]]
            left, kept = contenders(values[wide.to(values.device)], sums[wide], self.mixing)
            places, margins[here] = self._choose(left, sums[wide], own, which[here])
            tokens[here] = kept.cpu().numpy()[own, places]
        here = ~many[rows]
        if here.any():
            tokens[here], margins[here] = self._choose(values, sums, rows[here], which[here])
        ends = np.cumsum(sizes)
        return [
            _groups(tokens[end - size : end], margins[end - size : end], group)
            for group, size, end in zip(members, sizes, ends, strict=True)
        ]

    def _choose(
        self, values: Tensor, sums: Tensor, rows: NDArray[np.intp], which: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Places (m,) and margins (m,) of weight vectors ``which`` at their ``rows``."""
        places, margins = np.empty(len(which), np.intp), np.empty(len(which))
        size = max(1, _BLOCK // values[0].numel())
        for start in range(0, len(which), size):
            here = slice(start, start + size)
            index = torch.from_numpy(rows[here])
            scores = self.mixing.scores(
                values[index.to(values.device)],
                self.weights[torch.from_numpy(which[here])],
                sums[index],
            )
            best, lead = choose(scores)
            places[here], margins[here] = best.cpu().numpy(), lead.double().cpu().numpy()
        return places, margins


def _groups(
    tokens: NDArray[np.intp], margins: NDArray[np.float64], group: tuple[int, ...]
) -> list[tuple[int, tuple[int, ...], float]]:
    if not group:
        return []
    if (tokens == tokens[0]).all():
        return [(int(tokens[0]), group, float(margins.min()))]
    found = []
    order = np.argsort(tokens, kind="stable")
    starts = np.flatnonzero(np.diff(tokens[order], prepend=-1))
    for places in np.split(order, starts[1:]):
        kept = tuple(group[place] for place in places)
        found.append((int(tokens[places[0]]), kept, float(margins[places].min())))
    return found
