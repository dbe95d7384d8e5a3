"""Results with proofs: gaps and certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_core.validation import bound_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    """Exact gaps of a portfolio, and the weights that attain them.

    Args:
        epsilon: least ε ≥ 0 with L(w) ≥ opt(w) − ε·max(opt(w), 0) for all w.
        delta: sup_w opt(w) − L(w), in units of reward.
        epsilon_weights: (d,) a weight vector at which no smaller ε would do.
        delta_weights: (d,) a weight vector at which opt − L = delta.
        note: why ``epsilon`` is above 1, else empty.
    """

    epsilon: float
    delta: float
    epsilon_weights: NDArray[np.float64]
    delta_weights: NDArray[np.float64]
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate:
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
            f"Certificate(epsilon={bound_text(self.epsilon)}, delta={bound_text(self.delta)}, "
            f"conditional_on={self.conditional_on!r})"
        )

    def __str__(self) -> str:
        share = "ε unbounded" if self.note else f"ε {bound_text(self.epsilon, percent=True)} %"
        line = f"certified {share}  δ {bound_text(self.delta)}"
        if not self.note and self.epsilon >= 1:
            line += "  (100 % promises nothing: only δ does)"
        if self.conditional_on is not None:
            line += f"  conditional on {self.conditional_on}"
            if self.measured_slack is not None and not self.refuted:
                line += f" (measured so far: {bound_text(self.measured_slack)})"
        return line + (f"  ({self.note})" if self.note else "")
