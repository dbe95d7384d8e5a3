"""The oracle protocol: interface, claims, validation of answers.

An oracle is any object with ``objectives`` and ``solve``; it imports nothing
of PALM but :class:`palm_core.Policy`. Answers are validated on receipt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

import msgspec
import numpy as np

from palm_core.errors import InputError, OracleAnswerError
from palm_core.model.policy import LARGEST_REWARD, Policy
from palm_core.model.portfolio import DEEPEST, too_deep
from palm_core.validation import check_number, complaint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Maximum length of an id from :func:`weight_id`.
LONGEST_ID = 120


@runtime_checkable
class Oracle(Protocol):
    """Finds the best policy for a weight vector (paper, section 3.2).

    An oracle may also have these attributes, read by :func:`claims`:

    * ``epsilon``, ``delta``: every answer is within (ε_o, δ_o) of opt_w
      (paper, footnote 3). 0 claims exact answers. Without both nothing is claimed:
      certificates are then conditional on exact answers, and say so.
    * ``reward_bound``: R_max, at least max_π Σ_i |r_i(π)|.
    * ``regularizer_bound``: f_max, at least max_π f(π) over the policies that
      are optimal at some weight.
    * ``fingerprint``: a string that changes whenever the answers would.

    and these optional methods:

    * ``estimate(calls)``: the cost of that many calls (``None``: unknown), as texts by
      resource ("downloads", "memory", "computing"); ``palm plan`` shows it.
    * ``remeasure(policy, *, artifact, prompts)``: the policy measured again, on that many
      prompts; called by ``palm evaluate --prompts``.
    """

    if TYPE_CHECKING:
        # A read-only property, so that a class attribute ("kind", "brief") conforms.
        @property
        def objectives(self) -> tuple[str, ...]:
            """Names of the d objectives."""
            ...

    else:
        objectives: tuple[str, ...]

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order, as each is ready."""
        ...


