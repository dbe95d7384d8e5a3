"""Policies: measured policies, policy sets as arrays, the best policy at each weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from palm_core.errors import InputError, OracleAnswerError
from palm_core.geometry.exact import Values, rounding_error
from palm_core.model.encoding import Amount, Amounts, Array, Shares
from palm_core.validation import check_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core.geometry.exact import Reading
    from palm_core.geometry.kernels import Groups

    Members = NDArray[np.intp]


def vertex_values(policies: PolicySet | ArrayLike) -> NDArray[np.float64]:
    """Vertex values u(π) = r(π) − f(π)·1 of a policy set, or of rewards (m, d) with f = 0.

    Raises:
        InputError: rewards that are not m ≥ 1 rows of d ≥ 2 finite numbers.
    """
    if not isinstance(policies, PolicySet):
        policies = PolicySet(policies)
    return policies.vertex_values


# Sorting a weight costs about as much as evaluating this many policies.
_WORTH_SORTING = 1024
# Fewer pairs than this take less time than importing Numba.
_FEW_PAIRS = 1 << 16
# Fewer multiplications than this take less time than starting threads.
_WORTH_A_THREAD = 1 << 22


@dataclass(frozen=True, eq=False, kw_only=True)
class Best:
    """The best value at each of k weights, and the policy that attains it.

    Attributes:
        values: (k,) opt_w = max_π J_w(π) over the policies evaluated.
        indices: (k,) the policy that attains it, the lowest index of several.
        rounding: (k,) error bound of the computed value
            (:func:`palm_core.geometry.exact.rounding_error` of Σ_i w_i·|u_i| of that policy).
    """

    values: NDArray[np.float64]
    indices: NDArray[np.int64]
    rounding: NDArray[np.float64]


def best_policies(policies: PolicySet, weights: ArrayLike) -> Best:
    """opt_w = max_π J_w(π) and the policy that attains it, for k weights.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.

    Returns:
        :class:`Best` with arrays (k,). Of several policies with the same
        computed value, the lowest index. J_w(π) is computed as
        ((w_1·u_1 + w_2·u_2) + w_3·u_3) + … in float64 on vertex values u,
        whatever the sizes, the machine and the number of threads.

    Raises:
        InputError: weights that are not on the simplex of d objectives.

    Example:
        >>> from palm_core import PolicySet
        >>> two = PolicySet([[1.0, 0.0], [0.0, 1.0]])
        >>> best_policies(two, [[0.75, 0.25], [0.5, 0.5]]).indices
        array([0, 0])
    """
    return _best(policies.vertex_values, check_weights(weights, policies.n_objectives))


def _best(u: NDArray[np.float64], rows: NDArray[np.float64]) -> Best:
    if len(rows) * len(u) <= _FEW_PAIRS:
        values, indices = _best_of_few(u, rows)
    else:
        values, indices = _best_of_many(u, rows)
    size = (rows * np.abs(u[indices])).sum(axis=1)
    return Best(values=values, indices=indices, rounding=rounding_error(u.shape[1]) * size)


def _best_of_few(
    u: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Plain NumPy, bit for bit what the kernel computes."""
    values = rows[:, :1] * u[:, 0]
    for i in range(1, u.shape[1]):
        values += rows[:, i : i + 1] * u[:, i]
    indices = values.argmax(axis=1)
    return values[np.arange(len(rows)), indices], indices.astype(np.int64, copy=False)


