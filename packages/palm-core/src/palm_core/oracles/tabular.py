"""The exact oracle: KL-regularised policies over finitely many responses.

For rewards r(x, y), a reference policy π_ref(y|x) and f(π) = β·E_x KL(π‖π_ref)
the maximiser of J_w is known in closed form (Gibbs' variational principle):

    π_w(y|x) ∝ π_ref(y|x)·exp(w·r(x, y)/β),
    opt(w) = β·E_x log E_{y∼π_ref} exp(w·r(x, y)/β).

It is the limit of fine-tuning, without training: the ground truth for every
guarantee in this package, and the oracle of the tutorials.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError
from palm_core.model.policy import Policy
from palm_core.oracles.protocol import weight_id
from palm_core.oracles.task_table import TaskTable, make_task, read_task
from palm_core.validation import SUM_TOLERANCE, check_count, check_number, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


class TabularOracle:
    """Exact solutions of max_π J_w(π) on a task table.

    Args:
        rewards: (n_prompts, n_responses, d), in any finite range.
        reference: (n_prompts, n_responses) π_ref(y|x); ``None`` means uniform.
        beta: β > 0, the strength of the regulariser in units of reward.
        objectives: d names; ``None`` gives "objective 1" and so on.
        prompt_weights: (n_prompts,) distribution of x; ``None`` means uniform.
            Policies have per-prompt values only where it is uniform, since
            resampling assumes equally likely prompts.

    Raises:
        InputError: what :class:`palm_core.oracles.task_table.TaskTable` refuses, β ≤ 0, or
            prompt weights that are not a distribution.

    Example:
        >>> oracle = TabularOracle([[[1.0, 0.0], [0.0, 1.0]]], beta=0.1)
        >>> policy = next(oracle.solve([[0.5, 0.5]]))
        >>> policy.rewards, policy.regularizer
        (array([0.5, 0.5]), 0.0)
        >>> oracle.value([1.0, 0.0]).round(4)  # 1 − β·log 2, up to exp(−1/β)
        array([0.9307])
    """

    #: The oracle is exact: ε_o = δ_o = 0.
    epsilon = 0.0
    delta = 0.0

    def __init__(
        self,
        rewards: ArrayLike,
        reference: ArrayLike | None = None,
        beta: float = 0.05,
        objectives: Sequence[str] | None = None,
        *,
        prompt_weights: ArrayLike | None = None,
    ) -> None:
        table = TaskTable(rewards, reference, objectives)
        self.objectives = table.objectives
        self.beta = check_number(beta, name="beta", above=0.0)
        self._rewards = table.rewards
        self._reference = table.reference
        self._prompt_weights = _prompt_weights(prompt_weights, len(table.reference))
        self._support = table.reference > 0
        self._log_reference = np.log(
            table.reference, where=self._support, out=np.full(table.reference.shape, -np.inf)
        )
        spread = _highest(self._rewards, self._support) + _highest(-self._rewards, self._support)
        self._flat = self.beta >= float(spread.max())
        #: R_max, attained where rewards are not negative.
        self.reward_bound = self._mean(
            _highest(np.abs(self._rewards).sum(axis=2, keepdims=True), self._support)
        ).item()
        self.regularizer_bound = self._regularizer_bound(spread)

    def _mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """E_x of per-prompt values (n_prompts, …)."""
        if self._prompt_weights is None:
            return np.asarray(values.mean(axis=0))
        return np.asarray(self._prompt_weights @ values)

    def _regularizer_bound(self, spread: NDArray[np.float64]) -> float:
        """Upper bound on f(π_w) for every w, the least of three.

        J_w(π_w) ≥ J_w(π_ref) gives f(π_w) ≤ E_x max_y w·(r − E_ref r), convex
        in w and so largest at a vertex. KL ≤ log(1/π_ref). And for the
        log-partition A along w·r, f = β·∫_0^{1/β} s·A''(s) ds where A'' is a
        variance, at most (spread/2)², also convex in w: f ≤ E_x spread²/(8β).
        """
        at_reference = np.einsum("xy,xyd->xd", self._reference, self._rewards)
        climb = _highest(self._rewards, self._support) - at_reference
        rarest = -self._log_reference.min(axis=1, where=self._support, initial=np.inf)
        with np.errstate(over="ignore"):
            variance = np.square(spread / 2) / 2 / self.beta
        return float(
            max(
                0.0,
                min(
                    self._mean(climb).max(),
                    self.beta * self._mean(rarest),
                    self._mean(variance).max(),
                ),
            )
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all data that the answers depend on."""
        digest = hashlib.sha256(b"palm_core.oracles.tabular 1")
        weights = np.zeros(0) if self._prompt_weights is None else self._prompt_weights
        for array in (self._rewards, self._reference, weights, np.float64(self.beta)):
            digest.update(f"{np.shape(array)}".encode())
            digest.update(np.asarray(array, dtype="<f8").tobytes())
        digest.update("\0".join(self.objectives).encode())
        return digest.hexdigest()

    def solve(self, weights: ArrayLike) -> Iterator[Policy]:
        """Yield π_w for each row of ``weights`` (k, d), each as soon as it is computed.

        An answer depends on its row alone, to the last bit.

        Raises:
            InputError: rows that are not weight vectors of d entries.
        """
        rows = check_weights(weights, len(self.objectives))
        return map(self._policy, rows)

    def value(self, weights: ArrayLike) -> NDArray[np.float64]:
        """opt(w) for each row of ``weights`` (k, d): array (k,), exact.

        Raises:
            InputError: weights that are not on the simplex.
        """
        rows = check_weights(weights, len(self.objectives))
        return np.array([self._mean(self._tilt(row)[1]).item() for row in rows])

    def probabilities(self, weights: ArrayLike) -> NDArray[np.float64]:
        """π_w(y|x) for one weight vector (d,): array (n_prompts, n_responses).

        Raises:
            InputError: weights that are not on the simplex, or more than one row.
        """
        rows = check_weights(weights, len(self.objectives))
        if len(rows) != 1:
            raise InputError(f"weights: has {len(rows)} rows, must be one weight vector")
        return self._tilt(rows[0])[0]

    def _policy(self, weights: NDArray[np.float64]) -> Policy:
        policy, _, regularizer = self._tilt(weights)
        rewards = (policy[:, np.newaxis, :] @ self._rewards)[:, 0, :]
        uniform = self._prompt_weights is None
        return Policy(
            id=weight_id(weights),
            weights=weights.copy(),
            rewards=self._mean(rewards),
            regularizer=self._mean(regularizer).item(),
            prompt_rewards=rewards if uniform else None,
            prompt_regularizer=regularizer if uniform else None,
            info={"beta": self.beta},
        )

    def _tilt(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """π_w (n_prompts, n_responses), opt and f per prompt (n_prompts,)."""
        score = self._rewards @ weights
        best = score.max(axis=1, keepdims=True, where=self._support, initial=-np.inf)
        # Subtract before dividing by β, so that a β of 1e-300 loses no digits.
        lag = np.where(self._support, score - best, 0.0)
        with np.errstate(over="ignore"):
            exponent = lag / self.beta
        log_mass = self._log_reference + exponent
        shift = log_mass.max(axis=1, keepdims=True)
        mass = np.exp(log_mass - shift)
        total = mass.sum(axis=1, keepdims=True)
        policy = mass / total
        if self._flat:
            # log E_ref exp is near 0 and β large: log1p avoids cancellation.
            log_partition = np.log1p((self._reference * np.expm1(exponent)).sum(axis=1))
        else:
            log_partition = (shift + np.log(total))[:, 0]
        free = self.beta * log_partition
        regularizer = np.maximum((policy * lag).sum(axis=1) - free, 0.0)
        return policy, best[:, 0] + free, regularizer


def load(
    *,
    table: str | Path | None = None,
    beta: float = 0.05,
    objectives: Sequence[str] | None = None,
    prompts: int | None = None,
    responses: int | None = None,
    seed: int | None = None,
) -> TabularOracle:
    """Make the oracle named "tabular" from the options of a task file.

    Args:
        table: a file for :func:`palm_core.oracles.task_table.read_task`; ``None`` makes a
            task with :func:`palm_core.oracles.task_table.make_task`.
        beta: β > 0.
        objectives: names; default "helpful" and "brief", or all of the table's.
        prompts: number of made prompts, default 20.
        responses: number of made responses per prompt, default 200.
        seed: of the made task, default 0.

    Raises:
        InputError: an option out of range, ``table`` together with an option of
            the made task, or a file that is not a task table.
    """
    beta = check_number(beta, name="beta", above=0.0)
    if objectives is not None and (
        isinstance(objectives, str)
        or not isinstance(objectives, (list, tuple))
        or not all(isinstance(name, str) for name in objectives)
    ):
        raise InputError(f"objectives = {objectives!r}: must be a list of names")
    made = {"prompts": prompts, "responses": responses, "seed": seed}
    given = [name for name, value in made.items() if value is not None]
    if table is None:
        task = make_task(
            ("helpful", "brief") if objectives is None else objectives,
            n_prompts=20 if prompts is None else check_count(prompts, name="prompts", least=1),
            n_responses=200
            if responses is None
            else check_count(responses, name="responses", least=2),
            seed=0 if seed is None else seed,
        )
    elif given:
        raise InputError(f"table and {given[0]} exclude each other: keep one of them")
    elif isinstance(table, (str, Path)):
        task = read_task(table, objectives)
    else:
        raise InputError(f"table = {table!r}: must be the path of a file")
    return TabularOracle(task.rewards, task.reference, beta, task.objectives)


def _highest(values: NDArray[np.float64], support: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Largest value over the responses of positive probability: (n_prompts, d)."""
    return np.asarray(values.max(axis=1, where=support[:, :, np.newaxis], initial=-np.inf))


def _prompt_weights(given: ArrayLike | None, n_prompts: int) -> NDArray[np.float64] | None:
    if given is None:
        return None
    try:
        weights = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"prompt_weights: must be {n_prompts} numbers: {error}") from error
    if weights.shape != (n_prompts,):
        raise InputError(f"prompt_weights: must have shape ({n_prompts},), has {weights.shape}")
    # NaN fails both comparisons
    if not ((weights >= 0).all() and abs(weights.sum() - 1) <= SUM_TOLERANCE):
        raise InputError("prompt_weights: must not be negative and must add to 1")
    return np.asarray(weights / weights.sum())
