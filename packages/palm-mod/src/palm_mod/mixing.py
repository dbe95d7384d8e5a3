"""Mixing: how d experts and a weight vector make one score for every next token.

Experts π_i maximise one reward each under an f-divergence to a common reference. Then the
best policy for the weights w is, up to normalisation (Shi et al., NeurIPS 2024, section 4),

    π_w(y) = π_ref(y) · (∇f)⁻¹(−Z + Σ_i w_i ∇f(π_i(y)/π_ref(y))),

and decoding takes Z = 0 and, step by step, the token t that is best for the prefix with it.
With a_i = log π_i(prefix and t), normalised log-probabilities, this gives

==============  ============================  ========================================
divergence      f(x)                          score of t, π_ref cancelled where it does
==============  ============================  ========================================
reverse KL      x log x                       Σ_i w_i a_i
forward KL      −log x                        −log Σ_i w_i exp(−a_i)
α, 0 < α        (x^(1−α) − (1−α)x − α) /      −(1/α) log Σ_i w_i exp(−α a_i)
                (α(α−1))
Jensen–Shannon  x log x − (x+1) log((x+1)/2)  b + h − log(1 − e^h), with b = log π_ref and
                                              h = Σ_i w_i log σ(a_i − b)
==============  ============================  ========================================

Jensen–Shannon does not lose its reference; the published code takes it for reverse KL
without a word. All but it are increasing functions of something affine in w (``affine``):
the weights at which a token wins are a polytope, and decoding can be done for all weights.

Everything is in float32, element by element, so that a score does not depend on what else
is in the batch; of equal scores the lowest token wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from palm_core.errors import InputError
from palm_core.simplex import check_number

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["reverse-kl", "forward-kl", "alpha", "jensen-shannon"]
DIVERGENCES = ("reverse-kl", "forward-kl", "alpha", "jensen-shannon")


@dataclass(frozen=True)
class Mixing:
    """How the experts' predictions are mixed.

    Args:
        divergence: "reverse-kl", "forward-kl", "alpha" or "jensen-shannon".
        alpha: α > 0 of "alpha" (1 is forward KL, towards 0 it becomes reverse KL); must be
            ``None`` for the others.

    Raises:
        InputError: another divergence, or an α where it does not belong or is missing.
    """

    divergence: Divergence = "reverse-kl"
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise InputError(
                f"divergence = {self.divergence!r}: must be one of {', '.join(DIVERGENCES)}"
            )
        if self.divergence == "alpha":
            if self.alpha is None:
                raise InputError("alpha: missing, divergence 'alpha' needs it; must be above 0")
            check_number(self.alpha, name="alpha", above=0.0)
        elif self.alpha is not None:
            raise InputError(
                f"alpha = {self.alpha!r}: only divergence 'alpha' has one, not {self.divergence!r}"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether scores depend on the reference's probabilities."""
        return self.divergence == "jensen-shannon"

    @property
    def affine(self) -> bool:
        """Whether the order of tokens is that of functions affine in w."""
        return self.divergence != "jensen-shannon"

    @property
    def power(self) -> float:
        """α, with 1 for forward KL."""
        return 1.0 if self.alpha is None else float(self.alpha)

    def scores(self, totals: Tensor, weights: Tensor, reference: Tensor | None = None) -> Tensor:
        """The score of every next token, for pairs of a prefix and a weight vector.

        Args:
            totals: (n, d, V) a_i: log-probability of the prefix plus that of the token.
            weights: (n, d) on the simplex.
            reference: (n, V) b, where ``needs_reference``.

        Returns:
            (n, V) float32.
        """
        totals, weights = totals.float(), weights.float().unsqueeze(-1)
        if self.divergence == "reverse-kl":
            return _sum(_weighted(weights, totals))
        if self.divergence == "jensen-shannon":
            if reference is None:
                raise InputError("reference: missing, divergence 'jensen-shannon' needs it")
            reference = reference.float()
            ratio = torch.nn.functional.logsigmoid(totals - reference.unsqueeze(1))
            h = _sum(_weighted(weights, ratio))
            # log(1 − e^h); at h = 0 no weight is on an expert with less than certainty
            return reference + h - torch.log(-torch.expm1(h.clamp(max=-1e-38)))
        # −(1/α)·log Σ_i w_i·exp(−α·a_i); an expert with w_i = 0 is not there at all
        terms = torch.log(weights) - self.power * totals
        terms = torch.where(weights > 0, terms, torch.full_like(terms, -torch.inf))
        return -_log_sum_exp(terms) / self.power

    def features(self, totals: Tensor) -> Tensor:
        """What scores are increasing functions of: Σ_i w_i·features_i (``affine`` only).

        Args:
            totals: (d, V) or (n, d, V) a_i.

        Returns:
            The same shape, float64; for forward KL and α scaled by a factor that is the same
            for all tokens and weights, which changes no order.
        """
        if not self.affine:
            raise InputError(f"divergence {self.divergence!r}: its scores are not affine in w")
        totals = totals.double()
        if self.divergence == "reverse-kl":
            return totals
        exponents = -self.power * totals
        # The best token's worst expert has exponent 0; what lies far above loses anyway.
        least = exponents.amax(dim=-2, keepdim=True).amin(dim=-1, keepdim=True)
        return -torch.exp((exponents - least).clamp(max=600.0))


def choose(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row, the lowest of equal ones, and its lead over the next.

    Args:
        scores: (n, V) with V ≥ 1; −∞ is allowed, NaN is not.

    Returns:
        (n,) tokens; (n,) margins ≥ 0, ∞ where there is no other token.
    """
    size = scores.shape[-1]
    best = scores.amax(dim=-1, keepdim=True)
    places = torch.arange(size, device=scores.device)
    tokens = torch.where(scores == best, places, size).amin(dim=-1)
    others = scores.scatter(-1, tokens.unsqueeze(-1), -torch.inf)
    margins = (best.squeeze(-1) - others.amax(dim=-1)).nan_to_num(nan=0.0, posinf=torch.inf)
    return tokens, margins


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """w_i·x_i with 0·(−∞) = 0: an expert without weight forbids nothing."""
    return torch.where(weights > 0, weights * values, torch.zeros_like(values))


def _sum(terms: Tensor) -> Tensor:
    """Σ over dim 1, one after another: the same bits whatever the batch."""
    total = terms[:, 0]
    for i in range(1, terms.shape[1]):
        total = total + terms[:, i]
    return total


def _log_sum_exp(terms: Tensor) -> Tensor:
    """log Σ exp over dim 1, one after another."""
    largest = terms.amax(dim=1)
    safe = torch.where(torch.isfinite(largest), largest, torch.zeros_like(largest))
    return torch.log(_sum(torch.exp(terms - safe.unsqueeze(1)))) + safe
