"""Figures of a run or of a selection from a table, with captions and descriptions."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Normalization, PolicySet, gaps, sample_weights, size_gap_curve
from palm_core.plugin import Grid, check_count, check_number, one_line
from palm_eval import figures
from palm_eval.analysis.baselines import ask_baselines, baseline_label, check_oracle_of, distinct
from palm_eval.analysis.intervals import RESAMPLES, SAMPLES, gap_intervals
from palm_eval.baselines import SWEEP_MUS, prunings, random_weights, uniform_weights
from palm_eval.figures import Drawn
from palm_eval.figures.cells import DELTA, EPSILON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from palm_core import Gaps, Oracle, Portfolio, Run, SizeGap, Table
    from palm_core.plugin import EvaluatedAnswers
    from palm_eval.analysis.baselines import RunBaseline
    from palm_eval.figures import PolicyStyle

    Array = NDArray[np.float64]

# Maximum weights whose cells are distinguishable.
_MOST_CELLS = 1000
# Maximum distinguishable points of the multiplicative grid.
_MOST_POINTS = 3000


def drawn_usage(groups: Mapping[str, PolicySet], styles: Mapping[str, PolicyStyle]) -> Drawn:
    """Which policy serves which weights: for the portfolio, the first group, and others.

    Args:
        groups: policies by title.
        styles: of all of them.
    """
    d = next(iter(groups.values())).n_objectives
    others = " and ".join(list(groups)[1:])
    beside = f" Beside it the policies of as many {others}." if others else ""
    how = {
        2: "The bar runs over all weights; in each part one policy is the best",
        3: "Each point of the triangle is a weight vector, each corner one objective alone; in "
        "each area one policy is the best",
    }.get(d, "The bar holds all weights; each part is the share at which one policy is the best")
    unless = " (estimated from 100 000 weights)" if d > 3 else ""
    return Drawn(
        figure=figures.usage_figure(groups, styles=styles),
        title="Who serves whom",
        caption=f"{how} of the portfolio{unless}.{beside}",
        description=figures.usage_description(groups, styles),
    )


def drawn_front(
    portfolio: PolicySet,
    candidates: PolicySet,
    styles: Mapping[str, PolicyStyle],
    *,
    scaled: str,
) -> Drawn:
    """The rewards of all policies, with the portfolio marked.

    Args:
        portfolio: the policies to mark.
        candidates: all policies, in the same units.
        styles: of the portfolio's policies.
        scaled: the normalisation method of both.
    """
    how = "Each point is a policy, placed by"
    if portfolio.n_objectives > 3:
        how = "Each line is a policy, drawn through"
    net = " less the regulariser f" if candidates.regularizer.any() else ""
    unit = ", scaled to [0, 1]" if scaled == "minmax" else ""
    return Drawn(
        figure=figures.front_figure(portfolio, candidates, styles=styles),
        title="What the policies achieve",
        caption=(
            f"{how} its reward in each objective{net}{unit}: dark where it is the best one at "
            "some weights, pale where at none. The numbers mark the portfolio."
        ),
        description=figures.front_description(portfolio, candidates, styles),
    )


def drawn_cells(
    asked: str,
    weights: Array,
    objectives: tuple[str, ...],
    *,
    reach: tuple[float, float] = (EPSILON, DELTA),
    seed: int = 0,
) -> Drawn | str:
    """The cells of weights, beside uniform and random ones; or why they are not drawn.

    Args:
        asked: the title of the weights.
        weights: (k, d), d = 2 or 3.
        objectives: d names.
        reach: (ε', δ') of a cell.
        seed: of the random weights.
    """
    n, d = weights.shape
    if n > _MOST_CELLS:
        return f"{n} weights are too many to tell apart, at most {_MOST_CELLS}"
    sets = {asked: weights}
    if n >= d:  # uniform weights on a segment include its ends
        sets["uniform"] = uniform_weights(n, d, seed=seed)
    sets["random"] = random_weights(n, d, runs=1, seed=seed)[0]
    epsilon, delta = reach
    return Drawn(
        figure=figures.cells_figure(sets, epsilon=epsilon, delta=delta, objectives=objectives),
        title="What the weights cover",
        caption=(
            "Around each weight lies what it covers: all weights v that differ from it by at "
            f"most {epsilon:.4g}·v + {delta:.4g} in each objective, for which its policy is "
            "nearly the best too. Hatched: covered by none."
        ),
        description=figures.cells_description(sets, epsilon=epsilon, delta=delta),
    )


def drawn_grids(mu: float, alpha: float, objectives: tuple[str, ...]) -> Drawn | str:
    """The grid of a run and its two components; or why they are not drawn.

    Args:
        mu: the grid's μ.
        alpha: the grid's α.
        objectives: d names, d = 2 or 3.
    """
    d = len(objectives)
    smallest = next(
        (one for one in (1e-3, 1e-2) if one < alpha and _size(d, mu, one) <= _MOST_POINTS),
        alpha,
    )
    try:
        return Drawn(
            figure=figures.grids_figure(mu, alpha, objectives=objectives, smallest=smallest),
            title="The grid of this run, and what it combines",
            caption=(
                "Weights with entries of a fixed ratio crowd towards the boundary without end; "
                "evenly spaced ones are coarse where it matters; the run's grid is of a fixed "
                "ratio down to α of the largest weight, and stops there."
            ),
            description=figures.grids_description(mu, alpha, d, smallest=smallest),
        )
    except InputError:
        return "its grids have too many weights to tell apart"


def _size(d: int, mu: float, smallest: float) -> int:
    """The number of weights of the multiplicative grid down to ``smallest``."""
    steps = math.floor(math.log(1 / smallest) / math.log1p(mu))
    return int((steps + 1) ** d - steps**d)


def policies_of(baseline: RunBaseline, found: EvaluatedAnswers) -> PolicySet:
    """The policies of a baseline, each once, in the units of the run's candidates."""
    raw = PolicySet.from_policies(distinct(baseline.policies), found.raw.objectives)
    return found.normalization.apply(raw)


