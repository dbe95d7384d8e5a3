"""The rules of the conformance suite, in the order in which they are checked.

A rule raises AssertionError, or returns why it does not apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core._trial import (
    Trial,
    answers,
    broken,
    iterator,
    kept,
    order,
    rows,
    shown,
    unchanged,
)
from palm_core.text import reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from palm_core.policies import Policy


def attributes(trial: Trial) -> None:
    """``objectives`` are distinct names and ``solve`` is a method."""
    mine, other = trial.objectives, tuple(trial.make_oracle().objectives)
    if mine != other:
        broken("attributes", f"objectives are {mine}, those of an equal oracle {other}")


def claimed(trial: Trial) -> None:
    """Claimed slack and bounds are numbers in their ranges."""
    _ = trial.claims


def fingerprint(trial: Trial) -> str | None:
    """``fingerprint`` is a text that equal oracles share."""
    text = getattr(trial.oracle, "fingerprint", None)
    if text is None:
        return "the oracle has none"
    if not isinstance(text, str) or not text:
        broken("fingerprint", f"{text!r}: must be a text")
    other = getattr(trial.make_oracle(), "fingerprint", None)
    if other != text:
        broken("fingerprint", f"{text!r}, of an equal oracle {other!r}")
    return None


def prompts(trial: Trial) -> str | None:
    """Values per prompt average to the policy's own, over the same number of prompts."""
    counts = set()
    for policy, row in zip(trial.policies, trial.weights, strict=True):
        for name, mean, single in (
            ("rewards", policy.rewards, policy.prompt_rewards),
            ("regularizer", policy.regularizer, policy.prompt_regularizer),
        ):
            if single is None:
                continue
            counts.add(len(single))
            if len(single) == 0 or not trial.equal(mean, single.mean(axis=0)):
                broken(
                    "prompts",
                    f"at {shown(row)} {name} {shown(np.atleast_1d(mean))} is not the mean "
                    f"of its {len(single)} values per prompt",
                )
    if len(counts) > 1:
        broken("prompts", f"answers have {sorted(counts)} prompts, must be the same for all")
    return None if counts else "no answer has values per prompt"


def deterministic(trial: Trial) -> None:
    """Asked for the same weights, this oracle and an equal one answer alike."""
    first, last = trial.policies[0], trial.policies[-1]
    difference = trial.difference(first, last)
    if difference:
        broken(
            "deterministic",
            f"{shown(trial.weights[0])} twice in one batch has two answers: {difference}",
        )
    again = trial.again("deterministic", trial.weights)
    trial.compare("deterministic", "the same batch again", again)
    other = trial.again("deterministic", trial.weights, trial.make_oracle())
    trial.compare("deterministic", "an equal oracle", other)


def ids(trial: Trial) -> None:
    """One id stands for one policy, in whatever batch it was found."""
    seen: dict[str, tuple[Policy, NDArray[np.float64]]] = {}
    for answered in (trial.policies, trial.reversed, trial.alone):
        for policy, row in zip(answered, trial.weights, strict=True):
            known, where = seen.setdefault(policy.id, (policy, row))
            difference = trial.difference(known, policy)
            # Two answers to one weight are for the next rule to tell.
            if difference and not np.array_equal(where, row):
                broken(
                    "ids",
                    f"{policy.id!r} names two policies, at {shown(where)} and {shown(row)}: "
                    f"{difference}; palm_core.oracle.weight_id makes a name out of a weight",
                )


def batches(trial: Trial) -> None:
    """The answer depends on its weight alone, not on the batch it was asked in."""
    trial.compare("batches", "asked in reverse order", trial.reversed)
    trial.compare("batches", "asked alone", trial.alone)


def bounds(trial: Trial) -> str | None:
    """No answer exceeds the claimed R_max and f_max."""
    most = trial.claims.reward_bound, trial.claims.regularizer_bound
    if most == (None, None):
        return "the oracle claims none"
    for policy, row in zip(trial.policies, trial.weights, strict=True):
        for name, value, bound in (
            ("reward_bound", float(np.abs(policy.rewards).sum()), most[0]),
            ("regularizer_bound", policy.regularizer, most[1]),
        ):
            if bound is not None and value > bound + trial.tolerance * max(1.0, bound):
                broken("bounds", f"at {shown(row)} {value:.9g} exceeds {name} = {bound:.9g}")
    return None


def optimality(trial: Trial) -> None:
    """No other answer is better at a weight than claimed slack allows; without a claim, at all."""
    own, best = trial.slack()
    size = np.maximum(1.0, np.maximum(np.abs(own), np.abs(best)))
    allowed = trial.claims.epsilon * np.maximum(best, 0.0) + trial.claims.delta
    excess = best - own - allowed
    worst = int(np.argmax(excess / size))
    if excess[worst] > trial.tolerance * size[worst]:
        claim = f"epsilon = {trial.claims.epsilon:g} and delta = {trial.claims.delta:g}"
        if not trial.claims.slack_claimed:
            claim = "no epsilon and no delta: must claim what its answers may lack (1: nothing)"
        broken(
            "optimality",
            f"at {shown(trial.weights[worst])} the answer has J = {own[worst]:.9g}, another one "
            f"{best[worst]:.9g}; the oracle claims {claim}",
        )


def picklable(trial: Trial) -> None:
    """Oracle and answers can be handed to and from a worker process."""
    # What a process pool does to its arguments and results.
    from multiprocessing.reduction import ForkingPickler

    row = trial.weights[:1]
    for name, thing in (("the oracle", trial.oracle), ("its answer", trial.first.answers[:1])):
        try:
            bytes(ForkingPickler.dumps(thing))
        except Exception as error:  # noqa: BLE001  # anything may go wrong in a reducer
            broken("picklable", f"{name} cannot be sent to a worker: {reason(error)}", error)
    try:
        copy = ForkingPickler.loads(ForkingPickler.dumps(trial.oracle))
    except Exception as error:  # noqa: BLE001  # likewise
        broken("picklable", f"the oracle does not arrive: {reason(error)}", error)
    sent = trial.again("picklable", row, copy)[0]
    difference = trial.difference(trial.policies[0], sent)
    if difference:
        broken("picklable", f"at {shown(row[0])} a copy answers otherwise: {difference}")


RULES: dict[str, Callable[[Trial], str | None]] = {
    "attributes": attributes,
    "claims": claimed,
    "fingerprint": fingerprint,
    "iterator": iterator,
    "rows": rows,
    "unchanged": unchanged,
    "kept": kept,
    "order": order,
    "answers": answers,
    "prompts": prompts,
    "deterministic": deterministic,
    "ids": ids,
    "batches": batches,
    "bounds": bounds,
    "optimality": optimality,
    "picklable": picklable,
}
