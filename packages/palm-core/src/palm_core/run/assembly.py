"""Assembly of a portfolio from answers: normalization, selection, gaps, certificate."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palm_core.errors import RefutedClaimWarning
from palm_core.guarantees.certificate import Accuracy, Answers, certify, clean_weights, upper_pieces
from palm_core.model.files import package_versions
from palm_core.model.normalization import Normalization
from palm_core.model.policy import Policy, PolicySet, add_policy
from palm_core.model.portfolio import Portfolio
from palm_core.model.results import MOST_NUMBERS, Cover, Reference, Slack, Theorem
from palm_core.oracles.protocol import Claims
from palm_core.run.config import Grid, share_left, task_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core.model.policy import Best
    from palm_core.model.results import Certificate, Gaps, Missing, Stopped
    from palm_core.run.config import PruneSettings, Settings
    from palm_core.run.ledger import Answer


def assemble(
    answers: Sequence[Answer],
    objectives: tuple[str, ...],
    settings: Settings,
    *,
    claimed: Claims | None = None,
    task: Mapping[str, Any] | None = None,
    stopped: Stopped | None = None,
    missing: Sequence[Missing] = (),
) -> Portfolio:
    """Assemble a portfolio from the answers of a run; no oracle is called.

    Args:
        answers: one per weight asked, in the grid's order or in order of arrival.
        objectives: d names.
        settings: as for :func:`palm_core.build_portfolio`.
        claimed: claims of the oracle; ``None`` for none.
        task: stored with the portfolio.
        stopped: why an adaptive run stopped asking; stored with the portfolio.
        missing: the weights without an answer. The certificate rests on the others;
            without a vertex of the simplex there is none.
    """
    claimed = claimed or Claims()
    found = evaluate_answers(answers, objectives, settings)
    values = np.einsum("kd,kd->k", found.weights, found.candidates.vertex_values[found.own])
    behind = found.best.values - values
    behind[behind <= 2 * found.best.rounding] = 0.0
    worst = int(np.argmax(behind))
    vertices = bool((found.weights == 1.0).any(axis=0).all())

    def certified(portfolio: NDArray[np.intp] | None) -> Certificate | None:
        # No certificate after normalisation, since answers are not the oracle's best
        # at the rescaled weights; for a claim of 100 % slack; or where a vertex is
        # missing, since opt is then unbounded.
        if settings.pruning.normalize != "none" or claimed.epsilon >= 1 or not vertices:
            return None
        return certify(
            found.candidates,
            found.weights,
            portfolio=portfolio,
            answers=found.own,
            **claimed.accuracy(),
        )

    refuted = _refuted(found, claimed)
    pruning, exact = prune_evaluated(found, settings.pruning, _tolerance(settings, certified))
    certificate = certified(pruning.indices)
    return Portfolio(
        policies=tuple(found.policies[index] for index in pruning),
        objectives=objectives,
        normalization=found.normalization,
        oracle_calls=len(answers),
        candidates=len(found.candidates),
        slack=Slack(
            claimed_epsilon=claimed.epsilon,
            claimed_delta=claimed.delta,
            claimed=claimed.slack_claimed,
            refuted=refuted,
            measured=float(behind[worst]),
            measured_at=answers[worst].policy.id if behind[worst] > 0 else None,
        ),
        pruning=pruning,
        gaps=exact,
        reference=_reference(found, claimed, certificate),
        theorem=_theorem(found.raw, settings, claimed, missing),
        certificate=None if certificate is None else replace(certificate, stopped=stopped),
        missing=tuple(missing),
        task=None if task is None else dict(task),
        task_hash=None if task is None else task_hash(task),
        made_with=package_versions(),
    )


class EvaluatedAnswers(NamedTuple):
    """The distinct policies of a run and the weights that they are answers for.

    Attributes:
        policies: m policies, each once, in the order of the answers.
        raw: the same in raw units.
        normalization: from raw to ``candidates``.
        candidates: the same in the units of the weights.
        weights: (k, d) the weights asked.
        own: (k,) index of the answer at each weight.
        best: opt_w over the policies at each weight.
    """

    policies: tuple[Policy, ...]
    raw: PolicySet
    normalization: Normalization
    candidates: PolicySet
    weights: NDArray[np.float64]
    own: NDArray[np.intp]
    best: Best


def evaluate_answers(
    answers: Sequence[Answer], objectives: tuple[str, ...], settings: Settings
) -> EvaluatedAnswers:
    """Collect the answers of a run as arrays; the same policy may answer many weights."""
    from palm_core.model.policy import best_policies

    unique: dict[str, Policy] = {}
    for answer in answers:
        add_policy(answer.policy, unique)
    place = {name: index for index, name in enumerate(unique)}
    policies = tuple(unique.values())
    raw = PolicySet.from_policies(policies, objectives)
    over = f"the {len(raw)} policies of the run"
    normalization = Normalization.fit(raw, settings.pruning.normalize, over=over)
    candidates = normalization.apply(raw)
    weights = np.array([answer.weights for answer in answers])
    return EvaluatedAnswers(
        policies=policies,
        raw=raw,
        normalization=normalization,
        candidates=candidates,
        weights=weights,
        own=np.array([place[answer.policy.id] for answer in answers], dtype=np.intp),
        best=best_policies(candidates, weights),
    )


def _refuted(found: EvaluatedAnswers, claimed: Claims) -> bool:
    """Whether the answers, in raw units, refute the oracle's claim; with a warning."""
    if not claimed.slack_claimed or claimed.epsilon >= 1:
        return False
    accuracy = Accuracy(epsilon=claimed.epsilon, delta=claimed.delta)
    known = Answers(accuracy, found.weights, found.raw, found.own)
    if known.refuted:
        warnings.warn(
            refutation(claimed.epsilon, claimed.delta, known.slack or 0.0),
            RefutedClaimWarning,
            stacklevel=2,
        )
    return known.refuted


