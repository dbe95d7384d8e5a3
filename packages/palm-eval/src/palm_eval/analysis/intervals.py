"""Bootstrap intervals of a run over prompts: gaps, usage, the certificate.

The certificate (:func:`palm_core.certify`) bounds the portfolio's loss against the best policy
of the class, from the rewards r and f of the policies found. Those are means over prompts.
Prompts are resampled jointly for all policies, the certificate is recomputed for each resample,
and the upper end of the bootstrap interval is a limit for the certificate of exact means.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Normalization, WorkError, certify
from palm_core.plugin import check_count
from palm_eval.intervals import Interval, PromptScores, bootstrap
from palm_eval.metrics import exact_gap_pairs, tracked_gap_pairs, usage_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core import Certificate, Policy, PolicySet, Run
    from palm_core.plugin import EvaluatedAnswers

    Array = NDArray[np.float64]

RESAMPLES = 1000
#: Number of weights for the gaps of each resample, for three objectives and more.
SAMPLES = 200
GAPS = ("epsilon", "delta")
USAGE = ("perplexity", "utility")


def portfolio_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolio: Sequence[int],
    *,
    space: Normalization,
    weights: NDArray[np.float64],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Interval] | None, str]:
    """All intervals of one portfolio: "epsilon", "delta", "perplexity", "utility".

    Args:
        policies: as for :func:`gap_intervals`, and so are the others.
        objectives: d names.
        portfolio: indices among the policies.
        space: where weights speak.
        weights: V (k, d); gaps for d ≥ 3 take the first 200.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap.

    Returns:
        The intervals by name and ""; or ``None`` and why there are none.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    gaps, why = gap_intervals(
        policies,
        objectives,
        [portfolio],
        space=space,
        weights=weights[:SAMPLES],
        resamples=resamples,
        seed=seed,
    )
    if gaps is None:
        return None, why
    usage, why = usage_intervals(
        policies,
        objectives,
        [portfolio],
        space=space,
        weights=weights,
        resamples=resamples,
        seed=seed,
    )
    return (None, why) if usage is None else (gaps[0] | usage[0], "")