def draw_curve(
    run: Run,
    portfolio: Portfolio,
    found: EvaluatedAnswers,
    asked: Mapping[str, RunBaseline],
    *,
    most: int,
    resamples: int,
    seed: int,
) -> tuple[Drawn, list[str]]:
    """The least gap of each size up to ``most``, and notes on omitted parts.

    Intervals are for the fixed portfolio of each size; all gaps are against the policies of
    the run.

    Raises:
        WorkError: a solver failed.
    """
    curve = run.curve(most=most)
    stored = _beside_curve(
        run, curve, asked, largest=max(most, len(portfolio)), resamples=resamples, seed=seed
    )
    intervals, why, baselines = stored["intervals"], stored["why"], stored["baselines"]
    certificate = None if portfolio.certificate is None else portfolio.certificate.epsilon
    banded = " Bars: 95 % intervals, were it measured on other prompts." if intervals else ""
    beside = (
        " Markers beside a size: as many policies of other weights, and a uniform grid of as "
        "many weights as the run asked, pruned."
        if "uniform, pruned" in baselines
        else ""
    )
    drawn = Drawn(
        figure=figures.curve_figure(
            curve, intervals=intervals, certificate=certificate, baselines=baselines
        ),
        title="What each further policy buys",
        caption=(
            "The gap is the largest share of the best value that any user loses, against all "
            f"policies of the run ({len(found.policies)}). Each step down is what more policies "
            f"gain.{banded}{beside}"
        ),
        description=figures.curve_description(
            curve, intervals=intervals, certificate=certificate, baselines=baselines
        ),
    )
    return drawn, [f"curve: no intervals, {why}"] if why else []


