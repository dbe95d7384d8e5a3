"""Weight vectors: points of the probability simplex Δ_d, one per row.

Paper, section 3.1: a preference is a weight vector w ∈ ℝ^d with w ≥ 0 and
Σ_i w_i = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Written weights (0.333 + 0.333 + 0.334) and sums of many floats are off by
# far less than this; a forgotten objective is off by far more.
SUM_TOLERANCE = 1e-6


def check_weights(
    weights: ArrayLike, n_objectives: int | None = None, *, name: str = "weights"
) -> NDArray[np.float64]:
    """Return ``weights`` as a C-contiguous float64 array of rows on the simplex.

    Args:
        weights: one weight vector (d,) or one per row (k, d).
        n_objectives: the d that is expected; ``None`` accepts any d ≥ 2.
        name: what the error message calls the argument.

    Returns:
        Array (k, d). Rows whose sum differs from one by rounding only are
        divided by it, so that J_w(π) = w·(r(π) − f(π)·1) holds to the last bit
        that float64 has.

    Raises:
        InputError: wrong shape, a value that is not finite or is negative, or
            a row that does not add to one within 1e-6.

    Example:
        >>> check_weights([0.25, 0.75])
        array([[0.25, 0.75]])
        >>> check_weights([0.5, 0.6])
        Traceback (most recent call last):
        ...
        palm_core.errors.InputError: weights: 0.5, 0.6 add to 1.1, must add to 1
    """
    try:
        rows = np.array(weights, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be numbers in an array (k, d): {error}") from error
    if rows.ndim == 1:
        rows = rows[np.newaxis, :]
    if rows.ndim != 2:
        raise InputError(f"{name}: must have shape (d,) or (k, d), has {rows.shape}")
    if n_objectives is not None and rows.shape[1] != n_objectives:
        raise InputError(
            f"{name}: {rows.shape[1]} values a row, must be {n_objectives}, one per objective"
        )
    if rows.shape[1] < 2:
        raise InputError(f"{name}: at least 2 objectives are needed, got {rows.shape[1]}")
    total = rows.sum(axis=1)
    # A NaN fails every comparison, so this one line finds all bad rows.
    good = (rows >= 0).all(axis=1) & (np.abs(total - 1.0) <= SUM_TOLERANCE)
    if not good.all():
        raise InputError(_complaint(rows, int(np.argmin(good)), name))
    off = total != 1.0
    if off.any():
        rows[off] /= total[off, np.newaxis]
    return rows


def _complaint(rows: NDArray[np.float64], index: int, name: str) -> str:
    row = rows[index]
    where = name if len(rows) == 1 else f"{name} row {index}"
    shown = ", ".join(f"{value:.6g}" for value in row[:8]) + (", …" if row.size > 8 else "")
    if not np.isfinite(row).all():
        return f"{where}: {shown} must be finite numbers"
    if (row < 0).any():
        return f"{where}: {shown} must not be negative"
    return f"{where}: {shown} add to {row.sum():.6g}, must add to 1"


def check_count(value: object, *, name: str, least: int) -> int:
    """Return ``value`` as an int of at least ``least``, or raise :class:`InputError`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{name} = {value!r}: must be a whole number of at least {least}")
    if value < least:
        raise InputError(f"{name} = {value}: must be at least {least}")
    return int(value)


def check_number(
    value: object,
    *,
    name: str,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    hint: str = "",
) -> float:
    """Return ``value`` as a finite float in ``(above, most]`` or ``[least, most]``.

    Raises:
        InputError: naming the field, the value and the interval; ``hint`` is
            appended after a semicolon.
    """
    number = float("nan")
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        number = float(value)
    low = -np.inf if least is None else least
    high = np.inf if most is None else most
    if np.isfinite(number) and low <= number <= high and (above is None or number > above):
        return number
    if above is not None and most is not None:
        accepted = f"must be in ({above:g}, {most:g}]"
    elif least is not None and most is not None:
        accepted = f"must be in [{least:g}, {most:g}]"
    elif above is not None:
        accepted = f"must be a finite number above {above:g}"
    elif least is not None:
        accepted = f"must be a finite number of at least {least:g}"
    else:
        accepted = "must be a finite number"
    raise InputError(f"{name} = {value!r}: {accepted}" + (f"; {hint}" if hint else ""))


def sample_weights(
    n_weights: int, n_objectives: int, *, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """Draw ``n_weights`` weight vectors from Dirichlet(1, …, 1), uniform on Δ_d.

    This is how the paper samples its evaluation set V (appendix B.2, B.3).

    Returns:
        Array (n_weights, n_objectives).

    Raises:
        InputError: fewer than 1 weight or 2 objectives.
    """
    k = check_count(n_weights, name="n_weights", least=1)
    d = check_count(n_objectives, name="n_objectives", least=2)
    return check_weights(np.random.default_rng(seed).dirichlet(np.ones(d), size=k))


def uniform_lattice(n_objectives: int, resolution: int) -> NDArray[np.float64]:
    """All weight vectors whose entries are multiples of 1/``resolution``.

    The uniform baseline of the paper (appendix B.4.1) draws from this lattice;
    it has C(m + d − 1, d − 1) points for resolution m, in lexicographic order.

    Raises:
        InputError: fewer than 2 objectives or a resolution below 1.

    Example:
        >>> uniform_lattice(2, 2)
        array([[0. , 1. ],
               [0.5, 0.5],
               [1. , 0. ]])
    """
    d = check_count(n_objectives, name="n_objectives", least=2)
    m = check_count(resolution, name="resolution", least=1)
    parts = np.zeros((1, 0), dtype=np.int64)
    for _ in range(d - 1):
        room = m - parts.sum(axis=1)
        repeats = room + 1
        new = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        parts = np.column_stack([np.repeat(parts, repeats, axis=0), new])
    return check_weights(np.column_stack([parts, m - parts.sum(axis=1)]) / m)
