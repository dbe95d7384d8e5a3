"""A guarantee for every weight against every policy, from the oracle calls made.

opt(w) = sup_π J_w(π) is convex. With opt(w_k) ≤ o_k at the weights asked, the vertices
of the simplex among them, opt lies below the lower convex hull U of the points
(w_k, o_k); the portfolio has L(w) = max_π J_w(π). Hence sup_w U − L bounds what the
portfolio loses to the best policy of the whole class, wherever that may be. No bound
on rewards, no sign and no smoothness is assumed; only what the oracle claims. Proofs
in docs/explanation/certificates.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palm_core.answers import Accuracy, Answers, clean_weights
from palm_core.errors import InputError
from palm_core.sandwich import Sandwich
from palm_core.subdivision import Subdivision
from palm_core.text import at_most

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import PolicySet

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

Method = Literal["auto", "corners", "subdivision"]
_METHODS = ("auto", "corners", "subdivision")
#: Corner weights and pieces of U that "auto" holds at once; with more, it divides simplices.
MOST_VERTICES = 250_000
#: Linear programs for each of the two gaps where simplices are divided.
MOST_PROGRAMS = 1000


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate:
    """L(w) ≥ opt(w) − ε·max(opt(w), 0) and L(w) ≥ opt(w) − δ at every w of the simplex.

    opt is the supremum over the whole policy class, not over evaluated policies.

    Args:
        epsilon: ε, the certified multiplicative gap; ∞ where ``note`` says why.
        delta: δ, the certified additive gap, in units of reward.
        epsilon_weights: (d,) where the multiplicative gap may be largest.
        delta_weights: (d,) where the additive gap may be largest.
        conditional_on: what it rests on beyond the evaluated rewards, in words; ``None``
            for an oracle that claims to be exact and that no answer speaks against.
        measured_slack: max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], how far an answer is
            behind another policy at its own weight; ``None`` if it is not known which
            policy answered which weight.
        refuted: the measured slack is more than the oracle claims, or, where it claims
            nothing, more than 0.
        n_weights: how many weights the oracle was asked for.
        method: "corners" or "subdivision".
        exact: no smaller pair follows from these answers; otherwise a budget was spent.
        note: why ``epsilon`` is infinite, else empty.
    """

    epsilon: float
    delta: float
    epsilon_weights: NDArray[np.float64]
    delta_weights: NDArray[np.float64]
    conditional_on: str | None = None
    measured_slack: float | None = None
    refuted: bool = False
    n_weights: int
    method: str
    exact: bool
    note: str = ""

    def __repr__(self) -> str:
        return (
            f"Certificate(epsilon={at_most(self.epsilon)}, delta={at_most(self.delta)}, "
            f"conditional_on={self.conditional_on!r})"
        )

    def __str__(self) -> str:
        share = "ε unbounded" if self.note else f"ε {at_most(100 * self.epsilon)} %"
        line = f"certified {share}  δ {at_most(self.delta)}"
        if not self.note and self.epsilon >= 1:
            line += "  (100 % promises nothing: only δ does)"
        if self.conditional_on is not None:
            line += f"  conditional on {self.conditional_on}"
            if self.measured_slack is not None and not self.refuted:
                line += f" (measured so far: {at_most(self.measured_slack)})"
        return line + (f"  ({self.note})" if self.note else "")


def certify(
    policies: PolicySet,
    weights: ArrayLike,
    *,
    portfolio: ArrayLike | None = None,
    oracle_epsilon: float | None = None,
    oracle_delta: float | None = None,
    evaluation_error: float = 0.0,
    answers: ArrayLike | None = None,
    method: Method = "auto",
) -> Certificate:
    """Bound the gap of a portfolio to the best policy there is, at every weight.

    With J_k the value of the answer at w_k (without ``answers``: of the best evaluated
    policy there) and x = J_k + δ_o, opt(w_k) ≤ o_k = x/(1 − ε_o) if x ≥ 0, else x. U is
    the lower convex hull of the points (w_k, o_k), L = max over the portfolio, and

        δ = sup_w U(w) − L(w),    ε = sup_w 1 − L(w)/U(w) where L ≥ 0 throughout.

    Both are the least that follow from the answers. If L < 0 somewhere, opt may be ≤ 0
    there, and ε = ∞ unless δ = 0. Losses below 2^−44 of the rewards' size are rounding.

    If another policy beats one of ``answers`` by more than the oracle claims, the claim
    is refuted: J_k is then that of the best evaluated policy, the certificate is
    conditional on that one being within (ε_o, δ_o), and says so.

    Args:
        policies: every policy that was evaluated, m of them.
        weights: (k, d) the weights the oracle was asked for, every vertex of the simplex
            among them; entries below 2^−52 are zero.
        portfolio: indices of the chosen policies; ``None`` means all.
        oracle_epsilon: ε_o of the oracle's claim, in [0, 1); ``None`` for no claim.
        oracle_delta: δ_o of the oracle's claim, in units of reward; ``None`` for no claim.
            Without both the certificate is conditional on exact answers.
        evaluation_error: bound on the error of every evaluated J_w(π), in units of reward.
        answers: (k,) index of the policy that was the answer at each weight.
        method: "corners" looks at all corner weights of L, "subdivision" divides the
            simplex by branch and bound; "auto" takes corners while there are at most
            250 000 of them and of pieces of U.

    Raises:
        InputError: a vertex that is missing, by name; indices or numbers out of range.

    Example:
        >>> from palm_core import PolicySet
        >>> policies = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
        >>> certify(policies, [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], oracle_epsilon=0)
        Certificate(epsilon=0.147, delta=0.12, conditional_on=None)
        >>> certify(policies, [[1.0, 0.0], [0.0, 1.0]], portfolio=[0, 1], oracle_epsilon=0)
        Certificate(epsilon=0.5, delta=0.5, conditional_on=None)
    """
    if method not in _METHODS:
        raise InputError(f"method = {method!r}: must be one of {', '.join(_METHODS)}")
    accuracy = Accuracy.of(oracle_epsilon, oracle_delta, evaluation_error)
    rows = clean_weights(weights, policies.n_objectives)
    chosen = _indices(portfolio, policies.n_policies, "portfolio")
    given = None if answers is None else _indices(answers, policies.n_policies, "answers")
    if given is not None and len(given) != len(rows):
        raise InputError(f"answers: {len(given)} given for {len(rows)} weights")
    known = Answers(accuracy, rows, policies.vertex_values, given)
    if known.missing:
        name = policies.objectives[known.missing[0]]
        raise InputError(
            f"weights: the vertex with weight 1 on {name!r} is missing; a certificate needs "
            "the answers at all vertices of the simplex"
        )
    values = policies.vertex_values[chosen]
    most = {"auto": MOST_VERTICES, "corners": math.inf, "subdivision": 0}[method]
    model: Sandwich | Subdivision | None = sandwich(known, values, most)
    model = subdivision(known, values) if model is None else model
    return certificate(known, model, MOST_PROGRAMS)


def sandwich(known: Answers, values: Array, most: float) -> Sandwich | None:
    """All corner weights of the policies ``values`` (m, d); ``None`` if more than ``most``."""
    d, order = known.weights.shape[1], known.order
    weights, bounds = known.weights[order], known.bounds[order]
    values = values - known.accuracy.error
    model = Sandwich(bounds[:d], values[0])
    for row, bound in zip(weights[d:], bounds[d:], strict=True):
        if model.n_vertices > most:
            return None
        model.add_bound(row, float(bound))
    for policy in values[1:]:
        if model.n_vertices > most:
            return None
        model.add_policy(policy)
    return model if model.n_vertices <= most else None


def subdivision(known: Answers, values: Array) -> Subdivision:
    """The model for corner weights that are too many."""
    order = known.order
    return Subdivision(known.weights[order], known.bounds[order], values - known.accuracy.error)


def certificate(known: Answers, model: Sandwich | Subdivision, programs: int) -> Certificate:
    """What ``model`` proves; a subdivision solves that many linear programs for each gap."""
    if isinstance(model, Sandwich):
        return _from_corners(known, model)
    return _from_subdivision(known, model, programs)


def _from_corners(known: Answers, model: Sandwich) -> Certificate:
    corners, loss, shares = model.corners, model.loss, model.shares
    worst = int(np.argmax(loss))
    place = int(np.argmax(shares))
    epsilon, note = float(shares[place]), ""
    if loss[worst] > 0 and model.negative.any():
        if epsilon < math.inf:
            place = int(np.argmin(model.lower))
        epsilon, note = math.inf, _BELOW_ZERO
    return Certificate(
        epsilon=epsilon,
        delta=float(loss[worst]),
        epsilon_weights=corners[place],
        delta_weights=corners[worst],
        method="corners",
        exact=True,
        note=note,
        **_summary(known),
    )


def _from_subdivision(known: Answers, model: Subdivision, programs: int) -> Certificate:
    additive = model.search(ratio=False, budget=programs)
    least, lowest = model.least_lower()
    if additive.bound > 0 and least < 0:
        epsilon, weights, note, exact = math.inf, lowest, _BELOW_ZERO, True
    else:
        share = model.search(ratio=True, budget=programs)
        epsilon, weights, note, exact = share.bound, share.weights, "", share.exact
    return Certificate(
        epsilon=epsilon,
        delta=additive.bound,
        epsilon_weights=weights,
        delta_weights=additive.weights,
        method="subdivision",
        exact=exact and additive.exact,
        note=note,
        **_summary(known),
    )


_BELOW_ZERO = (
    "the portfolio is below 0 at epsilon_weights, where the best may be too: no ε is certain; "
    "δ is, and ε would be of rewards scaled to be at least 0 by limits known beforehand"
)


def _summary(known: Answers) -> dict[str, Any]:
    return {
        "conditional_on": known.sentence,
        "measured_slack": known.slack,
        "refuted": known.refuted,
        "n_weights": len(known.weights),
    }


def _indices(given: ArrayLike | None, m: int, name: str) -> Places:
    if given is None:
        return np.arange(m)
    array = np.atleast_1d(np.asarray(given))
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise InputError(f"{name} = {given!r}: must be indices of policies, at least one")
    outside = (array < 0) | (array >= m)
    if outside.any():
        raise InputError(f"{name}: index {array[outside][0]} of {m} policies, counted from 0")
    return array.astype(np.intp)
