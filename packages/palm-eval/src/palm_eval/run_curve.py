"""The size–gap curve of a run, with intervals and baselines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from palm_core import PolicySet, gaps, sample_weights
from palm_eval import figures
from palm_eval.baselines import SWEEP_MUS, prunings
from palm_eval.figures import Drawn
from palm_eval.pool import distinct
from palm_eval.run_baselines import baseline_label
from palm_eval.run_intervals import SAMPLES, gap_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_core import SizeGap
    from palm_core.assembling import Evaluated
    from palm_core.portfolio import Portfolio
    from palm_core.runs import Run
    from palm_eval.run_baselines import RunBaseline


def policies_of(baseline: RunBaseline, found: Evaluated) -> PolicySet:
    """The policies of a baseline, each once, in the units of the run's candidates."""
    raw = PolicySet.from_policies(distinct(baseline.policies), found.raw.objectives)
    return found.normalization.apply(raw)


def draw_curve(
    run: Run,
    portfolio: Portfolio,
    found: Evaluated,
    asked: Mapping[str, RunBaseline],
    *,
    most: int,
    resamples: int,
    seed: int,
) -> tuple[Drawn, list[str]]:
    """The least gap of each size up to ``most``, and what is not drawn and why.

    The intervals are about the portfolio of each size, fixed; all gaps are against the
    policies of the run.

    Raises:
        WorkError: a solver failed.
    """
    curve = run.curve(most=most)
    intervals, why = _intervals(found, curve, resamples=resamples, seed=seed)
    certificate = None if portfolio.certificate is None else portfolio.certificate.epsilon
    baselines = _baseline_gaps(asked, found, largest=max(most, len(portfolio)))
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


def _intervals(
    found: Evaluated, curve: list[SizeGap], *, resamples: int, seed: int
) -> tuple[dict[int, tuple[float, float]], str]:
    d = found.raw.n_objectives
    each, why = gap_intervals(
        found.policies,
        found.raw.objectives,
        [point.indices.tolist() for point in curve],
        space=found.normalization,
        weights=sample_weights(SAMPLES, d, seed=seed),
        gaps=("epsilon",),
        resamples=resamples,
        seed=seed,
    )
    if each is None:
        return {}, why
    ends = [(float(one["epsilon"].lower), float(one["epsilon"].upper)) for one in each]
    return {point.size: pair for point, pair in zip(curve, ends, strict=True)}, ""


def _baseline_gaps(
    asked: Mapping[str, RunBaseline], found: Evaluated, *, largest: int
) -> dict[str, list[tuple[int, float]]]:
    """(size, ε) of the baselines; of the pruned ones the best of each size."""
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
        # Where some weights have nothing worth more than 0, ε is not defined.
        defined = [point for point in points if math.isfinite(point[1])]
        if defined:
            pairs.setdefault(baseline_label(name), []).extend(defined)
    return pairs
