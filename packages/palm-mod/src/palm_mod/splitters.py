"""Weight vectors one by one: who goes on with which token."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from palm_mod.mixing import Mixing, choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

# Numbers of one intermediate result that are held at once.
_BLOCK = 8_000_000
# From so many weight vectors on a prefix, tokens that are best for none are left out first.
_MANY = 24
# Tokens by which others are beaten: the likeliest on average, and of each model.
_ON_AVERAGE = 16
_OF_EACH = 2
# A lead that float32 does not lose, relative to the numbers in play.
_SAFE = 2.0**-12


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
        sizes = np.array([len(group) for group in members])
        which = np.fromiter(chain.from_iterable(members), np.intp, sizes.sum())
        rows = np.repeat(np.arange(len(members)), sizes)
        tokens, margins = np.empty(len(which), np.intp), np.empty(len(which))
        many = sizes >= _MANY
        ends = np.cumsum(sizes)
        for row in np.flatnonzero(many):
            own = slice(ends[row] - sizes[row], ends[row])
            tokens[own], margins[own] = self._many(log_probs[row], sums[row], which[own])
        few = np.flatnonzero(~many[rows])
        size = max(1, _BLOCK // log_probs[0].numel())
        for start in range(0, len(few), size):
            here = few[start : start + size]
            index = torch.from_numpy(rows[here])
            tokens[here], margins[here] = self._choose(
                log_probs[index.to(log_probs.device)], sums[index], which[here]
            )
        return [
            _groups(tokens[end - size : end], margins[end - size : end], group)
            for group, size, end in zip(members, sizes, ends, strict=True)
        ]

    def _choose(
        self, log_probs: Tensor, sums: Tensor, which: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Tokens (m,) and margins (m,) of weight vectors, each with its own row."""
        scores = self.mixing.scores(log_probs, self.weights[torch.from_numpy(which)], sums)
        tokens, margins = choose(scores)
        return tokens.cpu().numpy(), margins.double().cpu().numpy()

    def _many(
        self, log_probs: Tensor, sums: Tensor, which: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Tokens (m,) and margins (m,) of weight vectors that share a row (d [+ 1], V)."""
        left = self._contenders(log_probs, sums)
        row = log_probs[:, left].unsqueeze(0)
        size = max(1, _BLOCK // row.numel())
        parts = []
        for start in range(0, len(which), size):
            here = which[start : start + size]
            n = len(here)
            parts.append(self._choose(row.expand(n, -1, -1), sums.unsqueeze(0).expand(n, -1), here))
        places = np.concatenate([part[0] for part in parts])
        return left.cpu().numpy()[places], np.concatenate([part[1] for part in parts])

    def _contenders(self, log_probs: Tensor, sums: Tensor) -> Tensor:
        """Tokens that may be the best or the second best for some weights, ascending.

        A score increases in every model's log-probability, so a token that two others beat
        in all of them, by more than float32 rounds, is neither. Token 0 stays: it is
        chosen where all are forbidden.
        """
        d = self.weights.shape[1] + self.mixing.needs_reference
        values, prefix = log_probs[:d], sums[:d]
        size = values.shape[1]
        finite = prefix[prefix.isfinite()]
        scale = 1.0 + (float(finite.max() - finite.min()) if len(finite) else 0.0)
        scale += 1.0 / self.mixing.power if self.mixing.power else 0.0
        best = [
            values.mean(dim=0).topk(min(_ON_AVERAGE, size)).indices,
            values.topk(min(_OF_EACH, size)).indices.flatten(),
        ]
        rival = torch.zeros(size, dtype=torch.bool, device=values.device)
        rival[torch.cat(best)] = True
        rivals = rival.nonzero().squeeze(1)
        # −∞ needs no lead: what beats it in all else has a finite lead there
        needed = values + torch.where(values.isfinite(), _SAFE * (scale + values.abs()), 0.0)
        beats = torch.ones(len(rivals), size, dtype=torch.bool, device=values.device)
        for value, level in zip(values, needed, strict=True):
            beats &= value[rivals].unsqueeze(1) >= level
        kept = beats.sum(dim=0) < 2
        kept[0] = True
        return kept.nonzero().squeeze(1)


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