def refutation(epsilon: float, delta: float, measured: float) -> str:
    """Format a refuted claim as one line.

    Args:
        epsilon: claimed ε_o.
        delta: claimed δ_o, in units of reward.
        measured: measured slack, in units of reward.
    """
    claim = f"within ({epsilon:g}, {delta:g}) of the best"
    return (
        "the oracle refutes its own claim: its answers are not all "
        f"{claim if epsilon or delta else 'exact'}, another policy found is better by up to "
        f"{measured:.4g}; claim delta = {measured:.3g} or more, or make the oracle better"
    )


def _tolerance(
    settings: Settings, certified: Callable[[NDArray[np.intp] | None], Certificate | None]
) -> float:
    """ε or μ' from the settings, or the share of the target that the calls have left.

    L ≥ (1 − μ')·M and M ≥ (1 − ε)·opt give L ≥ (1 − μ')(1 − ε)·opt, M the best of all
    policies found. Where the calls stopped early, pruning still gets its half.
    """
    share, left = settings.pruning.share, settings.call_target
    if share is not None or left is None or isinstance(settings.asked, Grid):
        return share or 0.0
    found = certified(None)
    if found is None or found.epsilon >= settings.asked.target_epsilon:
        return left
    return share_left(settings.asked.target_epsilon, found.epsilon)


def prune_evaluated(
    found: EvaluatedAnswers, settings: PruneSettings, share: float
) -> tuple[Cover, Gaps]:
    """The cover, and the exact gaps of its policies to all candidates."""
    from palm_core.cover.minimal import minimal_portfolio
    from palm_core.cover.prune import prune
    from palm_core.guarantees.gaps import gaps

    candidates, weights = found.candidates, found.weights
    if settings.everywhere:
        cover = minimal_portfolio(
            candidates,
            epsilon=share,
            delta=settings.delta,
            solver=settings.solver,
            time_limit=settings.time_limit,
        )
    else:
        cover = prune(
            candidates,
            weights,
            mu=share,
            alpha=settings.alpha,
            method=settings.method,
            solver=settings.solver,
            time_limit=settings.time_limit,
        )
    exact = cover.gaps or gaps(candidates.subset(cover.indices), candidates)
    n_negative = int(np.count_nonzero(found.best.values < 0))
    return replace(cover, n_weights=len(weights), n_negative=n_negative), exact


def _reference(
    found: EvaluatedAnswers, claimed: Claims, certificate: Certificate | None
) -> Reference | None:
    """The certificate's upper hull; without a certificate the candidates."""
    if certificate is not None:
        d = found.candidates.n_objectives
        accuracy = claimed.accuracy()
        known = Answers(
            Accuracy.of(accuracy["oracle_epsilon"], accuracy["oracle_delta"], 0.0),
            clean_weights(found.weights, d),
            found.candidates,
            found.own,
        )
        pieces = upper_pieces(known, MOST_NUMBERS // d)
        if pieces is not None:
            return Reference(kind="certificate", values=pieces)
    return Reference.of_candidates(found.candidates)


def _theorem(
    raw: PolicySet, settings: Settings, claimed: Claims, missing: Sequence[Missing]
) -> Theorem | None:
    """Theorem 3.4 on a grid: its guarantee, or why it does not apply; ``None`` adaptively."""
    from palm_core.guarantees.theorem import Guarantee, apply_theorem

    asked, pruning = settings.asked, settings.pruning
    if not isinstance(asked, Grid):
        return None
    if missing:
        weights = "a weight" if len(missing) == 1 else f"{len(missing)} weights"
        return Theorem(
            applies=False,
            statement=f"Theorem 3.4 does not apply: {weights} of its grid "
            f"{'has' if len(missing) == 1 else 'have'} no answer",
        )
    if pruning.normalize != "none":
        return Theorem(
            applies=False,
            statement="Theorem 3.4 does not apply: rewards were normalised after the oracle "
            "calls, so no oracle was asked for the weights it speaks of",
        )
    result = apply_theorem(
        raw,
        mu=asked.mu,
        alpha=asked.alpha,
        prune_mu=pruning.share,
        prune_alpha=pruning.amount,
        oracle_epsilon=claimed.epsilon,
        oracle_delta=claimed.delta,
        reward_bound=claimed.reward_bound,
        regularizer_bound=claimed.regularizer_bound,
    )
    if not isinstance(result, Guarantee):
        return Theorem(applies=False, statement=str(result))
    statement = str(result)
    if not claimed.slack_claimed:
        statement += "; conditional on the oracle's answers being the best at their weights"
    return Theorem(
        applies=True,
        statement=statement,
        epsilon=result.epsilon,
        delta=result.delta,
        sharper_epsilon=result.sharper_epsilon,
        sharper_delta=result.sharper_delta,
        bounds_measured=bool(result.measured),
    )
