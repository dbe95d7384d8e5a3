"""Bootstrap intervals over prompts, jointly for all policies.

Every reward is a mean over prompts. A resample draws n prompts with replacement, the
same ones for all policies, so that what policies have in common (an easy prompt is easy
for all of them) cancels in their differences, as it does in the figures themselves.
Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13, 14 and 22;
BCa: Efron, JASA 82 (1987).

Prompts are resampled, not training: policies are fixed, and an interval describes the
variation of the figure with other prompts from the same source, not with another seed of the
oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from palm_core import InputError, Normalization, PolicySet, WorkError, gaps
from palm_core.plugin import check_choice, check_count, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core import Policy

    Array = NDArray[np.float64]
    Statistic = Callable[[PolicySet], ArrayLike]
    BatchStatistic = Callable[[Array], ArrayLike]

# Maximum size of an array of resampled means.
_BLOCK = 4_000_000


def resample(
    centred: Array,
    total: Array,
    evaluate: Callable[[Array], Array],
    n_resamples: int,
    rng: np.random.Generator,
) -> Array:
    """The statistic of resamples, (n_resamples, …).

    Args:
        centred: (n, q) figures of each prompt, less ``total``.
        total: (q,) their means.
        evaluate: the statistic of means (b, q): (b, …).
        n_resamples: how many.
        rng: draws them.
    """
    n = len(centred)
    rows = max(1, _BLOCK // max(centred.shape[1], n))
    parts = []
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        parts.append(evaluate(total + counts @ centred / n))
    return np.concatenate(parts)


def jackknife(flat: Array, total: Array, evaluate: Callable[[Array], Array]) -> Array:
    """The statistic without each of the n prompts, (n, …); arguments as for :func:`resample`."""
    n = len(flat)
    rows = max(1, _BLOCK // flat.shape[1])
    parts = [
        evaluate(total + (total - flat[start : start + rows]) / (n - 1))
        for start in range(0, n, rows)
    ]
    return np.concatenate(parts)


def bca_ends(resampled: Array, value: Array, left_out: Array, tails: Array) -> Array:
    """Both ends, (2, …): percentiles at Φ(z0 + (z0 + z)/(1 − a(z0 + z))) (Efron 1987)."""
    from scipy.special import ndtr, ndtri

    shape, size = value.shape, len(resampled)
    resampled, left_out = resampled.reshape(size, -1), left_out.reshape(len(left_out), -1)
    flat_value = value.reshape(-1)
    ends = np.empty((2, flat_value.size))
    scale = np.abs(resampled).max(axis=0, initial=0.0)
    for q, theta in enumerate(flat_value):
        column = resampled[:, q]
        # Ties count half, so that a statistic constant at its boundary has no bias there;
        # values that differ by rounding only are ties.
        near = np.abs(column - theta) <= 1e-12 * scale[q]
        share = ((column < theta) & ~near).mean() + near.mean() / 2
        z0 = ndtri(np.clip(share, 0.5 / size, 1 - 0.5 / size))
        pull = left_out[:, q].mean() - left_out[:, q]
        spread = (pull**2).sum()
        a = (pull**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
        z = z0 + ndtri(tails)
        # At 1 − a·z ≤ 0 the correction is undefined: take the extreme percentile.
        room = 1 - a * z
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.where(room > 0, ndtr(z0 + z / room), (z > 0).astype(float))
        ends[:, q] = np.quantile(column, at)
    return ends.reshape(2, *shape)


class PromptScores:
    """Per-prompt scores of m policies on the same n prompts in d objectives.

    Args:
        rewards: (m, n_prompts, d) mean reward of each policy on each prompt.
        regularizer: (m, n_prompts) regulariser per prompt, in units of reward;
            estimates of single prompts may be negative. ``None`` means zero.
        names: m names.
        objectives: d names.

    Raises:
        InputError: other shapes, fewer than 2 prompts, values that are not finite, or
            names as :class:`palm_core.PolicySet` refuses them.
    """

    __slots__ = ("names", "objectives", "values")

    def __init__(
        self,
        rewards: ArrayLike,
        regularizer: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        *,
        objectives: Sequence[str] | None = None,
    ) -> None:
        values = _numbers(rewards, "rewards", "(m, n_prompts, d)", 3)
        m, n, _ = values.shape
        if n < 2:
            raise InputError(f"rewards: {n} prompts, at least 2 are needed to resample them")
        if regularizer is not None:
            penalty = _numbers(regularizer, "regularizer", f"({m}, {n})", 2)
            if penalty.shape != (m, n):
                raise InputError(f"regularizer: must have shape ({m}, {n}), has {penalty.shape}")
            values = values - penalty[:, :, np.newaxis]
        #: (m, n_prompts, d) r − f per prompt: all that J_w depends on.
        self.values: Array = values
        checked = PolicySet(values.mean(axis=1), names=names, objectives=objectives)
        self.names: tuple[str, ...] = checked.names
        self.objectives: tuple[str, ...] = checked.objectives

    @classmethod
    def from_policies(
        cls, policies: Sequence[Policy], objectives: Sequence[str] | None = None
    ) -> PromptScores:
        """Collect the per-prompt values that measured policies carry.

        Raises:
            InputError: a policy without them, or measured on another number of prompts,
                or with a regulariser that is not known per prompt.
        """
        rewards: list[Array] = []
        penalties: list[Array] = []
        for policy in policies:
            if policy.prompt_rewards is None:
                raise InputError(f"policy {policy.id!r}: has no prompt_rewards, cannot resample")
            n = len(policy.prompt_rewards)
            if rewards and n != len(rewards[0]):
                raise InputError(
                    f"policy {policy.id!r}: measured on {n} prompts, must be the "
                    f"{len(rewards[0])} that {policies[0].id!r} was measured on"
                )
            penalty = policy.prompt_regularizer
            if penalty is None:
                if policy.regularizer:
                    raise InputError(
                        f"policy {policy.id!r}: regularizer = {policy.regularizer:g} without "
                        "prompt_regularizer, cannot resample"
                    )
                penalty = np.zeros(n)
            rewards.append(policy.prompt_rewards)
            penalties.append(penalty)
        if not rewards:
            raise InputError("policies: at least one is needed, got none")
        return cls(rewards, penalties, [p.id for p in policies], objectives=objectives)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return int(self.values.shape[1])

    def policy_set(self) -> PolicySet:
        """The policies with r − f, averaged over all prompts, as rewards."""
        return self.set_of(self.values.mean(axis=1))

    def set_of(self, means: Array) -> PolicySet:
        """The policies with (m, d) ``means`` as rewards.

        Raises:
            InputError: a mean that is not finite, or another shape.
        """
        return PolicySet(means, names=self.names, objectives=self.objectives)


def fixed_portfolio(
    portfolio: ArrayLike, statistic: Callable[[PolicySet, PolicySet], ArrayLike]
) -> Statistic:
    """``statistic(portfolio, candidates)`` of a portfolio that is fixed in every resample.

    The interval is about *these* policies: how their figure varies with the prompts that
    it is evaluated on. A portfolio chosen on the same prompts is biased towards them; the
    interval does not account for that selection.

    Args:
        portfolio: indices among the candidates.
        statistic: for example ``lambda p, c: palm_core.gaps(p, c).delta``.
    """
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    return lambda candidates: statistic(candidates.subset(chosen), candidates)


def rechosen_portfolio(
    rechoose: Callable[[PolicySet], ArrayLike],
    statistic: Callable[[PolicySet, PolicySet], ArrayLike],
) -> Statistic:
    """``statistic(portfolio, candidates)`` of a portfolio chosen again in every resample.

    The interval is about the *method* "measure on n prompts, choose, and evaluate on the
    same prompts", whose figure it is. A method that ends at a target (the smallest
    portfolio with ε ≤ 0.05) has figures bunched below it, in every resample: then the
    interval shows the target, not the error. Sizes vary for a fixed target and
    policies for a fixed size: report which.

    Args:
        rechoose: from the candidates to indices among them, for example
            ``lambda c: palm_core.prune(c, weights, mu=0.05)``.
        statistic: as for :func:`fixed_portfolio`.
    """
    return lambda candidates: statistic(candidates.subset(rechoose(candidates)), candidates)


def _numbers(given: ArrayLike, name: str, shape: str, axes: int) -> Array:
    try:
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be numbers in an array {shape}: {error}") from error
    if values.ndim != axes:
        raise InputError(f"{name}: must have shape {shape}, has {values.shape}")
    if not np.isfinite(values).all():
        place = ", ".join(str(int(i)) for i in np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"{name}[{place}]: must be a finite number")
    return values


Method = Literal["union", "bca", "percentile", "basic"]
METHODS: tuple[Method, ...] = ("union", "bca", "percentile", "basic")


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval:
    """A figure and its bootstrap interval; arrays if the statistic is an array.

    Args:
        value: the statistic of the original prompts.
        lower: lower end.
        upper: upper end.
        standard_error: standard deviation over the resamples; ``None`` if not estimated.
        bias: mean over the resamples minus ``value``: an estimate of how much
            ``value`` overshoots, positive for gaps as a rule (see :func:`bootstrap`).
        level: nominal coverage, 0.95 for 95 %.
        method: one of ``METHODS``, or "simultaneous".
        n_resamples: how many.
        n_prompts: how many prompts were resampled.
    """

    value: Any
    lower: Any
    upper: Any
    standard_error: Any
    bias: Any
    level: float
    method: str
    n_resamples: int
    n_prompts: int


def bootstrap(
    scores: PromptScores,
    statistic: Statistic | BatchStatistic,
    *,
    normalization: Normalization | Literal["minmax", "none"] = "none",
    method: Method = "union",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int | np.random.Generator = 0,
    vectorized: bool = False,
    least: float = -np.inf,
) -> Interval:
    """Interval for a statistic of all policies, from resampled prompts.

    "percentile" takes quantiles of the resampled statistic θ*, "basic" reflects them at
    the value θ̂ (2θ̂ − quantile), "union" covers both, "bca" shifts the percentiles by the
    median bias and an acceleration from the jackknife.

    Coverage. J_w at a fixed w is a mean: all methods hold. A gap is a maximum over
    candidates of noisy means: biased upwards, and in each resample once more, so
    "percentile" lies too high, and where the bias depends on near ties "basic" and "bca"
    correct too much. Simulated at nominal 95 % (d = 2, 13 candidates, ε and δ of four
    portfolios, 1000 samples of 100 prompts and 700 of 400;
    benchmarks/interval_coverage.py), the coverage is:

    ==========  ===========  ===========  ===========  ===========
    scores      expected     expected     1 response   1 response
    prompts     100          400          100          400
    ==========  ===========  ===========  ===========  ===========
    union       93.1–95.3 %  94.4–96.1 %  94.8–98.1 %  96.1–97.7 %
    bca         92.0–94.9 %  94.3–95.4 %  85.7–92.8 %  88.1–95.0 %
    percentile  92.4–94.7 %  94.0–96.0 %  73.2–96.0 %  93.6–96.4 %
    basic       92.2–94.8 %  94.0–95.6 %  83.7–92.9 %  87.3–95.0 %
    ==========  ===========  ===========  ===========  ===========

    "expected" scores are a policy's expected reward on each prompt, "1 response" is one
    sampled answer from each policy.

    Where it does not hold: a gap near 0, with many unrelated policies nearly as good as the
    portfolio. With 10 (30) of them exactly tied and independent noise "union" covers 80 %
    (75 %): always too high, its upper end held in every sample. There, and whenever
    ``bias`` is not small beside ``standard_error``, read the upper end as a one-sided
    bound, or take :func:`delta_band`. A gap that is 0 by construction (P = Π) gives [0, 0].
    Exact gaps (:func:`palm_eval.metrics.exact_gap_pairs`, :func:`palm_core.gaps`) fare
    better than sampled ones, whose maximum jumps along a coarse V.

    Args:
        scores: per-prompt scores of all policies; every resample draws the same prompts
            for all of them.
        statistic: from a :class:`palm_core.PolicySet` (rewards r − f, f = 0, all m
            policies in order) to a number or an array of fixed shape. See
            :func:`palm_eval.intervals.fixed_portfolio` and ``rechosen_portfolio``.
        normalization: "none", a fixed :class:`palm_core.Normalization` (its limits are
            then treated as known), or "minmax": limits over the m policies, refitted in
            each resample, since they are estimated from the same prompts.
        method: "union", "bca", "percentile" or "basic".
        level: nominal coverage in (0, 1).
        n_resamples: at least 100; "bca" at level 0.95 wants 1000 or more.
        seed: of the resampling.
        vectorized: ``statistic`` takes vertex values (…, m, d) instead and answers
            (…) or (…, q), as :func:`palm_eval.metrics.sampled_gap_pairs` does.
        least: what the statistic cannot be below (0 for a gap); ends are cut there.

    Raises:
        InputError: an argument out of range, or an objective that all policies share
            under "minmax".
        WorkError: the statistic is not finite in some resample (ε where opt ≤ 0).

    Example:
        >>> from palm_eval.intervals import PromptScores
        >>> scores = PromptScores([[[1.0, 0.0], [0.6, 0.2]], [[0.0, 1.0], [0.0, 0.6]]])
        >>> found = bootstrap(scores, lambda p: p.objective([0.5, 0.5])[0], seed=1)
        >>> found.value.round(6), found.lower.round(6), found.upper.round(6)
        (array([0.45, 0.4 ]), array([0.4, 0.3]), array([0.5, 0.5]))
    """
    _check(method, level, n_resamples)
    n, (m, d) = scores.n_prompts, scores.values.shape[::2]
    # (n, m·d): a resample is one row of counts times this matrix.
    flat = np.ascontiguousarray(scores.values.transpose(1, 0, 2)).reshape(n, m * d)

    # ``vectorized`` says which of the two kinds of statistic it is.
    def evaluate(means: Array) -> Array:
        values = _normalized(scores, means.reshape(-1, m, d), normalization)
        if vectorized:
            return np.asarray(cast("BatchStatistic", statistic)(values), dtype=np.float64)
        one = cast("Statistic", statistic)
        return np.array([np.asarray(one(scores.set_of(v)), dtype=np.float64) for v in values])

    return _interval(
        flat, evaluate, method=method, level=level, n_resamples=n_resamples, seed=seed, least=least
    )


def delta_band(
    scores: PromptScores,
    portfolio: ArrayLike,
    *,
    normalization: Normalization | Literal["minmax", "none"] = "none",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Conservative interval for δ(P), valid for any number of nearly tied candidates.

    With h(π) the error of a policy's measured vertex values, for every c ∈ Π, p ∈ P, w

        |δ̂ − δ| ≤ max over c, p, i of (h(c) − h(p))_i, and of its negative,

    since J is linear in w and so is largest at a vertex. The bootstrap estimates the
    distribution of these maxima, which are of centred means: no bias of a selected
    maximum enters, at δ = 0 neither. Simultaneous over all policies and weights, hence
    conservative where policies differ much: simulated at nominal 95 %, with 1 to 30
    candidates exactly as good as the portfolio, the coverage is 95–98 %.

    Args:
        scores: per-prompt scores of all policies.
        portfolio: indices of P among them, fixed in every resample.
        normalization: as for :func:`bootstrap`.
        level: nominal coverage in (0, 1).
        n_resamples: at least 100.
        seed: of the resampling.

    Returns:
        :class:`Interval` cut at 0; ``standard_error`` and ``bias`` are not estimated.

    Raises:
        InputError: an argument out of range.
        WorkError: a solver failed (:func:`palm_core.gaps`).
    """
    _check("union", level, n_resamples)
    chosen = np.atleast_1d(np.asarray(portfolio, dtype=np.intp))
    n, (m, d) = scores.n_prompts, scores.values.shape[::2]
    flat = np.ascontiguousarray(scores.values.transpose(1, 0, 2)).reshape(n, m * d)
    total = flat.mean(axis=0)
    measured = _normalized(scores, total.reshape(1, m, d), normalization)[0]

    def largest(means: Array) -> Array:
        error = _normalized(scores, means.reshape(-1, m, d), normalization) - measured
        ours = error[:, chosen]
        up = error.max(axis=1) - ours.min(axis=1)
        down = ours.max(axis=1) - error.min(axis=1)
        return np.stack([up.max(axis=1), down.max(axis=1)], axis=-1)

    rng = np.random.default_rng(seed)
    reach = np.quantile(
        resample(flat - total, total, largest, n_resamples, rng), (1 + level) / 2, axis=0
    )
    value = gaps(measured[chosen], measured).delta
    return Interval(
        value=value,
        lower=max(0.0, value - float(reach[0])),
        upper=value + float(reach[1]),
        standard_error=None,
        bias=None,
        level=level,
        method="simultaneous",
        n_resamples=n_resamples,
        n_prompts=n,
    )


