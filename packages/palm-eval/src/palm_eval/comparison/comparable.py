"""Which runs can be compared, at which sizes, and what their baselines ask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from palm_core import InputError
from palm_core.normalization import NORMALIZATIONS
from palm_core.settings import check_choice
from palm_core.simplex import check_count
from palm_eval.baselines import RANDOM_RUNS, random_weights, uniform_weights
from palm_eval.run_baselines import oracle_differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_core.runs import Run

    Array = NDArray[np.float64]
    #: A baseline, its size (of "uniform_palm" its calls), and which of its runs.
    Key = tuple[str, int, int]

#: The largest size by default.
LARGEST = 8


def baseline_weights(
    sizes: Sequence[int], calls: Sequence[int], d: int, seed: int, runs: int = RANDOM_RUNS
) -> dict[Key, Array]:
    """(k, d) weights by baseline, size (or calls) and run: appendices B.4 and B.5.1."""
    wanted: dict[Key, Array] = {}
    for size in sizes:
        if size >= 2 or d > 2:
            wanted["uniform", size, 0] = uniform_weights(size, d, seed=seed)
        for number, rows in enumerate(random_weights(size, d, runs=runs, seed=seed)):
            wanted["random", size, number] = rows
    for number in calls:
        wanted["uniform_palm", number, 0] = uniform_weights(number, d, seed=seed)
    return wanted


def check_runs(
    runs: Mapping[str, Run], normalize: str | None, *, same_oracle: bool = True
) -> tuple[tuple[str, ...], str]:
    """The objectives and the normalisation that all runs share: what their weights mean.

    Raises:
        InputError: no run, other objectives, runs of several oracles where they must be of
            the same, an unknown normalisation, or runs of several where ``normalize`` does
            not say which.
    """
    if not runs:
        raise InputError("runs: at least one is needed, got none")
    first, *others = runs
    for other in others:
        differences = []
        if same_oracle:
            differences = oracle_differences(runs[first].task, runs[other].task)
        if runs[first].objectives != runs[other].objectives:
            differences.append(
                f"objectives were {', '.join(runs[first].objectives)}, "
                f"are {', '.join(runs[other].objectives)}"
            )
        if differences:
            what = "oracle" if same_oracle else "objectives"
            raise InputError(
                f"{other}: is not of the same {what} as {first}: {'; '.join(differences)}"
            )
    if normalize is not None:
        check_choice(normalize, NORMALIZATIONS, name="normalize")
    methods = {run.settings.normalize for run in runs.values()}
    if len(methods) > 1 and normalize is None:
        raise InputError(
            f"normalize: is {' in one run, '.join(sorted(methods))} in another; say which"
        )
    return runs[first].objectives, methods.pop() if len(methods) == 1 else str(normalize)


def policies_of(runs: Mapping[str, Run]) -> dict[str, list[Policy]]:
    """The policy of each answer, by run; training anew may give another one the same id.

    Such a policy is its own: its id gets the name of its run.
    """
    first: dict[str, Policy] = {}
    found: dict[str, list[Policy]] = {}
    for name, run in runs.items():
        found[name] = []
        for answer in run.answers:
            policy = answer.policy
            other = first.setdefault(policy.id, policy)
            same = np.array_equal(other.rewards, policy.rewards)
            if not (same and other.regularizer == policy.regularizer):
                policy = replace(policy, id=f"{policy.id} of {name}")
            found[name].append(policy)
    return found


def check_sizes(sizes: Sequence[int], runs: Mapping[str, Run]) -> tuple[int, ...]:
    """The sizes asked for, ascending.

    Raises:
        InputError: none, one below 1, or one above what any run has asked.
    """
    most = max(len(run.answers) for run in runs.values())
    for size in sizes:
        if check_count(size, name="sizes", least=1) > most:
            raise InputError(f"sizes = {size}: must be at most {most}, the oracle calls of a run")
    if not sizes:
        raise InputError("sizes: at least one is needed, got none")
    return tuple(sorted(set(sizes)))


def default_sizes(runs: Mapping[str, Run]) -> tuple[int, ...]:
    """From d (at most 3), as in the paper, to one more than the portfolios have; up to 8."""
    found = max(len(run.prune(run.settings)) for run in runs.values())
    d = len(next(iter(runs.values())).objectives)
    most = max(len(run.answers) for run in runs.values())
    first = min(d, 3, most)
    return tuple(range(first, max(first, min(found + 1, LARGEST, most)) + 1))
