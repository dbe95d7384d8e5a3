"""The policies of a run's baselines: known to the run, or asked of its oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Normalization
from palm_core.collecting import same_or_new
from palm_core.oracle import check_oracle
from palm_eval.baselines import nearest_known, policies_at, random_weights, uniform_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from palm_core import Oracle, Policy
    from palm_core.runs import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class RunBaseline:
    """Policies of a baseline, the weights they are for (as users mean them), and the calls.

    Args:
        policies: one for each of the weights; some may be the same.
        weights: (k, d).
        calls: distinct weights, as the paper counts calls.
        made: the calls that the run had no policy for.
    """

    policies: tuple[Policy, ...]
    weights: NDArray[np.float64]
    calls: int
    made: int


def ask_baselines(
    run: Run,
    oracle: Oracle | None,
    known: Sequence[Policy],
    *,
    size: int,
    meant: Normalization,
    seed: int,
) -> tuple[dict[str, RunBaseline], dict[str, str]]:
    """Policies at uniform weights, at three times random ones, and at a grid's worth.

    Args:
        run: whose answers are asked for nothing twice.
        oracle: asked where the run has no policy; ``None`` leaves such a baseline out.
        known: the run's policies, each once.
        size: how many weights "uniform" and "random 0" to "random 2" have; "uniform_palm"
            has as many as the run asked.
        meant: the space that weights speak of; the oracle is asked in its own.
        seed: of the weights.

    Returns:
        The baselines by name, and why others are missing ("random" stands for all three).

    Raises:
        OracleAnswerError: an answer that is no policy for its weights.
    """
    d = len(run.objectives)
    wanted: dict[str, NDArray[np.float64]] = {}
    if size >= 2 or d > 2:
        wanted["uniform"] = uniform_weights(size, d, seed=seed)
    for number, rows in enumerate(random_weights(size, d, seed=seed)):
        wanted[f"random {number}"] = rows
    if len(run.answers) >= 2:
        wanted["uniform_palm"] = uniform_weights(len(run.answers), d, seed=seed)
    found: dict[str, RunBaseline] = {}
    missing: dict[str, str] = {}
    everyone = list(known)
    for name, rows in wanted.items():
        asked = meant.raw_weights(rows)
        left = int(np.count_nonzero(~nearest_known(everyone, asked).exact))
        if left and oracle is None:
            label = "random" if name.startswith("random ") else name
            missing[label] = f"{left} of its {len(rows)} weights have no policy in the run"
            continue
        answered = policies_at(oracle or _Nobody(run.objectives), asked, known=everyone)
        everyone = distinct([*everyone, *answered.policies])
        found[name] = RunBaseline(
            policies=answered.policies,
            weights=rows,
            calls=answered.n_weights,
            made=answered.calls,
        )
    return found, missing


def check_oracle_of(run: Run, oracle: Oracle | None) -> None:
    """Refuse an oracle for other objectives than the run's.

    Raises:
        InputError: that is so, or it is no oracle.
    """
    if oracle is not None and check_oracle(oracle) != run.objectives:
        raise InputError(
            f"oracle.objectives = {check_oracle(oracle)}: must be {run.objectives}, the run's"
        )


def distinct(policies: Sequence[Policy]) -> list[Policy]:
    """Each policy once; an id that means two policies is refused, not mixed up.

    Raises:
        OracleAnswerError: the same id with other rewards.
    """
    found: dict[str, Policy] = {}
    for policy in policies:
        same_or_new(policy, found)
    return list(found.values())


class _Nobody:
    """An oracle that is never asked: all weights are known."""

    def __init__(self, objectives: tuple[str, ...]) -> None:
        self.objectives = objectives

    def solve(self, weights: NDArray[np.float64]) -> Any:
        raise AssertionError(f"asked at {weights}")