def bootstrap_mean(
    per_prompt: ArrayLike,
    *,
    method: Method = "bca",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Interval for means over prompts, of output diversity for example.

    Args:
        per_prompt: (n_prompts,) or (n_prompts, q).
        method: as for :func:`bootstrap`.
        level: as for :func:`bootstrap`.
        n_resamples: as for :func:`bootstrap`.
        seed: of the resampling.

    Raises:
        InputError: fewer than 2 prompts, values that are not finite, or an argument out
            of range.
    """
    _check(method, level, n_resamples)
    values = np.asarray(per_prompt, dtype=np.float64)
    if values.ndim not in (1, 2) or len(values) < 2 or not np.isfinite(values).all():
        raise InputError(
            f"per_prompt: must be finite, (n_prompts,) or (n_prompts, q) with n_prompts ≥ 2, "
            f"has shape {values.shape}"
        )
    return _interval(
        values.reshape(len(values), -1),
        lambda means: means[:, 0] if values.ndim == 1 else means,
        method=method,
        level=level,
        n_resamples=n_resamples,
        seed=seed,
        least=-np.inf,
    )


def _interval(
    flat: Array,
    evaluate: Callable[[Array], Array],
    *,
    method: str,
    level: float,
    n_resamples: int,
    seed: int | np.random.Generator,
    least: float,
) -> Interval:
    n = len(flat)
    total = flat.mean(axis=0)
    value = evaluate(total[np.newaxis])[0]
    resampled = resample(flat - total, total, evaluate, n_resamples, np.random.default_rng(seed))
    unfit = ~np.isfinite(resampled).reshape(n_resamples, -1).all(axis=1)
    if unfit.any() or not np.isfinite(value).all():
        raise WorkError(
            f"the statistic is not finite in {int(unfit.sum())} of {n_resamples} resamples; "
            "epsilon is infinite where opt can be 0 or below: use delta, or other units"
        )
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        ends = bca_ends(resampled, value, jackknife(flat, total, evaluate), tails)
    else:
        ends = np.quantile(resampled, tails, axis=0)
        reflected = 2 * value - ends[::-1]
        if method == "basic":
            ends = reflected
        elif method == "union":
            ends = np.stack([np.minimum(ends[0], reflected[0]), np.maximum(ends[1], reflected[1])])
    ends = np.maximum(ends, least)
    return Interval(
        value=_plain(value),
        lower=_plain(ends[0]),
        upper=_plain(ends[1]),
        standard_error=_plain(resampled.std(axis=0, ddof=1)),
        bias=_plain(resampled.mean(axis=0) - value),
        level=level,
        method=method,
        n_resamples=n_resamples,
        n_prompts=n,
    )


def _normalized(
    scores: PromptScores, means: Array, how: Normalization | Literal["minmax", "none"]
) -> Array:
    """(…, m, d) in the units of ``how``."""
    if isinstance(how, Normalization):
        if len(how.lower) != means.shape[-1]:
            raise InputError(
                f"normalization: {len(how.lower)} objectives, the scores have {means.shape[-1]}"
            )
        return means if how.method == "none" else np.asarray((means - how.lower) / how.spread)
    if how == "none":
        return means
    if how != "minmax":
        raise InputError(f"normalization = {how!r}: must be minmax, none or a Normalization")
    limits = [Normalization.fit(scores.set_of(v), "minmax", over="the resample") for v in means]
    low = np.array([limit.lower for limit in limits])[:, np.newaxis]
    return np.asarray((means - low) / np.array([limit.spread for limit in limits])[:, np.newaxis])


def _check(method: str, level: float, n_resamples: int) -> None:
    check_choice(method, METHODS, name="method")
    if check_number(level, name="level", above=0.0, most=1.0) == 1:
        raise InputError("level = 1: must be below 1")
    check_count(n_resamples, name="n_resamples", least=100)


def _plain(values: Array) -> Any:
    return float(values) if values.ndim == 0 else values