def _beside_curve(
    run: Run,
    curve: list[SizeGap],
    asked: Mapping[str, RunBaseline],
    *,
    largest: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """What is drawn beside the curve, stored in the run.

    "intervals": (lower, upper) by size, "why" there are none, and the gaps of "baselines".
    """
    found = run.evaluated
    portfolios = [point.indices.tolist() for point in curve]

    def make() -> dict[str, Any]:
        intervals, why = gap_intervals(
            found.policies,
            found.raw.objectives,
            portfolios,
            space=found.normalization,
            weights=sample_weights(SAMPLES, found.raw.n_objectives, seed=seed),
            gaps=("epsilon",),
            resamples=resamples,
            seed=seed,
        )
        each = [one["epsilon"] for one in intervals or ()]
        ends = [(float(one.lower), float(one.upper)) for one in each]
        return {"ends": ends, "why": why, "baselines": _baseline_gaps(asked, found, largest)}

    def read(stored: dict[str, Any]) -> dict[str, Any]:
        baselines = {
            str(name): [(int(size), float(gap)) for size, gap in points]
            for name, points in stored["baselines"].items()
        }
        pairs = zip(curve, stored["ends"], strict=not stored["why"])
        intervals = {point.size: (float(low), float(high)) for point, (low, high) in pairs}
        return {"intervals": intervals, "why": str(stored["why"]), "baselines": baselines}

    key = {
        "portfolios": portfolios,
        "normalize": found.normalization.method,
        "asked": {
            name: [[one.id, *one.rewards.tolist(), one.regularizer] for one in baseline.policies]
            for name, baseline in asked.items()
        },
        "largest": largest,
        "resamples": resamples,
        "seed": seed,
    }
    return run.stored("curve-beside", key, make, read)


def _baseline_gaps(
    asked: Mapping[str, RunBaseline], found: EvaluatedAnswers, largest: int
) -> dict[str, list[tuple[int, float]]]:
    """(size, ε) of the baselines; of pruned baselines the best of each size."""
    pairs: dict[str, list[tuple[int, float]]] = {}
    for name, baseline in asked.items():
        group = policies_of(baseline, found)
        if name == "uniform_palm":
            best: dict[int, float] = {}
            for one in prunings(group, baseline.weights, found.candidates, mus=SWEEP_MUS):
                size = len(one.indices)
                best[size] = min(one.epsilon, best.get(size, math.inf))
            points = [(size, best[size]) for size in sorted(best) if size <= largest]
        else:
            points = [(len(group), gaps(group, found.candidates).epsilon)]
        # ε is undefined if opt ≤ 0 at some weights.
        defined = [point for point in points if math.isfinite(point[1])]
        if defined:
            pairs.setdefault(baseline_label(name), []).extend(defined)
    return pairs


def run_figures(
    run: Run,
    *,
    most: int = 8,
    oracle: Oracle | None = None,
    cells: tuple[float, float] = (EPSILON, DELTA),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Drawn], list[str]]:
    """Draw all figures for which a run has data.

    - ``usage``: which policy of the portfolio serves which weights, beside portfolios of
      uniform and of random weights of the same size where their policies can be had;
    - ``front``: the rewards of all policies;
    - ``curve``: the least gap of each size, with intervals where policies carry rewards per
      prompt, and the baselines' gaps, all measured against the policies of the run;
    - ``weights``: the weights of the run, and those of the portfolio's policies (d ≤ 3);
    - ``cells``: their cells, beside uniform and random weights (Figure 1; d ≤ 3);
    - ``grids``: the run's grid and its two components (Figure 2; grid runs, d ≤ 3).

    Args:
        run: see :class:`palm_core.run.run.Run`; its portfolio is chosen as in the build.
        most: the largest size on the curve.
        oracle: called for baselines at weights without a policy of the run, as by
            :func:`palm_eval.evaluate_run`.
        cells: (ε', δ') of ``cells``, by default those of the paper's Figure 1.
        resamples: of the bootstrap over prompts, at least 100.
        seed: of the baselines, the random weights and the bootstrap.

    Returns:
        The figures by name, and what is left out and why, a sentence each.

    Raises:
        InputError: an argument out of range, or an oracle for other objectives.
        WorkError: a solver or the oracle failed.
    """
    check_count(most, name="most", least=1)
    check_count(seed, name="seed", least=0)
    check_count(resamples, name="resamples", least=100)
    for name, value in zip(("cells, epsilon", "cells, delta"), cells, strict=True):
        check_number(value, name=name, least=0.0)
    check_oracle_of(run, oracle)
    portfolio = run.portfolio
    found = run.evaluated
    asked, missing = ask_baselines(run, oracle, found.policies, size=len(portfolio), seed=seed)
    notes = [f"{baseline_label(name)}: not drawn, {why}" for name, why in missing.items()]
    groups = {"portfolio": portfolio.policy_set}
    for name in ("uniform", "random 0"):
        if name in asked:
            groups[baseline_label(name)] = policies_of(asked[name], found)
    styles = figures.policy_styles(*groups.values())
    drawn = {
        "usage": drawn_usage(groups, styles),
        "front": drawn_front(
            portfolio.policy_set, found.candidates, styles, scaled=found.normalization.method
        ),
    }
    drawn["curve"], curve_notes = draw_curve(
        run, portfolio, found, asked, most=most, resamples=resamples, seed=seed
    )
    notes += curve_notes
    if len(run.objectives) > 3:
        notes.append(
            f"weights, cells, grids: drawn for 2 and 3 objectives, not {found.weights.shape[1]}"
        )
        return drawn, notes
    kept = {policy.id: _weights_of(run, policy.id) for policy in portfolio.policies}
    drawn["weights"] = _weights(run, found.weights, kept, styles)
    cells_drawn = drawn_cells(
        "asked by this run", found.weights, run.objectives, reach=cells, seed=seed
    )
    pairs = [("cells", cells_drawn)]
    grid = run.settings.asked
    if isinstance(grid, Grid):
        pairs.append(("grids", drawn_grids(grid.mu, grid.alpha, run.objectives)))
    for name, one in pairs:
        if isinstance(one, Drawn):
            drawn[name] = one
        else:
            notes.append(f"{name}: not drawn, {one}")
    return drawn, notes


