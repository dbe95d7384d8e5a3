"""Weight vectors one by one: who goes on with which token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from palm_core.errors import WorkError
from palm_mod.mixing import Mixing, choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# Scores are held for that many numbers at once.
_BLOCK = 32_000_000


class WeightSplitter:
    """Splits groups of weight vectors, given by their places among ``weights``.

    Args:
        weights: (k, d) on the simplex.
        mixing: how scores are made.
    """

    def __init__(self, weights: NDArray[np.float64], mixing: Mixing) -> None:
        self.weights = torch.from_numpy(weights.astype("float32"))
        self.mixing = mixing

    def count(self, members: tuple[int, ...]) -> int:
        """One decoding for each weight vector."""
        return len(members)

    def split(
        self, totals: Tensor, members: Sequence[tuple[int, ...]]
    ) -> list[list[tuple[int, tuple[int, ...], float]]]:
        """See :class:`palm_mod.forest.Splitter`; tokens ascend.

        Raises:
            WorkError: a score is no number.
        """
        d = self.weights.shape[1]
        rows = [row for row, group in enumerate(members) for _ in group]
        which = [one for group in members for one in group]
        per_block = max(1, _BLOCK // totals[0].numel())
        tokens: list[int] = []
        margins: list[float] = []
        for start in range(0, len(rows), per_block):
            index = torch.tensor(rows[start : start + per_block], device=totals.device)
            weights = self.weights[which[start : start + per_block]].to(totals.device)
            taken = totals[index]
            scores = self.mixing.scores(
                taken[:, :d], weights, taken[:, d] if self.mixing.needs_reference else None
            )
            if scores.isnan().any():
                raise WorkError("mixing: a score is not a number")
            best, margin = choose(scores)
            tokens += best.tolist()
            margins += margin.tolist()
        found: list[list[tuple[int, tuple[int, ...], float]]] = []
        place = 0
        for group in members:
            here: dict[int, tuple[list[int], float]] = {}
            for one in group:
                token, margin = tokens[place], margins[place]
                kept, least = here.setdefault(token, ([], margin))
                kept.append(one)
                here[token] = (kept, min(least, margin))
                place += 1
            found.append(
                [(token, tuple(kept), least) for token, (kept, least) in sorted(here.items())]
            )
        return found