class ClaimedSlack(TypedDict):
    """Slack as arguments of :func:`palm_core.certify` and :class:`palm_core.AdaptiveGrid`."""

    oracle_epsilon: float | None
    oracle_delta: float | None


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Claims of an oracle: slack (ε_o, δ_o), R_max and f_max (or ``None``).

    Args:
        epsilon: ε_o; 0 without a claim.
        delta: δ_o, in units of reward; 0 without a claim.
        reward_bound: R_max.
        regularizer_bound: f_max.
        exact: whether ε_o and δ_o are claimed to be 0.
    """

    epsilon: float = 0.0
    delta: float = 0.0
    reward_bound: float | None = None
    regularizer_bound: float | None = None
    exact: bool = False

    @property
    def slack_claimed(self) -> bool:
        """Whether slack is claimed; otherwise exact answers are assumed."""
        return self.exact or self.epsilon > 0 or self.delta > 0

    def accuracy(self) -> ClaimedSlack:
        """ε_o and δ_o as arguments of :func:`palm_core.certify`: ``None`` where not claimed."""
        if not self.slack_claimed:
            return ClaimedSlack(oracle_epsilon=None, oracle_delta=None)
        return ClaimedSlack(oracle_epsilon=self.epsilon, oracle_delta=self.delta)


def claims(oracle: Oracle) -> Claims:
    """Read the optional attributes of ``oracle``.

    Raises:
        InputError: a claimed slack or bound that is not a number in its range.
    """

    def read(name: str, **limits: Any) -> float | None:
        value = getattr(oracle, name, None)
        return None if value is None else check_number(value, name=f"oracle.{name}", **limits)

    epsilon, delta = read("epsilon", least=0.0, most=1.0), read("delta", least=0.0)
    return Claims(
        epsilon=epsilon or 0.0,
        delta=delta or 0.0,
        exact=(epsilon, delta) != (None, None) and not (epsilon or delta),
        reward_bound=read("reward_bound", least=0.0),
        regularizer_bound=read("regularizer_bound", least=0.0),
    )


def check_certifiable(claimed: Claims) -> None:
    """Refuse an adaptive grid if the oracle's claim allows no certificate.

    Raises:
        InputError: the oracle claims a slack of epsilon = 1, so that no gap can be certified.
    """
    if claimed.epsilon >= 1:
        raise InputError(
            f"[adaptive]: the oracle claims epsilon = {claimed.epsilon:g}, must claim less than 1 "
            "to certify a gap; or use [grid]"
        )


def check_oracle(oracle: Any) -> tuple[str, ...]:
    """Validate ``oracle`` and return its objectives.

    Raises:
        InputError: ``objectives`` or ``solve`` is missing, or the objectives
            are not at least two distinct names.
    """
    if not callable(getattr(oracle, "solve", None)):
        raise InputError(f"oracle {type(oracle).__name__}: must have a method solve(weights)")
    names = getattr(oracle, "objectives", None)
    if (
        isinstance(names, str)
        or not isinstance(names, (tuple, list))
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) != len(names)
        or len(names) < 2
    ):
        raise InputError(f"oracle.objectives = {names!r}: must be at least two distinct names")
    for unfit in filter(None, map(complaint, names)):
        raise InputError(f"oracle.objectives: {unfit}")
    return tuple(names)


def weight_id(weights: NDArray[np.float64]) -> str:
    """A readable policy id of a weight vector, unique to six significant digits.

    Portable as a file name; of many weights, all but the first are replaced by a digest.

    Example:
        >>> weight_id(np.array([0.75, 0.25]))
        'w0.75-0.25'
    """
    name = "w" + "-".join(f"{value:.6g}" for value in weights)
    if len(name) <= LONGEST_ID:
        return name
    # Many objectives: ids are folder names, whose length is limited.
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    shown = name[: LONGEST_ID - 17].rpartition("-")[0]
    return f"{shown}-{digest}"


def check_answer(answer: Any, weights: NDArray[np.float64], objectives: tuple[str, ...]) -> Policy:
    """Validate ``answer`` and return it with float64 arrays.

    Args:
        answer: the value that the oracle yielded.
        weights: (d,) the weight vector that it was asked for.
        objectives: the d objectives of the task.

    Raises:
        OracleAnswerError: not a policy; an invalid id or artifact; another
            weight vector than the one asked for; rewards or regulariser of the wrong
            shape, not finite, or (regulariser) negative; ``info`` that is not JSON.
    """
    if not isinstance(answer, Policy):
        raise OracleAnswerError(
            f"the oracle yielded a {type(answer).__name__}, must be a palm_core.Policy"
        )
    name = answer.id
    if not isinstance(name, str) or not name.strip():
        raise OracleAnswerError(f"policy id = {name!r}: must be text that is not empty")
    _check_name(name, "policy id")
    d = len(objectives)
    asked = _array(answer.weights, (d,), f"policy {name!r}: weights")
    # The same policy may answer several weights; ``weights`` must be the requested ones,
    # up to a round trip through float32.
    if not np.allclose(asked, weights, rtol=0.0, atol=1e-6):
        raise OracleAnswerError(
            f"policy {name!r}: weights = {_shown(asked)}: must be {_shown(weights)}"
        )
    rewards = _array(answer.rewards, (d,), f"policy {name!r}: rewards")
    regularizer = _array(answer.regularizer, (), f"policy {name!r}: regularizer")
    if regularizer < 0:
        raise OracleAnswerError(
            f"policy {name!r}: regularizer = {float(regularizer):g}: must be at least 0"
        )
    errors = answer.reward_errors
    if errors is not None:
        errors = _array(errors, (d,), f"policy {name!r}: reward_errors")
        if (errors < 0).any():
            raise OracleAnswerError(
                f"policy {name!r}: reward_errors must be at least 0, got {_shown(errors)}"
            )
    per_prompt = answer.prompt_rewards
    if per_prompt is not None:
        per_prompt = _array(per_prompt, (None, d), f"policy {name!r}: prompt_rewards")
        if not len(per_prompt):
            raise OracleAnswerError(f"policy {name!r}: prompt_rewards must have at least one row")
    per_prompt_f = answer.prompt_regularizer
    if per_prompt_f is not None:
        rows = None if per_prompt is None else len(per_prompt)
        per_prompt_f = _array(per_prompt_f, (rows,), f"policy {name!r}: prompt_regularizer")
    if answer.artifact is not None and not isinstance(answer.artifact, str):
        raise OracleAnswerError(f"policy {name!r}: artifact must be a path or URI as a string")
    _check_name(answer.artifact or "", f"policy {name!r}: artifact")
    try:
        info = json.loads(json.dumps(dict(answer.info), allow_nan=False))
        msgspec.json.encode(info)  # refuses lone surrogates and integers beyond 64 bits
        if too_deep([info]):
            raise ValueError(f"nested more than {DEEPEST} deep")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise OracleAnswerError(f"policy {name!r}: info must be plain JSON: {error}") from error
    return replace(
        answer,
        weights=np.array(weights, dtype=np.float64),
        rewards=rewards,
        regularizer=float(regularizer),
        reward_errors=errors,
        prompt_rewards=per_prompt,
        prompt_regularizer=per_prompt_f,
        info=info,
    )


def _check_name(name: str, what: str) -> None:
    unfit = complaint(name)
    if unfit is not None:
        raise OracleAnswerError(f"{what}: {unfit}")


def _array(value: Any, shape: tuple[int | None, ...], name: str) -> NDArray[np.float64]:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor with a gradient
        raise OracleAnswerError(f"{name} must be numbers: {error}") from error
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        want = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
        raise OracleAnswerError(f"{name} must have shape {want}, has {array.shape}")
    if not (np.abs(array) <= LARGEST_REWARD).all():
        raise OracleAnswerError(f"{name} must be finite numbers, got {_shown(np.ravel(array))}")
    return array


def _shown(values: NDArray[np.float64]) -> str:
    rest = ", …" if values.size > 6 else ""
    return "(" + ", ".join(f"{value:.6g}" for value in values[:6]) + rest + ")"
