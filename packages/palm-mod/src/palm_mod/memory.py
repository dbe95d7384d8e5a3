"""Memory: what models and caches take, and how many rows fit."""

from __future__ import annotations

from dataclasses import dataclass

from palm_core.simplex import check_count

# Of what is free, so much is used: allocators cannot use every gap.
_SHARE = 0.8
# Log-probabilities, scores of two weight vectors, and what is made on the way to them.
_COPIES = 6


@dataclass(frozen=True)
class Memory:
    """What decoding takes, in bytes, of all experts and the reference together.

    Args:
        weights: parameters and buffers, as loaded.
        cache: keys and values of one token in one row; layers with a sliding window take
            less once it is full.
        predictions: next-token predictions of one row.
    """

    weights: int
    cache: int
    predictions: int

    def of_rows(self, rows: int, length: int) -> int:
        """Bytes that ``rows`` prefixes of ``length`` tokens take, weights not counted."""
        return rows * (length * self.cache + _COPIES * self.predictions)

    def rows_that_fit(self, free: int, length: int) -> int:
        """How many prefixes of ``length`` tokens can be held in ``free`` bytes; at least 1.

        The longest prompts' first pass needs more for a moment; where that is too much the
        rows are halved (see :func:`palm_mod.forest.grow`).
        """
        length = check_count(length, name="length", least=1)
        return max(1, int(_SHARE * free) // max(1, self.of_rows(1, length)))