def _weights(
    run: Run, weights: Array, kept: Mapping[str, Array], styles: Mapping[str, PolicyStyle]
) -> Drawn:
    adaptive = not isinstance(run.settings.asked, Grid)
    order = "the later the darker" if adaptive else "all of one grid"
    return Drawn(
        figure=figures.weights_figure(
            weights, kept, objectives=run.objectives, ordered=adaptive, styles=styles
        ),
        title="The weights asked for",
        caption=(
            f"Each point is a weight vector that the oracle was asked to optimise for, {order}. "
            "Numbers mark those whose policies are in the portfolio."
        ),
        description=figures.weights_description(
            weights, kept, objectives=run.objectives, styles=styles
        ),
    )


def _weights_of(run: Run, policy: str) -> Array:
    return next(answer.weights for answer in run.answers if answer.policy.id == policy)


def is_selected(portfolio: Portfolio) -> bool:
    """Whether it was selected from a table of existing policies, without an oracle."""
    return portfolio.oracle_calls == 0 and portfolio.certificate is None


def models_of(portfolio: Portfolio, table: Table) -> PolicySet:
    """All models of a table, in the space of a portfolio's weights.

    ``palm select`` negates columns to minimise; they are recognised by the portfolio's own
    models. Its scale and its exact gaps are validated against this table. A change of the
    table that preserves these is not detected.

    Args:
        portfolio: from ``palm select --save``.
        table: from :func:`palm_core.read_table`.

    Returns:
        (m, d) policies, m the rows of the table.

    Raises:
        InputError: the portfolio is of a run, or was not selected from this table; the
            message names the mismatching column, model or number.
    """
    if not is_selected(portfolio):
        raise InputError(
            f"{table.source}: the portfolio is of a run, whose folder has the policies it was "
            "chosen from"
        )
    columns = [np.array(table.numbers(name)) for name in portfolio.objectives]
    names = table.names(portfolio.objectives)
    own = _rows(portfolio, names, table.source)
    signs = [
        _signs(column, portfolio, index, own, table.source) for index, column in enumerate(columns)
    ]
    if len(names) != portfolio.candidates:
        raise InputError(
            f"{table.source}: has {len(names)} models, but the portfolio was selected from "
            f"{portfolio.candidates}"
        )
    for each in product(*signs):
        raw = PolicySet(
            np.column_stack(columns) * each, names=names, objectives=portfolio.objectives
        )
        limits = portfolio.normalization
        scale = Normalization.fit(raw, limits.method, over=limits.over)
        models = scale.apply(raw)
        if scale == limits and _agree(portfolio.gaps, models, own):
            return models
    raise InputError(
        f"{table.source}: limits or gaps differ from those recorded in the portfolio, so other "
        "models of the table have changed; select from it again"
    )