def _best_of_many(
    u: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from palm_core.geometry import kernels as _kernels

    groups = _groups(u)
    along = _along_a_curve(rows) if len(u) >= _WORTH_SORTING else np.arange(len(rows))
    words = _words(rows[along])
    best = np.empty((len(words), _kernels.WORD)), np.empty((len(words), _kernels.WORD), np.int64)
    kernel = _kernels.best_words(u.shape[1])
    _kernels.in_parallel(
        lambda first, last: kernel(groups, words, first, last, best),
        len(words),
        grain=max(8, _grain(u.size * _kernels.WORD)),
    )
    values, indices = np.empty(len(rows)), np.empty(len(rows), np.int64)
    values[along] = best[0].reshape(-1)[: len(rows)]
    indices[along] = best[1].reshape(-1)[: len(rows)]
    return values, indices


def _grain(operations: int) -> int:
    """The number of items, of ``operations`` each, that are worth a thread."""
    return -(-_WORTH_A_THREAD // max(operations, 1))


def _groups(u: NDArray[np.float64]) -> Groups:
    from palm_core.geometry.kernels import GROUP, Groups

    order = _along_a_curve(u)
    # The kernels process two policies at a time; a duplicate is harmless.
    if len(order) % 2:
        order = np.append(order, order[-1])
    # Ascending index within each group, so that ties resolve to the lowest index.
    whole = len(order) // GROUP * GROUP
    order[:whole].reshape(-1, GROUP).sort(axis=1)
    order[whole:].sort()
    starts = np.arange(0, len(order), GROUP)
    sorted_u = np.ascontiguousarray(u[order])
    return Groups(sorted_u, order, np.maximum.reduceat(sorted_u, starts, axis=0), order[starts])


def _words(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(words, d, 64): the weights in words of 64, by objective, padded by zeros."""
    from palm_core.geometry.kernels import WORD

    k, d = rows.shape
    n_words = -(-k // WORD)
    if k % WORD:
        rows = np.concatenate([rows, np.zeros((n_words * WORD - k, d))])
    return np.ascontiguousarray(rows.reshape(n_words, WORD, d).transpose(0, 2, 1))


def _along_a_curve(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of the points (n, d) in which neighbours are close: Morton (1966).

    Each coordinate is scaled to its range and quantised to a few bits, about 24 in
    all, and the bits of all coordinates are interleaved.
    """
    used = points[:, :32]
    d = used.shape[1]
    n_bits = max(1, 24 // d)
    low = used.min(axis=0)
    # Halves, because the difference of two numbers may overflow.
    spread = used.max(axis=0) / 2 - low / 2
    spread[spread == 0] = 1.0
    cells = ((used / 2 - low / 2) / spread * (2**n_bits - 1)).astype(np.uint32)
    key = np.zeros(len(points), np.uint32)
    for bit in range(n_bits):
        digits = (cells >> bit) & 1
        for i in range(d):
            key |= digits[:, i] << (bit * d + i)
    return np.argsort(key, kind="stable").astype(np.int64, copy=False)


def add_policy(policy: Policy, by_id: dict[str, Policy]) -> None:
    """Add ``policy`` to ``by_id``; equal ids must have equal values.

    Raises:
        OracleAnswerError: another policy of that id has other rewards.
    """
    other = by_id.setdefault(policy.id, policy)
    if not np.array_equal(other.rewards, policy.rewards) or other.regularizer != policy.regularizer:
        raise OracleAnswerError(
            f"policy id {policy.id!r}: two answers with different rewards, "
            "ids must be unique in a run"
        )


# Limit of values, so that differences and sums of a few do not overflow.
LARGEST_REWARD = 1e300


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """A measured policy, in raw units: the answer of an oracle for one weight vector.

    Args:
        id: a name, unique in its run.
        weights: (d,) the weight vector that the oracle was asked for.
        rewards: (d,) mean rewards r_i(π) = E[r_i(x, y)], higher is better.
        regularizer: f(π), in units of reward (for example β·KL).
        reward_errors: (d,) standard errors of ``rewards``, or ``None``.
        prompt_rewards: (n_prompts, d) mean reward per prompt, or ``None``.
        prompt_regularizer: (n_prompts,) regulariser per prompt, or ``None``.
        artifact: location of the model: a path relative to the run's folder for
            artifacts (:mod:`palm_core.run.artifacts`), an absolute path or a URI; or ``None``.
        info: further metadata; plain JSON values.

    The values are not validated here, but by
    :func:`palm_core.oracles.protocol.check_answer` on receipt in a run.
    """

    #: Per-prompt arrays are in the ledger only.
    NOT_STORED: ClassVar = ("prompt_rewards", "prompt_regularizer")

    id: Annotated[str, Meta(description="its name, unique in the file")]
    weights: Annotated[Shares, Meta(description="d: the weight vector the oracle was asked")]
    rewards: Annotated[Array, Meta(description="d: mean rewards, higher is better")]
    regularizer: Annotated[Amount, Meta(description="f(π), in units of reward")] = 0.0
    reward_errors: Annotated[
        Amounts | None, Meta(description="d: standard errors of `rewards`")
    ] = None
    prompt_rewards: Array | None = None
    prompt_regularizer: Array | None = None
    artifact: Annotated[
        str | None, Meta(description="the model: a path inside the run, another path or a URI")
    ] = None
    info: Annotated[Mapping[str, Any], Meta(description="further metadata of the oracle")] = field(
        default_factory=dict
    )

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
        exact: the exact numbers of computed rewards; without a regulariser.
        order: (m, d) numbers ordered in each objective as the exact ones, if known.

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
        #: Exact vertex values, where ``rewards`` are rounded rationals, and numbers (m, d)
        #: ordered as these, if known.
        self.exact, self.order = exact, order
        self.rewards: NDArray[np.float64] = _matrix(rewards)
        m, d = self.rewards.shape
        self.regularizer: NDArray[np.float64] = _regularizer(regularizer, m)
        self.names: tuple[str, ...] = _names(names, m, "names", "policies", str)
        self.objectives: tuple[str, ...] = _names(
            objectives, d, "objectives", "columns of rewards", lambda i: f"objective {i + 1}"
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
        """A policy set of measured policies; rewards (m, d), names from their ids.

        Raises:
            InputError: no policies, or as the constructor.
        """
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

        Raises:
            InputError: weights that are not on the simplex.
        """
        return check_weights(weights, self.n_objectives) @ self.vertex_values.T

    def subset(self, indices: ArrayLike) -> PolicySet:
        """The policies at ``indices``, in that order, with their names."""
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
        """The same policies, with short decimals read as exact decimals."""
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
        raise InputError(f"{name}: {len(names)} given, must be {count}, as many as {of}")
    if len(set(names)) != count:
        twice = next(item for item in names if names.count(item) > 1)
        raise InputError(f"{name}: duplicate name {twice!r}, every name must be unique")
    return names
