"""What each further policy buys: the least gap of every portfolio size, at every weight.

ε_s is the least multiplicative gap that s of the candidates can have over the whole
simplex. :func:`palm_core.minimal_report` answers "how many for this ε"; here it is asked
at the gaps that its own answers attain, so that the values found are exact, not those
of a raster.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_core.minimal import Minimal, least_policies
from palm_core.simplex import check_count, check_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import PolicySet

# Below this share of the gap in hand, probe just under it rather than halfway.
_NEAR = 1e-2
# What is asked when time is up gets that long: a portfolio without a proof.
_LEAST_SECONDS = 1e-3
# Gaps that differ by this share count as one: float64 tells them apart, exact ties cost nothing.
_SAME = 2.0**-30


@dataclass(frozen=True, kw_only=True, eq=False)
class SizeGap:
    """The best portfolio of one size.

    Args:
        size: how many policies.
        epsilon: its exact multiplicative gap ε_s.
        delta: its exact additive gap, in units of reward.
        indices: the policies, ascending.
        proven: no portfolio of that size has a gap that is smaller by more than a share of
            1e-9.
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
    time_limit: float = 60.0,
) -> list[SizeGap]:
    """The least gap for each portfolio size, over the whole simplex, with proof.

    A size is left out where one policy less does as well. The curve ends at gap 0, or
    where more than ``most`` policies are needed for less.

    Args:
        candidates: m policies, or their rewards (m, d).
        most: the largest size of interest; ``None`` means all.
        solver: for the integer programs, as in :func:`palm_core.prune_report`.
        time_limit: seconds for the whole curve. When they are over, the size in hand is the
            last one, unproven.

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

    deadline = time.perf_counter() + check_number(time_limit, name="time_limit", above=0.0)

    def left() -> float:
        return deadline - time.perf_counter()

    def ask(epsilon: float) -> Minimal:
        seconds = max(left(), _LEAST_SECONDS)
        return least_policies(candidates, epsilon=epsilon, solver=solver, time_limit=seconds)

    curve: list[SizeGap] = []
    current = ask(1.0)
    while most is None or len(current.indices) <= most:
        size, best, more = len(current.indices), current, None
        low, proven, just_below, step = 0.0, True, True, _SAME
        # Asked just below the gap in hand, or, after that found a better one, halfway.
        # Ends: what is found has a smaller gap than the last, of finitely many, or the step
        # grows; where nothing is found just below, there is nothing.
        while best.gaps.epsilon > 0 and left() > 0:
            gap = best.gaps.epsilon
            just_below = just_below or gap - low <= _NEAR * gap
            found = ask(gap * (1.0 - step) if just_below else (low + gap) / 2)
            if len(found.indices) > size:
                low, more = found.epsilon, found
                proven = found.lower_bound > size and step == _SAME
                if just_below:
                    break
                just_below = True
            elif found.gaps.epsilon < gap:
                best, just_below = found, False
            else:  # next to the least number that there is
                just_below, step = True, 16 * step
        else:
            proven = best.gaps.epsilon == 0
        curve.append(
            SizeGap(
                size=size,
                epsilon=best.gaps.epsilon,
                delta=best.gaps.delta,
                indices=best.indices,
                proven=proven,
            )
        )
        if more is None or best.gaps.epsilon == 0 or left() <= 0:
            break
        current = more
    return curve
