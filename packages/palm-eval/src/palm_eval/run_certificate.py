"""A run's certificate, with the error of measuring on finitely many prompts taken in.

The certificate (:func:`palm_core.certify`) bounds what the portfolio loses to the best policy
there is, from the rewards r and f of the policies found. Those are means over prompts. Prompts
are resampled jointly for all policies, the certificate is computed anew each time, and the
upper end of a bootstrap interval is a limit for the certificate that exact means would give.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, certify
from palm_core.assembling import evaluate
from palm_core.simplex import check_count
from palm_eval.intervals import bootstrap
from palm_eval.prompt_scores import PromptScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from palm_core import PolicySet
    from palm_core.assembling import Evaluated
    from palm_core.certificate import Certificate
    from palm_core.runs import Run

#: Of the limits, one-sided.
LEVEL = 0.95
#: Resamples for two objectives and for more; with more than so many policies the least: a
#: certificate takes about 5 ms, 10 ms and 50 ms.
RESAMPLES, RESAMPLES_BEYOND_TWO, MANY = 400, 200, 150
#: The fewest that a quantile of 5 % can be told from.
LEAST = 100
#: Seconds that resampling may take; else there are fewer resamples, or no limits.
PATIENCE = 60.0
# In place of an ε that is none; any that is one is at most 1.
_NONE = 2.0


@dataclass(frozen=True, kw_only=True)
class RunCertificate:
    """What is certified of a portfolio, and upper limits for it.

    Args:
        found: the certificate of rewards as they were measured.
        epsilon_upper: at confidence :data:`LEVEL` not below the ε that exact rewards would
            certify; ``None`` where they might certify none, or with ``no_limits``.
        delta_upper: the same of δ, in units of reward; ``None`` with ``no_limits``.
        resamples: of the bootstrap, 0 without one.
        prompts: how many, 0 without a bootstrap.
        no_limits: why there are none, or empty.
    """

    found: Certificate
    epsilon_upper: float | None = None
    delta_upper: float | None = None
    resamples: int = 0
    prompts: int = 0
    no_limits: str = ""

    def document(self) -> dict[str, Any]:
        """As plain values; an ε that is not certain is null."""
        found = self.found
        return {
            "epsilon": found.epsilon if math.isfinite(found.epsilon) else None,
            "delta": found.delta,
            "epsilon_upper": self.epsilon_upper,
            "delta_upper": self.delta_upper,
            "level": LEVEL,
            "resamples": self.resamples,
            "prompts": self.prompts,
            "no_limits": self.no_limits or None,
            "conditional_on": found.conditional_on,
            "refuted": found.refuted,
            "measured_slack": found.measured_slack,
            "exact": found.exact,
            "note": found.note,
        }


def certificate_of(
    run: Run, portfolio: Sequence[str], *, resamples: int | None = None, seed: int = 0
) -> tuple[RunCertificate | None, str]:
    """The certificate of a portfolio of a run, and its limits.

    Args:
        run: whose answers, weights and claims it rests on.
        portfolio: ids of policies of the run.
        resamples: of the bootstrap, at least 100; ``None`` takes what is quick enough.
        seed: of the bootstrap.

    Returns:
        The certificate and ""; or ``None`` and why nothing is certified.

    Raises:
        InputError: an id that is no policy of the run, or too few resamples.
    """
    if resamples is not None:
        check_count(resamples, name="resamples", least=LEAST)
    why = _uncertified(run)
    if why:
        return None, why
    known = evaluate(run.answers, run.objectives, run.settings)
    place = {policy.id: index for index, policy in enumerate(known.policies)}
    unknown = [name for name in portfolio if name not in place]
    if unknown or not portfolio:
        raise InputError(f"portfolio = {list(portfolio)!r}: must be policies of the run")
    chosen = np.array([place[name] for name in portfolio], dtype=np.intp)
    found = _certified(run, known, chosen, known.candidates)
    try:
        scores = PromptScores.from_policies(known.policies, run.objectives)
    except InputError as error:
        return RunCertificate(found=found, no_limits=str(error)), ""
    began = time.perf_counter()
    _certified(run, known, chosen, known.candidates)  # the first one may have compiled kernels
    seconds = time.perf_counter() - began
    count = _count(known) if resamples is None else resamples
    if resamples is None and seconds * count > PATIENCE:
        count = LEAST
    if resamples is None and seconds * count > PATIENCE:
        told = f"it takes {seconds:.2g} s to compute, {count} times that is too long"
        return RunCertificate(found=found, no_limits=told), ""

    without: list[bool] = []

    def pair(policies: PolicySet) -> NDArray[np.float64]:
        again = _certified(run, known, chosen, policies)
        without.append(math.isinf(again.epsilon))
        return np.array([_NONE if without[-1] else again.epsilon, again.delta])

    interval = bootstrap(
        scores,
        pair,
        level=2 * LEVEL - 1,
        n_resamples=count,
        seed=seed,
        least=0.0,
    )
    # As many resamples without an ε as a limit may be wrong about: none can be given.
    none = math.isinf(found.epsilon) or float(np.mean(without)) >= 1 - LEVEL
    upper = [float(value) for value in interval.upper]
    return (
        RunCertificate(
            found=found,
            epsilon_upper=None if none else min(1.0, upper[0]),
            delta_upper=upper[1],
            resamples=interval.n_resamples,
            prompts=interval.n_prompts,
        ),
        "",
    )


def _certified(
    run: Run, known: Evaluated, chosen: NDArray[np.intp], policies: PolicySet
) -> Certificate:
    """As :func:`palm_core.assembling.assemble` does, of ``policies`` measured otherwise."""
    return certify(
        policies,
        known.weights,
        portfolio=chosen,
        answers=known.own,
        **run.claims.accuracy(),
    )


def _uncertified(run: Run) -> str:
    """Why nothing is certified, in words; empty where something is."""
    if run.claims.epsilon >= 1:
        return (
            "the oracle does not claim that its answers are near the best it could give "
            "(epsilon = 1)"
        )
    if run.settings.normalize != "none":
        return (
            "weights are of rewards scaled after the oracle had answered, and its answers are not "
            "the best for those"
        )
    asked = np.array([answer.weights for answer in run.answers])
    left = np.flatnonzero(~(asked == 1.0).any(axis=0))
    if len(left):
        return f"that takes the oracle's answer at {run.objectives[left[0]]} = 1, where it failed"
    return ""


def _count(known: Evaluated) -> int:
    if len(known.policies) > MANY:
        return LEAST
    return RESAMPLES if len(known.weights[0]) == 2 else RESAMPLES_BEYOND_TWO
