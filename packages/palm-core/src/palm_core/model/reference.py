"""What a portfolio is measured against at a weight vector, and what it loses there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from palm_core.errors import InputError
from palm_core.geometry.envelope import envelope_values
from palm_core.geometry.exact import rounding_error
from palm_core.model.encoding import Matrix, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.model.policy import Policy, PolicySet

    Array = NDArray[np.float64]

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
            raise InputError(f"reference: names: {len(self.names)} given for {p} values")

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
