"""What each further policy buys: the least gap of every portfolio size, at every weight.

ε_s is the least multiplicative gap that s of the candidates can have over the whole
simplex. :func:`palm_core.minimal_report` answers "how many for this ε"; here it is asked
at the gaps that its own answers attain, so that the values found are exact, not those
of a raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_core.minimal import Minimal, minimal_report
from palm_core.simplex import check_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import PolicySet

# Below this share of the gap in hand, probe just under it rather than halfway.
_NEAR = 1e-2
# Gaps this close are one: linear programs tell no more apart.
_SAME = 4e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class SizeGap:
    """The best portfolio of one size.

    Args:
        size: how many policies.
        epsilon: its exact multiplicative gap ε_s.
        delta: its exact additive gap, in units of reward.
        indices: the policies, ascending.
        proven: no portfolio of that size has a smaller gap (beyond 4e-9).
    """

    size: int
    epsilon: float
    delta: float
    indices: NDArray[np.intp]
    proven: bool


def size_gap_curve(
    candidates: PolicySet | ArrayLike,
    *,
    most: int | None = None,
    solver: str | None = None,
    time_limit: float = 10.0,
) -> list[SizeGap]:
    """The least gap for each portfolio size, over the whole simplex, with proof.

    A size is left out where one policy less does as well. The curve ends at gap 0, or
    where more than ``most`` policies are needed for less.

    Args:
        candidates: m policies, or their rewards (m, d).
        most: the largest size of interest; ``None`` means all.
        solver: for the integer programs, as in :func:`palm_core.prune_report`.
        time_limit: seconds for each of them; about a dozen are needed for each size.

    Raises:
        InputError: rewards that are not (m, d), or an argument out of range.
        WorkError: a solver failed.

    Example:
        >>> curve = size_gap_curve([[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]])
        >>> [(point.size, round(point.epsilon, 3)) for point in curve]
        [(1, 0.3), (2, 0.2), (3, 0.0)]
    """
    if most is not None:
        most = check_count(most, name="most", least=1)

    def ask(epsilon: float) -> Minimal:
        return minimal_report(candidates, epsilon=epsilon, solver=solver, time_limit=time_limit)

    curve: list[SizeGap] = []
    current = ask(1.0)
    while most is None or len(current.indices) <= most:
        size, best, more = len(current.indices), current, None
        low, proven = 0.0, True
        while best.gaps.epsilon > _SAME:
            gap = best.gaps.epsilon
            last = gap - low <= max(_NEAR * gap, 2 * _SAME)
            probe = gap - _SAME if last else (low + gap) / 2
            found = ask(probe)
            if len(found.indices) <= size:
                best = found
                continue
            low, more = probe, found
            if last:
                proven = found.lower_bound > size
                break
        curve.append(
            SizeGap(
                size=size,
                epsilon=best.gaps.epsilon,
                delta=best.gaps.delta,
                indices=best.indices,
                proven=proven,
            )
        )
        if more is None:
            break
        current = more
    return curve
