"""Plans: number of oracle calls and a-priori guarantees of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from palm_core.oracles.protocol import check_certifiable, check_oracle, claims
from palm_core.run.config import Adaptive
from palm_core.validation import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_core.guarantees.theorem import Guarantee
    from palm_core.oracles.protocol import Claims, Oracle
    from palm_core.run.config import Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a task: calls, claims, guarantee.

    Args:
        task: the task.
        objectives: d names, from the oracle.
        calls: oracle calls, |W| = n^d − (n−1)^d; for an adaptive grid the maximum,
            ``None`` without a limit.
        claims: claims of the oracle.
        guarantee: Theorem 3.4, where the oracle claims R_max and f_max; ``None`` where
            the oracle is asked adaptively.
        coefficients: without them, δ = c_R·R_max + c_f·f_max + c: (c_R, c_f, c)
            of the theorem's pair, and ``guarantee`` has ε only.
        estimate: cost of the calls, texts by resource, if the oracle has estimates.
    """

    task: Task
    objectives: tuple[str, ...]
    calls: int | None
    claims: Claims
    guarantee: Guarantee | None
    coefficients: tuple[float, float, float] | None
    estimate: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The guarantee as text, with its assumptions."""
        known = self.guarantee
        settings = self.task.settings
        if known is None:
            assert isinstance(settings.asked, Adaptive)
            target = settings.asked.target_epsilon
            shared = settings.call_target != target
            what = "it" if shared else "the best of all policies found"
            return [
                f"The portfolio is certified as it is built: calls go on until {what} is "
                f"within ε = {target:.3g} of the best there is, at every weight.",
                *self._condition(),
            ]
        if settings.pruning.normalize != "none":
            return [
                "Theorem 3.4 makes no promise here: rewards are normalised after the oracle "
                "calls ([prune] normalize)."
            ]
        if self.coefficients is None:
            first = str(known)
        else:
            reward, regularizer, rest = self.coefficients
            extra = f" + {rest:.3g}" if rest else ""
            first = (
                f"Theorem 3.4: at most {known.size} policies serve every weight within "
                f"ε = {known.epsilon:.3g}, δ = {reward:.3g}·R_max + {regularizer:.3g}·f_max{extra}"
                " (the oracle does not say its R_max and f_max)"
            )
            if known.sharper_epsilon >= 1:
                first += ", which promises nothing: ε is 100 % or more"
            elif known.epsilon >= 1:
                first += (
                    f"; that promises nothing, ε being 100 % or more; sharper: "
                    f"ε = {known.sharper_epsilon:.3g}"
                )
        return [
            first + ".",
            "It assumes rewards ≥ 0 and best values ≥ 0, which palm build checks on the answers.",
            *self._condition(),
        ]

    def _condition(self) -> list[str]:
        if self.claims.slack_claimed:
            return []
        return [
            "That is conditional on the oracle's answers being the best at their weights, which "
            "it does not claim (epsilon, delta)."
        ]

    def document(self) -> dict[str, Any]:
        """The plan as plain values."""
        known = self.guarantee
        theorem = None
        if known is not None:
            reward, regularizer, _ = self.coefficients or (None, None, None)
            bounded = self.coefficients is None
            theorem = {
                "promised": self.task.settings.pruning.normalize == "none",
                "vacuous": known.vacuous if bounded else known.sharper_epsilon >= 1,
                "epsilon": known.epsilon,
                "sharper_epsilon": known.sharper_epsilon,
                "delta": known.delta if bounded else None,
                "sharper_delta": known.sharper_delta if bounded else None,
                "size": known.size,
                "delta_per_reward_bound": reward,
                "delta_per_regularizer_bound": regularizer,
            }
        return {
            "oracle": self.task.oracle,
            "objectives": list(self.objectives),
            "oracle_calls": self.calls,
            "estimate": dict(self.estimate),
            "theorem": theorem,
            "claims": {
                "made": self.claims.slack_claimed,
                "epsilon": self.claims.epsilon,
                "delta": self.claims.delta,
            },
            "task": self.task.resolved(),
        }


def make_plan(task: Task, oracle: Oracle) -> Plan:
    """Make the plan of a task: arithmetic only, however large its grid."""
    from palm_core.guarantees.theorem import theorem_bounds
    from palm_core.weights.grid import grid_size

    objectives = check_oracle(oracle)
    claimed = claims(oracle)
    settings = task.settings
    asked, pruning = settings.asked, settings.pruning
    if isinstance(asked, Adaptive):
        check_certifiable(claimed)
        return Plan(
            task=task,
            objectives=objectives,
            calls=asked.max_calls,
            claims=claimed,
            guarantee=None,
            coefficients=None,
            estimate=_estimate(oracle, asked.max_calls),
        )

    def bounds(reward: float, regularizer: float) -> Guarantee:
        return theorem_bounds(
            len(objectives),
            asked.mu,
            asked.alpha,
            reward,
            regularizer,
            prune_mu=pruning.share,
            prune_alpha=pruning.amount,
            oracle_epsilon=claimed.epsilon,
            oracle_delta=claimed.delta,
        )

    known = claimed.reward_bound is not None and claimed.regularizer_bound is not None
    coefficients = None
    if known:
        guarantee = bounds(claimed.reward_bound or 0.0, claimed.regularizer_bound or 0.0)
    else:
        guarantee = bounds(0.0, 0.0)
        rest = guarantee.delta  # δ is affine in the two bounds
        coefficients = (bounds(1.0, 0.0).delta - rest, bounds(0.0, 1.0).delta - rest, rest)
    calls = grid_size(len(objectives), asked.mu, asked.alpha)
    return Plan(
        task=task,
        objectives=objectives,
        calls=calls,
        claims=claimed,
        guarantee=guarantee,
        coefficients=coefficients,
        estimate=_estimate(oracle, calls),
    )


def _estimate(oracle: Oracle, calls: int | None) -> dict[str, str]:
    """The oracle's estimate of the cost; empty without one."""
    asked = getattr(oracle, "estimate", None)
    rows = asked(calls) if callable(asked) else {}
    return {one_line(name, 40): one_line(text, 400) for name, text in dict(rows).items()}
