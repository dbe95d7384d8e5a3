"""Policies as the algorithm sees them: reward vectors r(π) and regulariser f(π).

Paper, equation (1): J_w(π) = w·r(π) − f(π). On the simplex Σ_i w_i = 1, so with
the *vertex values* u(π) = r(π) − f(π)·1 this is J_w(π) = w·u(π), and u_i(π) is
the objective at the i-th vertex e_i. A policy is measured once and then known
at every weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core._exact import Values
from palm_core.errors import InputError
from palm_core.simplex import check_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core._exact import Reading

# Differences and sums of few values must not overflow.
LARGEST_REWARD = 1e300


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """One policy, measured: what an oracle answers for one weight vector.

    Args:
        id: a name, unique in its run.
        weights: (d,) the weight vector that the oracle was asked for.
        rewards: (d,) mean rewards r_i(π) = E[r_i(x, y)], higher is better.
        regularizer: f(π), in units of reward (for example β·KL).
        reward_errors: (d,) standard errors of ``rewards``, or ``None``.
        prompt_rewards: (n_prompts, d) mean reward per prompt, or ``None``.
        prompt_regularizer: (n_prompts,) regulariser per prompt, or ``None``.
        artifact: where the model itself is: a path relative to the run's folder for
            artifacts (:mod:`palm_core.artifacts`), an absolute path or a URI; or ``None``.
        info: anything else worth keeping; plain JSON values.

    The values are taken as they are; :func:`palm_core.oracle.check_answer`
    refuses the unusable ones at the door of a run.
    """

    id: str
    weights: NDArray[np.float64]
    rewards: NDArray[np.float64]
    regularizer: float = 0.0
    reward_errors: NDArray[np.float64] | None = None
    prompt_rewards: NDArray[np.float64] | None = None
    prompt_regularizer: NDArray[np.float64] | None = None
    artifact: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.4g}" for value in np.atleast_1d(self.rewards))
        return f"Policy(id={self.id!r}, rewards=[{shown}], regularizer={self.regularizer:.4g})"


class PolicySet:
    """m policies in d objectives, as arrays.

    Args:
        rewards: (m, d) rewards, one policy per row, higher is better.
        regularizer: (m,) f(π) ≥ 0 in units of reward; ``None`` means zero.
        names: m names; ``None`` numbers the policies from "0".
        objectives: d names; ``None`` gives "objective 1" and so on.
        exact: the exact numbers of rewards that were computed; without a regulariser.
        order: (m, d) numbers that are ordered in each objective as those are, if known.

    Raises:
        InputError: wrong shapes, values that are not finite, no policy, fewer
            than two objectives, names that repeat.

    Example:
        >>> policies = PolicySet([[1.0, 0.0], [0.6, 0.6]], regularizer=[0.0, 0.1])
        >>> policies.objective([[1.0, 0.0], [0.5, 0.5]])
        array([[1. , 0.5],
               [0.5, 0.5]])
    """

    __slots__ = ("exact", "names", "objectives", "order", "regularizer", "rewards", "vertex_values")

    def __init__(
        self,
        rewards: ArrayLike,
        regularizer: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        *,
        objectives: Sequence[str] | None = None,
        exact: Reading | None = None,
        order: NDArray[np.float64] | None = None,
    ) -> None:
        #: Exact vertex values, where ``rewards`` are rationals that were rounded, and numbers
        #: (m, d) in the order of these, if known.
        self.exact, self.order = exact, order
        self.rewards: NDArray[np.float64] = _matrix(rewards)
        m, d = self.rewards.shape
        self.regularizer: NDArray[np.float64] = _regularizer(regularizer, m)
        self.names: tuple[str, ...] = _names(names, m, "names", "policies", str)
        self.objectives: tuple[str, ...] = _names(
            objectives, d, "objectives", "objectives", lambda i: f"objective {i + 1}"
        )
        #: (m, d) u(π) = r(π) − f(π)·1: J at the d vertices of the simplex.
        self.vertex_values: NDArray[np.float64] = np.ascontiguousarray(
            self.rewards - self.regularizer[:, np.newaxis]
        )
        for array in (self.rewards, self.regularizer, self.vertex_values):
            array.flags.writeable = False

    @classmethod
    def from_policies(
        cls, policies: Sequence[Policy], objectives: Sequence[str] | None = None
    ) -> PolicySet:
        """Collect measured policies; rewards (m, d), names from their ids."""
        if not policies:
            raise InputError("policies: at least one is needed, got none")
        return cls(
            [policy.rewards for policy in policies],
            [policy.regularizer for policy in policies],
            [policy.id for policy in policies],
            objectives=objectives,
        )

    @property
    def n_policies(self) -> int:
        """m, the number of policies."""
        return int(self.rewards.shape[0])

    @property
    def n_objectives(self) -> int:
        """d, the number of objectives."""
        return int(self.rewards.shape[1])

    def __len__(self) -> int:
        return self.n_policies

    def __repr__(self) -> str:
        return f"PolicySet({self.n_policies} policies, {self.n_objectives} objectives)"

    def objective(self, weights: ArrayLike) -> NDArray[np.float64]:
        """J_w(π) for each weight vector and policy (paper, equation 1).

        Args:
            weights: (d,) or (k, d) on the simplex.

        Returns:
            Array (k, m). For many weights and policies at once prefer
            :func:`palm_core.cover_weights`, which never builds this matrix.
        """
        return check_weights(weights, self.n_objectives) @ self.vertex_values.T

    def subset(self, indices: ArrayLike) -> PolicySet:
        """The policies at ``indices``, in that order, names kept."""
        chosen = np.atleast_1d(np.asarray(indices, dtype=np.intp))
        return PolicySet(
            self.rewards[chosen],
            self.regularizer[chosen],
            [self.names[i] for i in chosen],
            objectives=self.objectives,
            exact=None if self.exact is None else self.values().take(chosen).readings[0],
            order=None if self.order is None else self.order[chosen],
        )

    def as_written(self) -> PolicySet:
        """The same policies, with short decimals read as the decimals that they are."""
        return PolicySet(
            self.rewards,
            self.regularizer,
            self.names,
            objectives=self.objectives,
            exact=self.values().readings[-1],
            order=self.values().order,
        )

    def values(self) -> Values:
        """Vertex values (m, d) with the exact numbers behind them."""
        if self.exact is not None:
            return Values(self.vertex_values, [self.exact], order=self.order)
        return Values.of(self.rewards, self.regularizer)


def _matrix(rewards: ArrayLike) -> NDArray[np.float64]:
    try:
        matrix = np.array(rewards, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"rewards: must be numbers in an array (m, d): {error}") from error
    if matrix.ndim != 2:
        raise InputError(f"rewards: must have shape (m, d), has {matrix.shape}")
    if matrix.shape[0] < 1:
        raise InputError("rewards: at least one policy is needed, got none")
    if matrix.shape[1] < 2:
        raise InputError(f"rewards: at least 2 objectives are needed, got {matrix.shape[1]}")
    _finite(matrix, "rewards")
    return matrix


def _regularizer(regularizer: ArrayLike | None, m: int) -> NDArray[np.float64]:
    if regularizer is None:
        return np.zeros(m)
    try:
        values = np.array(regularizer, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"regularizer: must be {m} numbers: {error}") from error
    if values.shape != (m,):
        raise InputError(f"regularizer: must have shape ({m},), has {values.shape}")
    _finite(values, "regularizer")
    if (values < 0).any():
        index = int(np.argmax(values < 0))
        raise InputError(f"regularizer[{index}] = {values[index]:g}: must be at least 0")
    return values


def _finite(values: NDArray[np.float64], name: str) -> None:
    bad = ~(np.abs(values) <= LARGEST_REWARD)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        shown = ", ".join(map(str, index))
        raise InputError(f"{name}[{shown}] = {values[index]}: must be a finite number below 1e300")


def _names(
    given: Sequence[str] | None, count: int, name: str, of: str, default: Any
) -> tuple[str, ...]:
    if given is None:
        return tuple(default(i) for i in range(count))
    names = tuple(str(item) for item in given)
    if len(names) != count:
        raise InputError(f"{name}: {len(names)} given for {count} {of}")
    if len(set(names)) != count:
        twice = next(item for item in names if names.count(item) > 1)
        raise InputError(f"{name}: {twice!r} stands twice, every name must be unique")
    return names