def plain_intervals(found: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Intervals as plain values, by name."""
    return {
        name: {
            "value": float(one.value),
            "lower": float(one.lower),
            "upper": float(one.upper),
            "level": one.level,
            "method": one.method,
            "prompts": one.n_prompts,
        }
        for name, one in found.items()
    }


def usage_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolios: Sequence[Sequence[int]],
    *,
    space: Normalization,
    weights: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[dict[str, Interval]] | None, str]:
    """Intervals for "perplexity" and "utility" of portfolios: usage and mean of L over V.

    Args:
        policies: as for :func:`gap_intervals`, and so are the others.
        objectives: d names.
        portfolios: indices among the policies, one list for each portfolio.
        space: where weights speak.
        weights: V (k, d).
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; the resamples are those of :func:`gap_intervals`.

    Returns:
        The intervals of each portfolio by name, and ""; or ``None`` and why there are none.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    try:
        scores = PromptScores.from_policies(policies, objectives)
    except InputError as error:
        return None, str(error)

    def figure(values: Array, column: int, portfolio: list[int]) -> Array:
        return usage_pairs(values, portfolio, weights)[..., column]

    found = []
    for portfolio in map(list, portfolios):
        own = {
            name: bootstrap(
                scores,
                partial(figure, column=USAGE.index(name), portfolio=portfolio),
                normalization="minmax" if space.method == "minmax" else "none",
                n_resamples=resamples,
                seed=seed,
                vectorized=True,
                least=1.0 if name == "perplexity" else -math.inf,
            )
            for name in USAGE
        }
        # The maximum perplexity of a distribution over this many policies.
        spread = own["perplexity"]
        own["perplexity"] = replace(spread, upper=min(float(spread.upper), float(len(portfolio))))
        found.append(own)
    return found, ""


def gap_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolios: Sequence[Sequence[int]],
    *,
    space: Normalization,
    weights: ArrayLike,
    gaps: Sequence[str] = GAPS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[dict[str, Interval]] | None, str]:
    """Intervals for ε and δ of portfolios that are fixed in every resample.

    For d = 2 the gaps are exact (:func:`palm_eval.metrics.exact_gap_pairs`). For d ≥ 3 they
    are maxima over ``weights`` and the corner weights of the portfolio's own envelope, which
    are followed through the resamples (:func:`palm_eval.metrics.tracked_gap_pairs`):
    ``value`` is the exact gap.

    Args:
        policies: Π, all candidates, each once.
        objectives: d names.
        portfolios: indices among the policies, one list for each portfolio.
        space: the space of weights; under "minmax" its limits are refitted in each resample.
        weights: V (k, d), for d ≥ 3.
        gaps: "epsilon", "delta" or both.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; all portfolios use the same resamples.

    Returns:
        The intervals of each portfolio by gap, and ""; or ``None`` and why there are none:
        policies without per-prompt rewards, or an ε that is not finite in some resample.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    try:
        scores = PromptScores.from_policies(policies, objectives)
    except InputError as error:
        return None, str(error)
    measured = space.apply(scores.policy_set()).vertex_values

    def gap(values: Array, column: int, portfolio: list[int]) -> Array:
        if len(objectives) == 2:
            return exact_gap_pairs(values, portfolio)[..., column]
        return tracked_gap_pairs(values, portfolio, measured, weights)[..., column]

    found: list[dict[str, Interval]] = []
    for portfolio in map(list, portfolios):
        try:
            found.append(
                {
                    name: bootstrap(
                        scores,
                        partial(gap, column=GAPS.index(name), portfolio=portfolio),
                        normalization="minmax" if space.method == "minmax" else "none",
                        n_resamples=resamples,
                        seed=seed,
                        vectorized=True,
                        least=0.0,
                    )
                    for name in gaps
                }
            )
        except WorkError as error:  # opt ≤ 0 somewhere, in some resample
            return None, str(error)
    return found, ""


#: One-sided confidence level of the limits.
LEVEL = 0.95
#: Resamples for two objectives and for more, and the minimum, used for many policies: a
#: certificate takes about 5 ms, 10 ms and 50 ms.
CERTIFICATE_RESAMPLES, RESAMPLES_BEYOND_TWO, MANY = 400, 200, 150
#: The fewest resamples for a quantile of 5 %.
LEAST = 100
#: Time limit of resampling in seconds; beyond it there are fewer resamples, or no limits.
PATIENCE = 60.0
# In place of an undefined ε; a defined ε is at most 1.
_NONE = 2.0


@dataclass(frozen=True, kw_only=True)
class RunCertificate:
    """The certificate of a portfolio, and upper confidence limits for it.

    Args:
        found: the certificate of the measured rewards.
        epsilon_upper: upper limit at confidence :data:`LEVEL` of the ε that exact rewards
            would certify; ``None`` if they might certify none, or with ``no_limits``.
        delta_upper: the same of δ, in units of reward; ``None`` with ``no_limits``.
        resamples: of the bootstrap, 0 without one.
        prompts: their number, 0 without a bootstrap.
        no_limits: the reason why there are none, or empty.
        stopped: why an adaptive run stopped, as recorded in its portfolio.
    """

    found: Certificate
    epsilon_upper: float | None = None
    delta_upper: float | None = None
    resamples: int = 0
    prompts: int = 0
    no_limits: str = ""
    stopped: str | None = None

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
            "stopped": self.stopped,
        }


def certificate_of(
    run: Run, portfolio: Sequence[str], *, resamples: int | None = None, seed: int = 0
) -> tuple[RunCertificate | None, str]:
    """The certificate of a portfolio of a run, and its limits.

    Args:
        run: its answers, weights and claims are the premises.
        portfolio: ids of policies of the run.
        resamples: of the bootstrap, at least 100; ``None`` chooses by the time limit.
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
    known = run.evaluated
    place = {policy.id: index for index, policy in enumerate(known.policies)}
    unknown = [name for name in portfolio if name not in place]
    if unknown or not portfolio:
        raise InputError(f"portfolio = {list(portfolio)!r}: must be policies of the run")
    chosen = np.array([place[name] for name in portfolio], dtype=np.intp)
    found = _certified(run, known, chosen, known.candidates)
    try:
        scores = PromptScores.from_policies(known.policies, run.objectives)
    except InputError as error:
        return RunCertificate(found=found, stopped=run.stopped, no_limits=str(error)), ""
    began = time.perf_counter()
    _certified(run, known, chosen, known.candidates)  # the first certificate may compile kernels
    seconds = time.perf_counter() - began
    count = _count(known) if resamples is None else resamples
    if resamples is None and seconds * count > PATIENCE:
        count = LEAST
    if resamples is None and seconds * count > PATIENCE:
        reason = f"it takes {seconds:.2g} s to compute, {count} times that is too long"
        return RunCertificate(found=found, stopped=run.stopped, no_limits=reason), ""

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
    # Too many resamples without an ε for a limit at this level.
    none = math.isinf(found.epsilon) or float(np.mean(without)) >= 1 - LEVEL
    upper = [float(value) for value in interval.upper]
    return (
        RunCertificate(
            found=found,
            stopped=run.stopped,
            epsilon_upper=None if none else min(1.0, upper[0]),
            delta_upper=upper[1],
            resamples=interval.n_resamples,
            prompts=interval.n_prompts,
        ),
        "",
    )


def _certified(
    run: Run, known: EvaluatedAnswers, chosen: NDArray[np.intp], policies: PolicySet
) -> Certificate:
    """Certify as :func:`palm_core.run.assembly.assemble`, with other measured ``policies``."""
    return certify(
        policies,
        known.weights,
        portfolio=chosen,
        answers=known.own,
        **run.claims.accuracy(),
    )


def _uncertified(run: Run) -> str:
    """The reason why nothing is certified; empty if there is a certificate."""
    if run.claims.epsilon >= 1:
        return (
            "the oracle does not claim that its answers are near the best it could give "
            "(epsilon = 1)"
        )
    if run.settings.pruning.normalize != "none":
        return (
            "weights are of rewards scaled after the oracle had answered, and its answers are not "
            "the best for those"
        )
    asked = np.array([answer.weights for answer in run.answers])
    left = np.flatnonzero(~(asked == 1.0).any(axis=0))
    if len(left):
        return f"that takes the oracle's answer at {run.objectives[left[0]]} = 1, where it failed"
    return ""


def _count(known: EvaluatedAnswers) -> int:
    if len(known.policies) > MANY:
        return LEAST
    return CERTIFICATE_RESAMPLES if len(known.weights[0]) == 2 else RESAMPLES_BEYOND_TWO
