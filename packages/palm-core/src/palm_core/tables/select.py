"""Select the fewest models within a tolerance of the best, out of scored models.

No oracle and no grid: the candidates are given, so the gap is exact at every
weight vector of the simplex (theory: the covered weights of a policy are
convex, and the worst weight is a corner of the chosen portfolio's cells).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from palm_core.errors import InputError
from palm_core.model.files import package_versions
from palm_core.model.normalization import Normalization
from palm_core.model.policy import Policy
from palm_core.model.portfolio import Portfolio
from palm_core.model.results import Reference
from palm_core.validation import check_number
from palm_core.weights.simplex import sample_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.model.policy import PolicySet
    from palm_core.model.results import Cover, Gaps


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """One model of the selection.

    Args:
        name: the model.
        scores: (d,) its rewards in raw units, costs negated.
        interval: for d = 2 the weights on the first objective that it serves
            best among the selected, else ``None``.
        share: the share of the simplex on which it is the best.
        weights: (d,) a weight vector that it serves.
        gap_without: the multiplicative gap of the selection without it;
            ``None`` where it is the only one, the gap is not finite or after the time limit.
    """

    name: str
    scores: NDArray[np.float64]
    interval: tuple[float, float] | None
    share: float
    weights: NDArray[np.float64]
    gap_without: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The smallest set of models within (ε, δ) of all models at every weight.

    Args:
        models: the selected ones, by falling weight on the first objective.
        cover: their rows in the candidates, in the same order, with the proof that no smaller
            set is within the tolerance.
        objectives: d names.
        normalization: the space of weights and gaps.
        candidates: all models, in the normalised units of the weights.
        not_computed: number of models without ``gap_without`` for lack of time.
    """

    models: tuple[Selected, ...]
    cover: Cover
    objectives: tuple[str, ...]
    normalization: Normalization
    candidates: PolicySet
    not_computed: int = 0

    @property
    def gaps(self) -> Gaps:
        """Exact gaps of the selection against all candidates."""
        assert self.cover.gaps is not None
        return self.cover.gaps

    @property
    def status(self) -> str:
        """Whether the size is proven: "optimal" if no smaller set suffices, else "feasible"."""
        return self.cover.status

    @property
    def lower_bound(self) -> int:
        """No fewer models suffice (proven)."""
        return self.cover.lower_bound

    def portfolio(self) -> Portfolio:
        """Return the selection as a portfolio, for saving or routing.

        Each policy's ``weights`` are some that it serves; no oracle was asked for them. The
        tolerance and the proof of minimality are in ``pruning``.
        """
        return Portfolio(
            policies=tuple(
                Policy(id=model.name, weights=model.weights, rewards=model.scores)
                for model in self.models
            ),
            objectives=self.objectives,
            normalization=self.normalization,
            candidates=len(self.candidates),
            pruning=self.cover,
            gaps=self.gaps,
            reference=Reference.of_candidates(self.candidates),
            made_with=package_versions(),
        )


def select_models(
    candidates: PolicySet,
    *,
    epsilon: float = 0.01,
    delta: float = 0.0,
    normalize: str = "minmax",
    solver: str | None = None,
    time_limit: float = 60.0,
    over: str = "",
) -> Selection:
    """Select the fewest models that are within (ε, δ) of the best at every weight.

    For every w in Δ_d the best selected model π has
    J_w(π) ≥ opt(w) − ε·max(opt(w), 0) − δ, opt over all candidates.

    Args:
        candidates: the models, (m, d) rewards, costs already negated.
        epsilon: multiplicative tolerance in [0, 1].
        delta: additive tolerance, in units of (normalised) reward.
        normalize: "minmax" scales each objective to [0, 1] over the candidates,
            "none" keeps raw units.
        solver: "cbc" or "highs" for the integer program; ``None`` chooses.
        time_limit: seconds for the search, and about a tenth more for ``gap_without``.
        over: description of the candidates in the stored normalisation.

    Raises:
        InputError: fewer than two candidates, a tolerance out of range, or an
            objective on which all candidates score the same.

    Example:
        >>> from palm_core import PolicySet
        >>> models = PolicySet([[1, 0], [0.9, 0.6], [0.6, 0.9], [0, 1]], names=list("abcd"))
        >>> [model.name for model in select_models(models, epsilon=0.1).models]
        ['b', 'c']
    """
    from palm_core.cover.minimal import minimal_portfolio
    from palm_core.cover.regions import serving_intervals, serving_shares
    from palm_core.guarantees.gaps import gaps_without

    begun = time.perf_counter()
    if len(candidates) < 2:
        raise InputError(f"candidates: must have at least 2 models, has {len(candidates)}")
    epsilon = check_number(epsilon, name="epsilon", least=0.0, most=1.0)
    delta = check_number(delta, name="delta", least=0.0)
    normalization = Normalization.fit(
        candidates, normalize, over=over or f"{len(candidates)} models"
    )
    # Numbers of a table are read as exact decimals.
    scaled = normalization.apply(candidates).as_written()
    found = minimal_portfolio(
        scaled, epsilon=epsilon, delta=delta, solver=solver, time_limit=time_limit
    )
    chosen = scaled.subset(found.indices)
    # The search has the time limit; ``gap_without`` gets the remaining time and a tenth.
    left = time_limit - (time.perf_counter() - begun) + max(1.0, 0.1 * time_limit)
    rest = gaps_without(chosen, scaled, time_limit=max(left, 0.0))
    shares = serving_shares(chosen)
    intervals = serving_intervals(chosen) if chosen.n_objectives == 2 else None
    served = _served(chosen, intervals)
    order = np.argsort(-chosen.vertex_values[:, 0], kind="stable")
    models = []
    for place in order:
        index = int(found.indices[place])
        without = rest[place]
        models.append(
            Selected(
                name=candidates.names[index],
                scores=candidates.rewards[index],
                interval=None
                if intervals is None
                else (float(intervals[place, 0]), float(intervals[place, 1])),
                share=float(shares[place]),
                weights=served[place],
                gap_without=without.epsilon if without and np.isfinite(without.epsilon) else None,
            )
        )
    return Selection(
        models=tuple(models),
        cover=replace(found, indices=found.indices[order]),
        objectives=candidates.objectives,
        normalization=normalization,
        candidates=scaled,
        not_computed=sum(item is None for item in rest) if len(rest) > 1 else 0,
    )


def _served(chosen: PolicySet, intervals: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """A weight vector for each policy that it serves: its cell is convex, so a mean is in it."""
    if intervals is not None:
        first = np.nan_to_num(intervals.mean(axis=1), nan=0.5)
        return np.column_stack([first, 1.0 - first])
    d = chosen.n_objectives
    weights = np.vstack([np.eye(d), sample_weights(4096, d)])
    best = chosen.objective(weights).argmax(axis=1)
    means = np.full((len(chosen), d), 1.0 / d)
    for index in range(len(chosen)):
        if (best == index).any():
            means[index] = weights[best == index].mean(axis=0)
    return means
