"""Algorithm 1 as a run: grid, oracle calls, pruning, and what is then known.

Paper, Algorithm 1. Every answer is kept as it arrives; everything after the
oracle calls is arithmetic on those answers and can be done again at will
(:func:`assemble`), which is how ``palm prune RUN`` makes another size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.adaptive import AdaptiveGrid
from palm_core.asking import collecting
from palm_core.assembling import assemble
from palm_core.collecting import Progress, in_order
from palm_core.errors import InputError
from palm_core.identity import with_fingerprint
from palm_core.oracle import Oracle, check_certifiable, check_oracle, claims
from palm_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from palm_core.execution import Execution
    from palm_core.portfolio import Portfolio

#: More calls than this are refused: no oracle answers a million weights.
MOST_CALLS = 1_000_000


def build_portfolio(
    oracle: Oracle,
    *,
    mu: float | None = None,
    alpha: float | None = None,
    target_epsilon: float | None = None,
    max_calls: int | None = None,
    prune_mu: float | None = None,
    prune_alpha: float = 0.0,
    method: str | None = None,
    solver: str | None = None,
    time_limit: float = 60.0,
    normalize: str = "none",
    run_dir: str | Path | None = None,
    extend: bool = False,
    execution: Execution | None = None,
    executor: Executor | None = None,
    task: Mapping[str, Any] | None = None,
    source: Callable[[], Oracle] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Portfolio:
    """Ask ``oracle`` for policies and keep few of them (paper, Algorithm 1).

    On a grid (``mu``, ``alpha``) the oracle is asked at each of its weights. With
    ``target_epsilon`` it is asked where the certified gap is largest, until the
    portfolio is certified to be that near to the best there is, at every weight.

    Args:
        oracle: see :class:`palm_core.Oracle`.
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        target_epsilon: the gap to certify in (0, 1]; half of it is for what the
            calls leave open and the rest for pruning, unless ``prune_mu`` says how
            much pruning takes. Where that is no less, the target is for the calls.
        max_calls: stop asking after so many calls; the certificate is then wider.
        prune_mu: μ' in [0, 1]; ``None`` takes μ, with "minimal" 0.05, or what is left of
            the target.
        prune_alpha: α' ≥ 0, in units of (normalised) reward.
        method: "greedy" or "exact" cover the weights asked (:func:`palm_core.prune`),
            "minimal" all weights (:func:`palm_core.minimal_portfolio`). ``None`` takes
            "greedy" on a grid, as Algorithm 1 does, and "minimal" otherwise.
        solver: "cbc" or "highs" for the integer program; ``None`` chooses.
        time_limit: seconds for the whole search of the portfolio.
        normalize: "none", or "minmax" over the policies of the run as in the
            paper's experiments; weights then mean normalised rewards. Grid only.
        run_dir: folder of the run. Answers are kept there as they arrive, a
            run that was stopped goes on where it stood, and the portfolio is
            saved as ``portfolio.json``. ``None`` keeps all in memory.
        extend: go on with a run whose task differs only in how weights are chosen and
            how the portfolio is pruned; all its answers count.
        execution: how calls are made: worker processes, Ray, time limits, retries.
            ``None`` makes them here, in one stream, and tries each weight three times.
        executor: a ``concurrent.futures.Executor`` that makes the calls instead, one
            weight each.
        task: the task this run belongs to, as plain values; ``None`` describes
            the oracle and the settings.
        source: how a worker makes the oracle for itself, a function that can be pickled;
            ``None`` sends it a copy of ``oracle``.
        progress: called with a :class:`palm_core.collecting.Progress` after each answer.

    Returns:
        The portfolio, with exact gaps against all evaluated policies, a certificate
        against all there are, the measured oracle slack and, on a grid, Theorem 3.4.
        Weights that the oracle fails at, again and again, are named in ``missing``.

    Raises:
        InputError: a setting or the oracle is not acceptable, the grid is too
            large, or ``run_dir`` belongs to another task or is worked on.
        WorkError: the oracle fails at every weight, or the disk is full. With
            ``run_dir`` the finished calls are kept.
    """
    objectives = check_oracle(oracle)
    if target_epsilon is None and (mu is None or alpha is None):
        name = "mu" if mu is None else "alpha"
        raise InputError(f"{name}: is missing, must be in (0, 1]; or give target_epsilon")
    settings = Settings(
        mu=mu,
        alpha=alpha,
        target_epsilon=target_epsilon,
        max_calls=max_calls,
        prune_mu=prune_mu,
        prune_alpha=prune_alpha,
        method=method or ("greedy" if target_epsilon is None else "minimal"),
        solver=solver,
        time_limit=time_limit,
        normalize=normalize,
    )
    if max_calls is not None and max_calls < len(objectives):
        raise InputError(
            f"max_calls = {max_calls}: must be at least {len(objectives)}, one per objective"
        )
    claimed = claims(oracle)
    if settings.target_epsilon is not None:
        check_certifiable(claimed)
    weights = None if settings.target_epsilon is not None else grid_of(settings, len(objectives))
    plain = with_fingerprint(_identity(oracle, settings) if task is None else task, oracle)
    folder = None if run_dir is None else Path(run_dir)
    with collecting(
        oracle,
        objectives,
        folder=folder,
        task=plain,
        extend=extend,
        execution=execution,
        executor=executor,
        source=source,
        progress=progress,
    ) as (collector, ledger, end_workers):
        stopped = None
        if weights is not None:
            collector.collect(weights)
        else:
            grid = AdaptiveGrid(
                len(objectives),
                target_epsilon=settings.call_target,
                **claimed.accuracy(),
            )
            stopped = collector.collect_adaptively(grid, most=settings.max_calls)
        end_workers()
        portfolio = assemble(
            in_order(collector.answers, collector.rounds),
            objectives,
            settings,
            claimed=claimed,
            task=plain,
            stopped=stopped,
            missing=in_order(collector.missing, collector.rounds),
        )
        if ledger is not None:
            portfolio.save(ledger.file.with_name("portfolio.json"))
            ledger.finish()
    return portfolio


def grid_of(settings: Settings, n_objectives: int) -> NDArray[np.float64]:
    """Build the grid of a run, or refuse one that no oracle could be asked through.

    Raises:
        InputError: more than a million weights; nothing is allocated.
    """
    from palm_core.grid import construct_grid, grid_size, spaced

    assert settings.mu is not None
    assert settings.alpha is not None
    size = grid_size(n_objectives, settings.mu, settings.alpha)
    if size > MOST_CALLS:
        raise InputError(
            f"this grid has {spaced(size)} weights; the oracle would be called for each. "
            "Raise mu or alpha, or ask adaptively (target_epsilon)"
        )
    return construct_grid(n_objectives, settings.mu, settings.alpha)


def _identity(oracle: Oracle, settings: Settings) -> dict[str, Any]:
    kind = type(oracle)
    return {"oracle": {"name": f"{kind.__module__}:{kind.__qualname__}"}, **settings.tables()}
