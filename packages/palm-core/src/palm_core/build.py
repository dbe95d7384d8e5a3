"""Algorithm 1 as a run: grid, oracle calls, pruning, and what is then known.

Paper, Algorithm 1. Every answer is kept as it arrives; everything after the
oracle calls is arithmetic on those answers and can be done again at will
(:func:`assemble`), which is how ``palm prune RUN`` makes another size.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.documents import PruningRecord, SlackRecord, TheoremRecord, record_of_gaps
from palm_core.errors import InputError, OracleAnswerError, PalmError, WorkError
from palm_core.executors import answers as oracle_answers
from palm_core.ledger import Answer, Ledger
from palm_core.normalization import Normalization
from palm_core.oracle import Claims, Oracle, check_answer, check_oracle, claims
from palm_core.policies import Policy, PolicySet
from palm_core.portfolio import Portfolio
from palm_core.settings import Settings
from palm_core.task import task_hash

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

Progress = Callable[[int, int], None]

#: More calls than this are refused: no oracle answers a million weights.
MOST_CALLS = 1_000_000


def build_portfolio(
    oracle: Oracle,
    *,
    mu: float | None = None,
    alpha: float | None = None,
    prune_mu: float | None = None,
    prune_alpha: float = 0.0,
    method: str = "greedy",
    solver: str | None = None,
    time_limit: float = 60.0,
    normalize: str = "none",
    target_epsilon: float | None = None,
    run_dir: str | Path | None = None,
    executor: Executor | None = None,
    task: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Portfolio:
    """Ask ``oracle`` at every weight of the grid and keep few of the policies.

    Args:
        oracle: see :class:`palm_core.oracle.Oracle`.
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        prune_mu: μ' in [0, 1]; ``None`` takes μ, as Algorithm 1 does.
        prune_alpha: α' ≥ 0, in units of (normalised) reward.
        method: "greedy" or "exact", see :func:`palm_core.prune`.
        solver: "cbc" or "highs" for the integer program; ``None`` chooses.
        time_limit: seconds for the integer program.
        normalize: "none", or "minmax" over the policies of the run as in the
            paper's experiments; weights then mean normalised rewards.
        target_epsilon: reserved for adaptive grids; must be ``None``.
        run_dir: folder of the run. Answers are kept there as they arrive, a
            run that was stopped goes on where it stood, and the portfolio is
            saved as ``portfolio.json``. ``None`` keeps all in memory.
        executor: a ``concurrent.futures.Executor`` that makes the calls, one
            weight each; ``None`` makes them here, all in one stream.
        task: the task this run belongs to, as plain values; ``None`` describes
            the oracle and the settings.
        progress: called as ``progress(done, total)`` after each answer.

    Returns:
        The portfolio, with exact gaps against all evaluated policies, the
        measured oracle slack and the a-priori guarantee.

    Raises:
        InputError: a setting or the oracle is not acceptable, the grid is too
            large, or ``run_dir`` belongs to another task.
        WorkError: an oracle call failed or answered nonsense. With ``run_dir``
            the finished calls are kept.
    """
    objectives = check_oracle(oracle)
    if target_epsilon is not None:
        raise InputError(
            f"target_epsilon = {target_epsilon!r}: adaptive grids are not part of this version; "
            "give mu and alpha"
        )
    if mu is None or alpha is None:
        name = "mu" if mu is None else "alpha"
        raise InputError(f"{name}: is missing, must be in (0, 1]")
    settings = Settings(
        mu=mu,
        alpha=alpha,
        prune_mu=mu if prune_mu is None else prune_mu,
        prune_alpha=prune_alpha,
        method=method,
        solver=solver,
        time_limit=time_limit,
        normalize=normalize,
    )
    weights = grid_for(len(objectives), settings.mu, settings.alpha)
    plain = _identity(oracle, settings) if task is None else dict(task)
    fingerprint = getattr(oracle, "fingerprint", None)
    if fingerprint is not None:  # data behind an option's name may change with it unchanged
        plain["oracle"] = {**plain.get("oracle", {}), "fingerprint": str(fingerprint)}
    if run_dir is None:
        answers = collect(oracle, weights, executor=executor, progress=progress)
    else:
        with Ledger.begin(Path(run_dir), plain, objectives, claims(oracle)) as ledger:
            answers = collect(oracle, weights, ledger=ledger, executor=executor, progress=progress)
    portfolio = assemble(answers, objectives, settings, claimed=claims(oracle), task=plain)
    if run_dir is not None:
        portfolio.save(Path(run_dir) / "portfolio.json")
    return portfolio


def grid_for(n_objectives: int, mu: float, alpha: float) -> NDArray[np.float64]:
    """Build the grid of a run, or refuse one that no oracle could be asked through.

    Raises:
        InputError: more than a million weights; nothing is allocated.
    """
    from palm_core.grid import construct_grid, grid_size

    size = grid_size(n_objectives, mu, alpha)
    if size > MOST_CALLS:
        shown = f"{size:,}".replace(",", " ") if size < 10**18 else f"about {size:.2e}"
        raise InputError(
            f"this grid has {shown} weights; the oracle would be called for each. Raise mu or alpha"
        )
    return construct_grid(n_objectives, mu, alpha)


def collect(
    oracle: Oracle,
    weights: NDArray[np.float64],
    *,
    ledger: Ledger | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Answer]:
    """Return one checked answer per row of ``weights``, asking only for missing ones.

    Raises:
        WorkError: a call failed; answers that came before it are in ``ledger``.
    """
    objectives = check_oracle(oracle)
    known = {answer.weights.tobytes(): answer for answer in (ledger.answers() if ledger else ())}
    by_id = {answer.policy.id: answer.policy for answer in known.values()}
    missing = np.array([row.tobytes() not in known for row in weights], dtype=bool)
    done, total = int(len(weights) - missing.sum()), len(weights)
    if progress:
        progress(done, total)
    pending = weights[missing]
    for row, given, seconds in _calls(oracle, pending, executor, kept=ledger is not None):
        policy = check_answer(given, pending[row], objectives)
        _same_or_new(policy, by_id)
        answer = Answer(pending[row].copy(), policy, seconds)
        if ledger is not None:
            ledger.record(answer.weights, policy, seconds)
        known[answer.weights.tobytes()] = answer
        done += 1
        if progress:
            progress(done, total)
    return [known[row.tobytes()] for row in weights]


def assemble(
    answers: Sequence[Answer],
    objectives: tuple[str, ...],
    settings: Settings,
    *,
    claimed: Claims | None = None,
    task: Mapping[str, Any] | None = None,
) -> Portfolio:
    """Turn the answers of a run into a portfolio; no oracle is called.

    Args:
        answers: one per grid weight, in the grid's order.
        objectives: d names.
        settings: as for :func:`build_portfolio`.
        claimed: what the oracle claims of itself; ``None`` for nothing.
        task: stored with the portfolio.
    """
    from palm_core.cover import best_policies
    from palm_core.gaps import gaps
    from palm_core.prune import prune_report

    claimed = claimed or Claims()
    unique: dict[str, Policy] = {}
    for answer in answers:
        _same_or_new(answer.policy, unique)
    position = {name: index for index, name in enumerate(unique)}
    raw = PolicySet.from_policies(list(unique.values()), objectives)
    over = f"the {len(raw)} policies of the run"
    normalization = Normalization.fit(raw, settings.normalize, over=over)
    candidates = normalization.apply(raw)
    weights = np.array([answer.weights for answer in answers])
    pruned = prune_report(
        candidates,
        weights,
        mu=settings.prune_mu,
        alpha=settings.prune_alpha,
        method=settings.method,
        solver=settings.solver,
        time_limit=settings.time_limit,
    )
    chosen = [list(unique.values())[i] for i in pruned.indices]
    exact = gaps(candidates.subset(pruned.indices), candidates)
    own = np.array([position[answer.policy.id] for answer in answers])
    best = best_policies(candidates, weights)
    values = np.einsum("kd,kd->k", weights, candidates.vertex_values[own])
    behind = best.values - values
    behind[behind <= 2 * best.rounding] = 0.0
    worst = int(np.argmax(behind))
    return Portfolio(
        policies=tuple(chosen),
        objectives=objectives,
        normalization=normalization,
        oracle_calls=len(answers),
        candidates=len(candidates),
        slack=SlackRecord(
            claimed_epsilon=claimed.epsilon,
            claimed_delta=claimed.delta,
            measured=max(0.0, float(behind[worst])),
            measured_at=answers[worst].policy.id if behind[worst] > 0 else None,
        ),
        pruning=PruningRecord(
            mu=settings.prune_mu,
            alpha=settings.prune_alpha,
            method=pruned.method,
            status=pruned.status,
            lower_bound=pruned.lower_bound,
            upper_bound=pruned.upper_bound,
            solver=pruned.solver,
            weights=len(weights),
            negative_optima=pruned.n_negative,
        ),
        gaps=record_of_gaps(exact),
        theorem=_theorem(raw, settings, claimed),
        task=None if task is None else dict(task),
        task_hash=None if task is None else task_hash(task),
        made_with=_versions(),
    )


def _calls(
    oracle: Oracle, weights: NDArray[np.float64], executor: Executor | None, *, kept: bool
) -> Any:
    """Yield from the oracle; what it raises becomes one line."""
    if not len(weights):
        return
    finished = 0
    try:
        for item in oracle_answers(oracle, weights, executor):
            yield item
            finished += 1
    except PalmError:
        raise
    except Exception as error:
        safe = f"; the {finished} calls finished before it are kept" if kept else ""
        reason = " ".join(str(error).split()) or "no message"
        raise WorkError(
            f"the oracle failed after {finished} of {len(weights)} calls: "
            f"{type(error).__name__}: {reason}{safe}"
        ) from error


def _same_or_new(policy: Policy, by_id: dict[str, Policy]) -> None:
    """Take ``policy`` into ``by_id``; the same id must mean the same values."""
    other = by_id.setdefault(policy.id, policy)
    if not np.array_equal(other.rewards, policy.rewards) or other.regularizer != policy.regularizer:
        raise OracleAnswerError(
            f"policy id {policy.id!r} was answered twice with different rewards; "
            "ids must be unique in a run"
        )


def _theorem(raw: PolicySet, settings: Settings, claimed: Claims) -> TheoremRecord:
    """Theorem 3.4 for these answers, in numbers or in words."""
    from palm_core.bounds import Guarantee, apply_theorem

    if settings.normalize != "none":
        return TheoremRecord(
            applies=False,
            statement="Theorem 3.4 does not apply: rewards were normalised after the oracle "
            "calls, so no oracle was asked for the weights it speaks of",
        )
    result = apply_theorem(
        raw,
        mu=settings.mu,
        alpha=settings.alpha,
        prune_mu=settings.prune_mu,
        prune_alpha=settings.prune_alpha,
        oracle_epsilon=claimed.epsilon,
        oracle_delta=claimed.delta,
        reward_bound=claimed.reward_bound,
        regularizer_bound=claimed.regularizer_bound,
    )
    if not isinstance(result, Guarantee):
        return TheoremRecord(applies=False, statement=str(result))
    return TheoremRecord(
        applies=True,
        statement=str(result),
        epsilon=result.epsilon,
        delta=result.delta,
        sharper_epsilon=result.sharper_epsilon,
        sharper_delta=result.sharper_delta,
        bounds_measured=bool(result.measured),
    )


def _identity(oracle: Oracle, settings: Settings) -> dict[str, Any]:
    kind = type(oracle)
    return {"oracle": {"name": f"{kind.__module__}:{kind.__qualname__}"}, **settings.tables()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("palm-core", "numpy", "scipy", "numba", "pulp"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
