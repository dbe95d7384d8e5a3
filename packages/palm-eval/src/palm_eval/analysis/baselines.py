"""Baselines of a run: policies from the run's answers or from its oracle.

The oracle gets a baseline's weights as it got the grid's: rewards that are normalised
afterwards are normalised for both. All policies that are compared are pooled, each once, in one
space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from palm_core import InputError, Normalization, Policy, PolicySet
from palm_core.plugin import add_policy, changed_fields, check_oracle, fingerprint_fields
from palm_eval.baselines import nearest_known, policies_at, random_weights, uniform_weights

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Oracle, Run


@dataclass(frozen=True, eq=False)
class Pool:
    """The policies of runs and baselines, as one set of candidates.

    Gaps against different candidates, or in different units, cannot be compared: so all
    entries of a table use one pool.

    Args:
        policies: Π, each once.
        candidates: the same in the space of the weights.
        space: from the oracle's units to that space.
    """

    policies: tuple[Policy, ...]
    candidates: PolicySet
    space: Normalization

    @classmethod
    def of(cls, policies: Iterable[Policy], objectives: tuple[str, ...], method: str) -> Pool:
        """Pool ``policies``, which may repeat; "minmax" scales over all of them.

        Raises:
            OracleAnswerError: an id that means two policies.
            InputError: an unknown method, or an objective that "minmax" cannot scale.
        """
        once = distinct(policies)
        raw = PolicySet.from_policies(once, objectives)
        space = Normalization.fit(raw, method, over=f"{len(raw)} policies")
        return cls(tuple(once), space.apply(raw), space)

    def places(self, policies: Iterable[Policy]) -> list[int]:
        """Indices of ``policies`` in the pool, each once, in their order."""
        place = {policy.id: index for index, policy in enumerate(self.policies)}
        return list(dict.fromkeys(place[policy.id] for policy in policies))

    @property
    def normalization(self) -> str:
        """The normalisation: "none", or "minmax" and the number of policies."""
        method = self.space.method
        return method if method == "none" else f"{method} over {self.space.over}"


def distinct(policies: Iterable[Policy]) -> list[Policy]:
    """Each policy once; an id with two different policies is refused.

    Raises:
        OracleAnswerError: the same id with other rewards.
    """
    found: dict[str, Policy] = {}
    for policy in policies:
        add_policy(policy, found)
    return list(found.values())


def each_weight(policies: Iterable[Policy]) -> list[Policy]:
    """Each policy once for each of its weight vectors.

    Raises:
        OracleAnswerError: the same id with other rewards.
    """
    found: dict[str, Policy] = {}
    once: dict[tuple[str, bytes], Policy] = {}
    for policy in policies:
        add_policy(policy, found)
        once.setdefault((policy.id, policy.weights.tobytes()), policy)
    return list(once.values())


_Key = TypeVar("_Key", bound="Hashable")
BASELINES = {
    "uniform": "uniform weights",
    "random": "random weights",
    "uniform_palm": "uniform, pruned",
    "best_single": "best single (δ)",
    "centre_single": "best at the centre",
}


def baseline_label(name: str) -> str:
    """The display name of a baseline; all runs of "random" share one."""
    return BASELINES["random" if name.startswith("random ") else name]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunBaseline:
    """Policies of a baseline, their weights (in the users' space), and the oracle calls.

    Args:
        policies: one for each of the weights, possibly repeated.
        weights: (k, d).
        calls: distinct weights, as the paper counts calls.
        made: calls at weights without a policy of the run.
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
    seed: int,
) -> tuple[dict[str, RunBaseline], dict[str, str]]:
    """Policies at uniform weights, at three random sets, and at uniform weights of grid size.

    Args:
        run: its answers are reused.
        oracle: called where the run has no policy; ``None`` leaves such a baseline out.
        known: the run's policies, each once.
        size: how many weights "uniform" and "random 0" to "random 2" have; "uniform_palm"
            has as many as the run.
        seed: of the weights.

    Returns:
        The baselines by name, and the reasons for missing ones ("random" means all three).

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
    found, unknown = _ask_once(run, oracle, known, wanted)
    missing = {
        "random" if name.startswith("random ") else name: f"{left} of its {len(wanted[name])} "
        "weights have no policy in the run; --task asks its oracle"
        for name, left in unknown.items()
    }
    return found, missing


def _ask_once(
    run: Run,
    oracle: Oracle | None,
    known: Sequence[Policy],
    wanted: Mapping[str, NDArray[np.float64]],
) -> tuple[dict[str, RunBaseline], dict[str, int]]:
    """:func:`ask_all` with answers stored in the run, for an oracle with a fingerprint."""
    ask = partial(ask_all, wanted, objectives=run.objectives)
    fingerprint = getattr(oracle, "fingerprint", None)
    if fingerprint is None:
        return ask(oracle=oracle, known=known)

    def make() -> dict[str, Any]:
        found, _ = ask(oracle=oracle, known=known)
        policies = each_weight(one for each in found.values() for one in each.policies)
        made = {name: each.made for name, each in found.items()}
        return {"policies": plain(policies), "made": made}

    def read(stored: dict[str, Any]) -> tuple[dict[str, RunBaseline], dict[str, int]]:
        answered = [_policy(one) for one in stored["policies"]]
        found, unknown = ask(oracle=None, known=[*known, *answered])
        if unknown:
            raise ValueError("not all of these weights are answered")
        made = stored["made"]
        return {name: replace(one, made=int(made[name])) for name, one in found.items()}, unknown

    key = {"oracle": str(fingerprint)} | {name: rows.tolist() for name, rows in wanted.items()}
    return run.stored("asked", key, make, read)


def _policy(stored: Mapping[str, Any]) -> Policy:
    arrays = {k: np.array(v, float) for k, v in stored.items() if isinstance(v, list)}
    return Policy(**{**stored, **arrays})


def ask_all(
    wanted: Mapping[_Key, NDArray[np.float64]],
    *,
    oracle: Oracle | None,
    known: Sequence[Policy],
    objectives: tuple[str, ...],
) -> tuple[dict[_Key, RunBaseline], dict[_Key, int]]:
    """Policies for several sets of weights; answers are shared between the sets.

    Args:
        wanted: (k, d) weights by any key.
        oracle: called where no policy is known; ``None`` leaves such a set out.
        known: known policies, each once.
        objectives: d names.

    Returns:
        The answers by key, and, for the sets left out, how many weights have no policy.

    Raises:
        OracleAnswerError: an answer that is no policy for its weights, or another policy
            by the id of a known one.
    """
    found: dict[_Key, RunBaseline] = {}
    missing: dict[_Key, int] = {}
    everyone = list(known)
    for key, rows in wanted.items():
        left = int(np.count_nonzero(~nearest_known(everyone, rows).exact))
        if left and oracle is None:
            missing[key] = left
            continue
        answered = policies_at(oracle or _Nobody(objectives), rows, known=everyone)
        everyone = each_weight([*everyone, *answered.policies])
        found[key] = RunBaseline(
            policies=answered.policies,
            weights=rows,
            calls=answered.n_weights,
            made=answered.calls,
        )
    return found, missing


def check_oracle_of(run: Run, oracle: Oracle | None) -> None:
    """Refuse an oracle for other objectives than the run's.

    Raises:
        InputError: the objectives differ, or it is not an oracle.
    """
    if oracle is not None and check_oracle(oracle) != run.objectives:
        raise InputError(
            f"oracle.objectives = {check_oracle(oracle)}: must be {run.objectives}, the run's"
        )


def oracle_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How the oracles of two resolved tasks differ, in words; empty if answers are the same.

    Equal fingerprints mean equal answers, whatever the names of the oracles.
    """
    one, other = fingerprint_fields(was), fingerprint_fields(now)
    fingerprint = one.get("oracle", {}).get("fingerprint")
    if fingerprint is not None and fingerprint == other.get("oracle", {}).get("fingerprint"):
        return []
    return changed_fields(one, other)


def plain(value: Any) -> Any:
    """Convert dataclasses and arrays to plain values, as a run stores them."""
    return msgspec.to_builtins(value, enc_hook=lambda array: np.asarray(array).tolist())


class _Nobody:
    """A placeholder oracle that is never called: all weights are known."""

    def __init__(self, objectives: tuple[str, ...]) -> None:
        self.objectives = objectives

    def solve(self, weights: NDArray[np.float64]) -> Any:
        raise AssertionError(f"unexpected call at {weights}")