def _rows(portfolio: Portfolio, names: list[str], source: str) -> list[int]:
    """The rows of the portfolio's models."""
    places = {name: row for row, name in enumerate(names)}
    for policy in portfolio.policies:
        if policy.id not in places:
            raise InputError(
                f"{source}: has no model {one_line(policy.id)!r}, so the portfolio was not "
                "selected from it"
            )
    return [places[policy.id] for policy in portfolio.policies]


def _signs(
    column: Array, portfolio: Portfolio, index: int, own: list[int], source: str
) -> list[float]:
    """1 for an objective that equals its column, −1 if negated; both if all values are 0."""
    rewards = np.array([policy.rewards[index] for policy in portfolio.policies])
    differ = {sign: sign * column[own] != rewards for sign in (1.0, -1.0)}
    found = [sign for sign, rows in differ.items() if not rows.any()]
    if not found:
        sign = min(differ, key=lambda one: int(differ[one].sum()))
        row = int(np.argmax(differ[sign]))
        raise InputError(
            f"{source}: column {portfolio.objectives[index]!r} of model "
            f"{one_line(portfolio.policies[row].id)!r} is {column[own][row]:g}, but the portfolio "
            f"was selected where it was {sign * rewards[row]:g}"
        )
    return found


def _agree(recorded: Gaps | None, models: PolicySet, own: list[int]) -> bool:
    """Whether the exact gaps to all models equal the recorded ones."""
    if recorded is None:
        return True
    exact = gaps(models.subset(own), models)
    old, new = (recorded.epsilon, recorded.delta), (exact.epsilon, exact.delta)
    return bool(np.allclose(new, old, atol=1e-9))


def selection_figures(
    portfolio: Portfolio, models: PolicySet, *, most: int = 8
) -> tuple[dict[str, Drawn], list[str]]:
    """Draw a portfolio and the models that it was selected from.

    ``usage``, ``front`` and ``curve``, as in :func:`palm_eval.analysis.figures.run_figures`.
    There were no oracle calls, so there are no weights to draw.

    Args:
        portfolio: from ``palm select --save``.
        models: all of them, from :func:`palm_eval.analysis.figures.models_of`.
        most: the largest size on the curve.

    Returns:
        The figures by name, and what is left out and why, a sentence each.

    Raises:
        InputError: ``most`` out of range, or other objectives.
        WorkError: a solver failed.
    """
    check_count(most, name="most", least=1)
    styles = figures.policy_styles(portfolio.policy_set)
    method = portfolio.normalization.method
    drawn = {
        "usage": drawn_usage({"portfolio": portfolio.policy_set}, styles),
        "front": drawn_front(portfolio.policy_set, models, styles, scaled=method),
    }
    curve = size_gap_curve(models, most=most)
    if not curve:
        return drawn, [f"curve: not drawn, no portfolio of {most} is within 100 % at every weight"]
    drawn["curve"] = Drawn(
        figure=figures.curve_figure(curve),
        title="What each further model buys",
        caption=(
            "The gap is the largest share of the best value that any user loses, against all "
            f"{len(models)} models of the table. Each step down is what one more model gains."
        ),
        description=figures.curve_description(curve),
    )
    return drawn, []
