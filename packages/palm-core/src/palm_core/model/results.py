"""Results that a portfolio is stored with: cover, gaps, certificate, theorem, slack, reference.

Each class is a record of ``portfolio.json``, declared once: the annotations are its schema.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.lib.mixins import NDArrayOperatorsMixin

from palm_core.errors import InputError
from palm_core.geometry.envelope import envelope_values
from palm_core.geometry.exact import rounding_error
from palm_core.model.encoding import (
    Amount,
    Array,
    Bound,
    Count,
    Indices,
    Matrix,
    Record,
    Share,
    Shares,
)
from palm_core.validation import bound_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_core.model.policy import Policy, PolicySet

#: Reasons for which an adaptive run stops asking.
Stopped = Literal["target", "slack", "negative", "calls", "failures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps(Record):
    """Exact gaps of a portfolio at every weight, and the weights that attain them.

    Args:
        epsilon: least ε ≥ 0 with L(w) ≥ opt(w) − ε·max(opt(w), 0) for all w; ∞ if none is enough.
        delta: sup_w opt(w) − L(w), in units of reward.
        epsilon_weights: (d,) a weight vector at which no smaller ε would do; ``None`` in
            files of earlier versions where ε is ∞.
        delta_weights: (d,) a weight vector at which opt − L = delta.
        note: why ``epsilon`` is above 1, else empty.
    """

    epsilon: Annotated[
        Bound, Meta(description="multiplicative gap; null where opt_w ≤ 0 makes it infinite")
    ]
    delta: Annotated[Amount, Meta(description="additive gap, in units of reward")]
    epsilon_weights: Annotated[
        Shares | None, Meta(description="d: a weight vector where it is attained")
    ] = None
    delta_weights: Annotated[Shares, Meta(description="d: a weight vector where it is attained")]
    note: Annotated[str, Meta(description="why the multiplicative gap is above 1")] = ""

    def __post_init__(self) -> None:
        _without_null(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate(Record):
    """L(w) ≥ opt(w) − ε·max(opt(w), 0) and L(w) ≥ opt(w) − δ at every w of the simplex.

    opt is the supremum over the whole policy class, not over evaluated policies.

    Args:
        epsilon: ε, the certified multiplicative gap; ∞ where ``note`` says why.
        delta: δ, the certified additive gap, in units of reward.
        epsilon_weights: (d,) where the multiplicative gap may be largest.
        delta_weights: (d,) where the additive gap may be largest.
        conditional_on: its condition beyond the evaluated rewards, as a sentence; ``None``
            for an oracle that claims to be exact and that no answer refutes.
        measured_slack: max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], the largest loss of an
            answer to another policy at its weight; ``None`` if the answer at each weight is
            unknown.
        refuted: the measured slack is more than the oracle claims, or, where it claims
            nothing, more than 0.
        n_weights: number of weights that the oracle was asked at.
        method: "corners" or "subdivision".
        exact: whether no smaller pair follows from these answers, up to rounding, which beside
            much larger numbers may exceed the last bits; otherwise a budget was spent.
        note: why ``epsilon`` is infinite, else empty.
        statement: all of it in words; computed if it is not given.
        stopped: why an adaptive run stopped asking; ``None`` for a grid.
    """

    epsilon: Annotated[Bound, Meta(description="multiplicative gap; null where `note` says why")]
    delta: Annotated[Amount, Meta(description="additive gap, in units of reward")]
    epsilon_weights: Annotated[Shares | None, Meta(description="d: where it may be largest")] = None
    delta_weights: Annotated[Shares | None, Meta(description="d: where it may be largest")] = None
    conditional_on: Annotated[
        str | None, Meta(description="what it rests on beside the evaluated rewards, in words")
    ] = None
    measured_slack: Annotated[
        Amount | None, Meta(description="largest loss of an answer to another policy found")
    ] = None
    refuted: Annotated[
        bool,
        Meta(description="an answer is worse than is claimed, or assumed without a claim"),
    ] = False
    n_weights: Annotated[Count, Meta(description="weights that the oracle was asked at")] = 0
    method: Annotated[str, Meta(description="how it was computed: corners or subdivision")] = ""
    exact: Annotated[bool, Meta(description="no less follows from the answers")] = True
    note: Annotated[str, Meta(description="why no ε is certified")] = ""
    statement: Annotated[str, Meta(description="all of it in words")] = ""
    stopped: Annotated[
        Stopped | None,
        Meta(description="why an adaptive run stopped asking"),
    ] = None

    def __post_init__(self) -> None:
        _without_null(self)
        if not self.statement:
            object.__setattr__(self, "statement", self._words())

    def __repr__(self) -> str:
        return (
            f"Certificate(epsilon={bound_text(self.epsilon)}, delta={bound_text(self.delta)}, "
            f"conditional_on={self.conditional_on!r})"
        )

    def __str__(self) -> str:
        return self.statement

    def _words(self) -> str:
        no_share = self.note or math.isinf(self.epsilon)
        share = "ε unbounded" if no_share else f"ε {bound_text(self.epsilon, percent=True)} %"
        line = f"certified {share}  δ {bound_text(self.delta)}"
        if not no_share and self.epsilon >= 1:
            line += "  (100 % promises nothing: only δ does)"
        if self.conditional_on is not None:
            line += f"  conditional on {self.conditional_on}"
            if self.measured_slack is not None and not self.refuted:
                line += f" (measured so far: {bound_text(self.measured_slack)})"
        return line + (f"  ({self.note})" if self.note else "")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Cover(NDArrayOperatorsMixin):
    """The policies that pruning chose, and how near to the fewest they are proven to be.

    It behaves like the array of their indices: ``policies.subset(cover)``, ``len(cover)``,
    ``rewards[cover]``, ``cover.tolist()``, ``cover == [0, 2]``.

    Args:
        indices: (k,) into the candidates; ascending, "greedy" in the order of choice.
        epsilon: ε: within (ε, δ) of all candidates at every weight; ``None`` for a cover of
            the weights asked, which has ``mu`` and ``alpha``.
        delta: δ, in units of reward.
        mu: μ' of the paper's PRUNE, at the weights asked.
        alpha: α', in units of reward.
        method: "minimal" (every weight), "greedy" or "exact" (the weights asked).
        status: "optimal" if no fewer policies do (proven), else "feasible".
        lower_bound: no fewer policies than this do (proven).
        solver: "greedy", "intervals", "reduction" (bounds met without an integer program),
            "cbc" or "highs".
        n_weights: number of weights asked.
        n_negative: number of them with opt_w < 0, where only δ or α' counts.
        gaps: exact gaps of a minimal portfolio to all candidates; not stored here, but with
            the portfolio.
        rounds: number of covers of finitely many weights that "minimal" solved.
        seconds: time taken; not stored.
    """

    #: The gaps are stored beside the cover; times differ from run to run.
    NOT_STORED: ClassVar = ("gaps", "seconds")

    indices: Annotated[Indices, Meta(description="k: numbers of the policies chosen, from 0")]
    method: Annotated[str, Meta(description="how policies were chosen, as in the task file")]
    status: Annotated[str, Meta(description="optimal: no fewer policies do (proven); or feasible")]
    lower_bound: Annotated[Count, Meta(description="no fewer policies than this do (proven)")]
    solver: Annotated[str, Meta(description="what found the smallest number")]
    epsilon: Annotated[
        Share | None, Meta(description="ε at every weight; null for one of the weights asked")
    ] = None
    delta: Annotated[Amount | None, Meta(description="δ at every weight, in units of reward")] = (
        None
    )
    mu: Annotated[
        Share | None, Meta(description="μ′ at the weights asked; null for one at every weight")
    ] = None
    alpha: Annotated[
        Amount | None, Meta(description="α′ at the weights asked, in units of reward")
    ] = None
    n_weights: Annotated[Count, Meta(description="how many weights were asked")] = 0
    n_negative: Annotated[
        Count, Meta(description="weights where the best value is negative: only the amount counts")
    ] = 0
    rounds: Annotated[Count, Meta(description="covers of finitely many weights solved")] = 0
    gaps: Gaps | None = None
    seconds: float = 0.0

    @property
    def everywhere(self) -> bool:
        """Whether the tolerance is met at every weight, not only at the weights asked."""
        return self.mu is None

    @property
    def tolerance(self) -> tuple[float, float]:
        """(ε, δ) at every weight, or (μ', α') at the weights asked."""
        share, amount = (self.epsilon, self.delta) if self.everywhere else (self.mu, self.alpha)
        return share or 0.0, amount or 0.0

    @property
    def upper_bound(self) -> int:
        """The number of policies chosen."""
        return len(self.indices)

    def __repr__(self) -> str:
        share, amount = self.tolerance
        names = ("epsilon", "delta") if self.everywhere else ("mu", "alpha")
        return (
            f"Cover({list(self)}, {names[0]}={share:g}, {names[1]}={amount:g}, "
            f"method={self.method!r}, status={self.status!r}, lower_bound={self.lower_bound})"
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __getitem__(self, place: Any) -> Any:
        return self.indices[place]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.indices, dtype=dtype, copy=True if copy is None else copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (item.indices if isinstance(item, Cover) else item for item in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "indices":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.indices, name)


def _without_null(found: Gaps | Certificate) -> None:
    """Replace the null of a file by the infinity that it stands for."""
    object.__setattr__(found, "epsilon", math.inf if found.epsilon is None else found.epsilon)


@dataclass(frozen=True, kw_only=True)
class Theorem:
    """Theorem 3.4 for this grid: both pairs, or why it does not apply."""

    applies: Annotated[bool, Meta(description="all of its assumptions hold")]
    statement: Annotated[str, Meta(description="what it says here, in words")]
    epsilon: Annotated[Amount | None, Meta(description="the paper's ε")] = None
    delta: Annotated[Amount | None, Meta(description="the paper's δ, in units of reward")] = None
    sharper_epsilon: Annotated[Amount | None, Meta(description="ε of the sharper pair")] = None
    sharper_delta: Annotated[Amount | None, Meta(description="δ of the sharper pair")] = None
    bounds_measured: Annotated[
        bool, Meta(description="what it was computed from is of the evaluated policies only")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Slack:
    """Oracle slack: what the oracle claims, and what the run proves it has at least."""

    claimed_epsilon: Annotated[Share, Meta(description="the oracle's ε_o")] = 0.0
    claimed_delta: Annotated[Amount, Meta(description="the oracle's δ_o, in units of reward")] = 0.0
    claimed: Annotated[
        bool, Meta(description="the oracle claims these two; otherwise exact answers are assumed")
    ] = False
    refuted: Annotated[
        bool, Meta(description="the answers show more slack than the oracle claims")
    ] = False
    measured: Annotated[
        Amount, Meta(description="max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], in units of reward")
    ] = 0.0
    measured_at: Annotated[
        str | None, Meta(description="whose answer another policy beats by that much")
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Missing(Record):
    """A weight vector that has no answer: the oracle failed there at every attempt."""

    weights: Annotated[Shares, Meta(description="d: the weight vector")]
    attempts: Annotated[Count, Meta(description="how often it was tried in the last session")]
    kind: Annotated[
        str, Meta(description="how the last failed: raised, refused, timeout, memory, died or lost")
    ]
    message: Annotated[str, Meta(description="what the last said, one line")]


#: Limit of numbers (p·d) in a reference; a larger one is not stored.
MOST_NUMBERS = 1 << 17


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference(Record):
    """U(w) = max_j w·values_j, an upper bound on the best value at every weight vector.

    Args:
        kind: "candidates" (U is the best of the policies that the portfolio was chosen from)
            or "certificate" (U is at least the best of all policies there are, under the
            condition of the certificate).
        names: (p,) the candidates that are best at some weights; empty for a certificate.
        values: (p, d) their values r − f, or the pieces of the certificate's upper hull, in
            the normalised units of the weights.
    """

    kind: Annotated[
        Literal["candidates", "certificate"],
        Meta(description="the policies it was chosen from, or all policies there are"),
    ]
    names: Annotated[
        tuple[str, ...], Meta(description="p: candidates that are best somewhere, or none")
    ] = ()
    values: Annotated[Matrix, Meta(description="p × d: the best value at w is max_j w·values_j")]

    @classmethod
    def of_candidates(cls, candidates: PolicySet) -> Reference | None:
        """The candidates that are best at some weights; ``None`` if they are too many to store."""
        from palm_core.geometry.linear_programs import best_somewhere

        places = best_somewhere(candidates.vertex_values)
        if len(places) * candidates.n_objectives > MOST_NUMBERS:
            return None
        names = tuple(candidates.names[place] for place in places)
        return cls(kind="candidates", names=names, values=candidates.vertex_values[places])

    def check(self, d: int) -> None:
        """Check the shapes of a reference that was read.

        Raises:
            InputError: they do not fit d objectives.
        """
        p = len(self.values)
        if self.values.ndim != 2 or self.values.shape[1] != d or p == 0:
            raise InputError(f"reference: values: must be at least one row of {d} numbers")
        if len(self.names) not in ({p} if self.kind == "candidates" else {0}):
            raise InputError(f"reference: names: has {len(self.names)} entries, must have {p}")

    def loss(self, portfolio: PolicySet, weights: Array) -> tuple[Array, Array]:
        """Upper bounds on ε and δ of a portfolio at each weight vector.

        A row of the reference that is a policy of the portfolio causes no loss, so without
        any other that is better there the bound is exactly 0.

        Args:
            portfolio: k policies in the units of ``values``.
            weights: (n, d) on the simplex.

        Returns:
            ε and δ, (n,) each, rounded up; ε is ∞ where U ≤ 0 and the portfolio is below it.
        """
        own = portfolio.vertex_values
        # The computed value plus this bounds the exact one, of rewards rounded to float64, too.
        error = rounding_error(own.shape[1])
        served = envelope_values(own, weights)
        least = served - error * envelope_values(np.abs(own), weights)
        rows = {row.tobytes() for row in own}
        others = np.array([row.tobytes() not in rows for row in self.values], dtype=bool)
        if not others.any():
            return np.zeros(len(weights)), np.zeros(len(weights))
        best = envelope_values(self.values, weights)
        size = error * envelope_values(np.abs(self.values), weights)
        rival = self.values[others]
        most = envelope_values(rival, weights)
        most = most + error * envelope_values(np.abs(rival), weights)
        loses = most > least
        delta = np.where(loses, np.nextafter(most - least, np.inf), 0.0)
        base = best - size
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.where(base > 0, np.nextafter(delta / base, np.inf), np.inf)
        share = np.where(least >= 0, np.minimum(share, 1.0), share)
        return np.where(loses, share, 0.0), delta


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """What a portfolio loses at weight vectors; one number each for (d,), arrays for (k, d).

    Args:
        epsilon: upper bound on the share of the best value that is lost, ∞ for none.
        delta: upper bound on the loss, in normalised units of reward.
        runner_up: the second best policy of the portfolio, ``None`` if it has only one.
        kind: what the loss is measured against: "candidates" or "certificate"
            (:class:`Reference`); "portfolio" where no reference is stored: then the bounds are
            those of the whole portfolio, the same at every weight.
    """

    epsilon: float | Array
    delta: float | Array
    runner_up: Policy | list[Policy] | None
    kind: Literal["candidates", "certificate", "portfolio"]
