"""Per-objective normalisation, stored with every result.

The paper scores everything on rewards scaled to [0, 1] per objective (section 4;
appendix B.2 scales the KL-regularised rewards r_i − f). Normalising changes
the meaning of weights: with u_i → (u_i − a_i)/(b_i − a_i), a weight vector w in
normalised space prefers the same policies as w'_i ∝ w_i/(b_i − a_i) in raw space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from palm_core.errors import InputError
from palm_core.geometry.exact import Values, rounding_error, scaled
from palm_core.model.policy import PolicySet
from palm_core.validation import check_choice, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Objective i becomes (u_i − lower_i)/(upper_i − lower_i); weights are of those values.

    Args:
        method: ``"minmax"`` (each objective to [0, 1] over a set of policies)
            or ``"none"`` (lower 0, upper 1: the identity).
        lower: d values a_i, in units of objective i.
        upper: d values b_i > a_i.
        over: description of the set of policies that the limits were computed from.
    """

    #: Accepted values of ``method``.
    METHODS: ClassVar = ("minmax", "none")

    method: Annotated[
        Literal["minmax", "none"], Meta(description="none: values are as they were (0 and 1)")
    ]
    lower: Annotated[tuple[float, ...], Meta(description="d values, in units of each objective")]
    upper: Annotated[tuple[float, ...], Meta(description="d values above `lower`")]
    over: Annotated[str, Meta(description="the policies the limits were taken over, in words")] = ""

    @classmethod
    def none(cls, n_objectives: int) -> Normalization:
        """Return the identity map."""
        return cls(method="none", lower=(0.0,) * n_objectives, upper=(1.0,) * n_objectives)

    @classmethod
    def fit(cls, policies: PolicySet, method: str, *, over: str) -> Normalization:
        """Compute the limits of each objective's r_i − f over ``policies``.

        Raises:
            InputError: an unknown method, or an objective on which all policies
                score the same, so that there is nothing to scale by.
        """
        if method == "none":
            return cls.none(policies.n_objectives)
        check_choice(method, cls.METHODS, name="normalize")
        low = policies.vertex_values.min(axis=0)
        high = policies.vertex_values.max(axis=0)
        # Scaling by a spread of a few units in the last place would amplify
        # rounding errors.
        flat = high - low <= rounding_error(1) * np.maximum(np.abs(low), np.abs(high))
        if flat.any():
            index = int(np.argmax(flat))
            raise InputError(
                f"objective {policies.objectives[index]!r}: all values are {low[index]:g}, must "
                "differ for minmax; omit the objective"
            )
        return cls(method="minmax", lower=_floats(low), upper=_floats(high), over=over)

    @property
    def spread(self) -> NDArray[np.float64]:
        """(d,) upper − lower, in units of each objective."""
        return np.subtract(self.upper, self.lower)

    def apply(self, policies: PolicySet) -> PolicySet:
        """Return ``policies`` in normalised units; the regulariser is subtracted.

        A policy outside the set that the limits were computed from may lie
        outside [0, 1].

        Raises:
            InputError: a value that is not finite after scaling.
        """
        if self.method == "none":
            return policies
        # r − f rounded as for the limits, so that the lowest is exactly 0.
        folded = policies.exact is None and policies.regularizer.any()
        values = Values.of(policies.vertex_values) if folded else policies.values()
        rewards, exact = scaled(values, np.array(self.lower), np.array(self.upper))
        return PolicySet(
            rewards,
            names=policies.names,
            objectives=policies.objectives,
            exact=exact,
            order=values.order,
        )

    def raw_weights(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Convert weights in normalised space to equivalent weights of raw rewards.

        Args:
            weights: (d,) or (k, d) in normalised space.

        Returns:
            Array (k, d), w'_i ∝ w_i/(b_i − a_i): the weights to ask an oracle for,
            to be optimal in normalised space.

        Raises:
            InputError: weights that are not on the simplex.
        """
        scaled = check_weights(weights, len(self.lower)) / self.spread
        scaled /= scaled.sum(axis=1, keepdims=True)
        return check_weights(scaled)


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
