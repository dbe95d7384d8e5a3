"""The bootstrap of a mean over prompts: resamples, leaving one out, and BCa's ends.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Resampled means are held for that many numbers at once.
_BLOCK = 4_000_000


def resample(
    centred: Array,
    total: Array,
    evaluate: Callable[[Array], Array],
    n_resamples: int,
    rng: np.random.Generator,
) -> Array:
    """The statistic of resamples, (n_resamples, …).

    Args:
        centred: (n, q) figures of each prompt, less ``total``.
        total: (q,) their means.
        evaluate: the statistic of means (b, q): (b, …).
        n_resamples: how many.
        rng: draws them.
    """
    n = len(centred)
    rows = max(1, _BLOCK // max(centred.shape[1], n))
    parts = []
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        parts.append(evaluate(total + counts @ centred / n))
    return np.concatenate(parts)


def jackknife(flat: Array, total: Array, evaluate: Callable[[Array], Array]) -> Array:
    """The statistic without each of the n prompts, (n, …); arguments as for :func:`resample`."""
    n = len(flat)
    rows = max(1, _BLOCK // flat.shape[1])
    parts = [
        evaluate(total + (total - flat[start : start + rows]) / (n - 1))
        for start in range(0, n, rows)
    ]
    return np.concatenate(parts)


def bca_ends(resampled: Array, value: Array, left_out: Array, tails: Array) -> Array:
    """Both ends, (2, …): percentiles at Φ(z0 + (z0 + z)/(1 − a(z0 + z))) (Efron 1987)."""
    from scipy.special import ndtr, ndtri

    shape, size = value.shape, len(resampled)
    resampled, left_out = resampled.reshape(size, -1), left_out.reshape(len(left_out), -1)
    flat_value = value.reshape(-1)
    ends = np.empty((2, flat_value.size))
    scale = np.abs(resampled).max(axis=0, initial=0.0)
    for q, theta in enumerate(flat_value):
        column = resampled[:, q]
        # Ties count half, so that a statistic stuck at its boundary has no bias there;
        # what differs by rounding only is a tie.
        near = np.abs(column - theta) <= 1e-12 * scale[q]
        share = ((column < theta) & ~near).mean() + near.mean() / 2
        z0 = ndtri(np.clip(share, 0.5 / size, 1 - 0.5 / size))
        pull = left_out[:, q].mean() - left_out[:, q]
        spread = (pull**2).sum()
        a = (pull**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
        z = z0 + ndtri(tails)
        # At 1 − a·z ≤ 0 the correction has left its range: the percentile is the last one.
        room = 1 - a * z
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.where(room > 0, ndtr(z0 + z / room), (z > 0).astype(float))
        ends[:, q] = np.quantile(column, at)
    return ends.reshape(2, *shape)
