"""Mixing: the score of every next token, from d experts and a weight vector.

Expert π_i maximises its own reward, E_π[r_i] − β·E_ref[f(π/π_ref)]. Where f is a barrier
(f′ → −∞ at 0), that makes r_i = β·f′(π_i/π_ref) + constant, and the best policy for Σ_i w_i r_i is

    π_w(y) = π_ref(y) · (f′)⁻¹(−Z + Σ_i w_i f′(π_i(y)/π_ref(y))),   with Z so that Σ_y π_w(y) = 1

(Shi et al., Decoding-Time Language Model Alignment with Multiple Objectives, NeurIPS 2024,
arXiv:2406.18853). Decoding takes Z = 0 and token by token what is best for the prefix with
it. Let a_i = log π_i and b = log π_ref of the prefix with token t; the logarithm of that is

==============  ================================  ======================================
divergence      f(x)                              score of t, Z = 0
==============  ================================  ======================================
reverse KL      x log x                           Σ_i w_i a_i
forward KL      −log x                            −log Σ_i w_i e^(−a_i)
α > 0           (x^(1−α) − (1−α)x − α)/(α(α−1))   −(1/α) log Σ_i w_i e^(−α a_i)
Jensen–Shannon  x log x − (x+1) log((x+1)/2)      b − log(Π_i (1 + e^(b − a_i))^w_i − 1)
==============  ================================  ======================================

α = 1 is forward KL, α → 0 reverse KL. Jensen–Shannon keeps its reference; the published
code decodes it as if it were reverse KL (:class:`PublishedMixing`).

Properties and limits:

* Z = 0 keeps the order of whole responses for reverse KL, where e^−Z is a common factor. For
  forward KL and α, π_w^−α = αZ·π_ref^−α + Σ_i w_i π_i^−α with Z ≤ 0, zero only where the
  experts agree: the order is that of π_w at the vertices of the simplex, elsewhere only
  approximately, and likewise for Jensen–Shannon.
* Greedy decoding by the best token need not find the best response, for any divergence: the
  probability under π_w of the continuation is left out. Nor does sampling token by token
  sample from π_w, unless the experts agree on the continuation.

So a decoded response need not be the best for its weights; its rewards are measured.

A score is a mean of the a_i: it increases in each (and in b), and adding a constant to all
adds it to the score. All but Jensen–Shannon's are increasing functions of something affine
in w (``affine``): the weights at which a token wins are a polytope, and decoding can be done
for all weights at once (:mod:`palm_mod.regions`).

Scores are float32, computed element by element, so that none depends on the rest of the batch;
of equal scores the lowest token wins. An expert with w_i = 0 has no effect; a token that an
expert with w_i > 0, or the reference of Jensen–Shannon, forbids (a_i = −∞) has score −∞.

The arithmetic of the code published with MOD is :class:`PublishedMixing`. ``f_value`` and
``greedy_search`` of the authors' repository (srzer/MOD, experiment-DPO) decode like
:class:`Mixing`, but for four things:

* a_i is made of *raw logits* l_i, not of log-probabilities: s_i = Σ over the prefix of the
  logits of its tokens, plus the next one's. With l_i = log π_i + c_i(prefix) the constants
  c_i cancel between tokens for reverse KL only. For forward KL and α they act like
  weights w_i·e^(−α·Σ c_i), unintended and drifting along the prefix.
* Jensen–Shannon ("jsd") is decoded as reverse KL.
* The reference runs at every step and is not used.
* α's score lacks the factor 1/α, which changes no order (included here, so that margins are
  comparable).

Two tokens, w = (0.5, 0.5), forward KL. Expert 1's logits are (6, 5), expert 2's (0, 2):

* as published, −log(½e^−6 + ½e^−0) = 0.69 and −log(½e^−5 + ½e^−2) = 2.64: token 1;
* with 10 added to both of expert 2's logits, which is the same model, 6.68 and 5.69: token 0;
* with log-probabilities, (−0.31, −1.31) and (−2.13, −0.13) whatever is added,
  −log(½e^0.31 + ½e^2.13) = −1.58 and −log(½e^1.31 + ½e^0.13) = −0.89: token 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from palm_core import InputError
from palm_core.plugin import check_choice, check_number

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["reverse-kl", "forward-kl", "alpha", "jensen-shannon"]
DIVERGENCES = ("reverse-kl", "forward-kl", "alpha", "jensen-shannon")

# With a smaller α, float32 cannot represent log Σ w_i e^(−α a_i).
_SMALL_POWER = 0.05
# Below e^−15, log(1 + x) = x and e^x − 1 = x in float32.
_TINY = -15.0
# Cap of the features, relative to the best: larger ones lose wherever w_i > e^−100.
_HOPELESS = 100.0


@dataclass(frozen=True)
class Mixing:
    """Mixing of the experts' predictions (formulas: :mod:`palm_mod.mixing`).

    Args:
        divergence: "reverse-kl", "forward-kl", "alpha" or "jensen-shannon".
        alpha: α > 0 of "alpha"; must be ``None`` for the others.

    Raises:
        InputError: an unknown divergence, or an α that is missing or not applicable.

    Example:
        >>> step = torch.tensor([[[-0.1, -2.4], [-3.0, -0.05]]])  # n = 1, d = 2, V = 2
        >>> Mixing().scores(step, torch.tensor([[0.5, 0.5]]))
        tensor([[-1.5500, -1.2250]])
    """

    divergence: Divergence = "reverse-kl"
    alpha: float | None = None

    #: Whether scores are made of raw logits in place of log-probabilities.
    raw_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice(self.divergence, DIVERGENCES, name="divergence")
        if self.divergence == "alpha":
            if self.alpha is None:
                raise InputError("alpha: missing, divergence 'alpha' needs it; must be above 0")
            check_number(self.alpha, name="alpha", above=0.0)
        elif self.alpha is not None:
            raise InputError(
                f"alpha = {self.alpha!r}: requires divergence = 'alpha', it is {self.divergence!r}"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether scores depend on the reference's probabilities."""
        return self.divergence == "jensen-shannon"

    @property
    def affine(self) -> bool:
        """Whether tokens are ordered by functions affine in w."""
        return not self.needs_reference

    @property
    def power(self) -> float:
        """α, with 1 for forward KL and 0 for reverse KL."""
        if self.divergence == "alpha" and self.alpha is not None:
            return float(self.alpha)
        return 1.0 if self.divergence == "forward-kl" else 0.0

    def scores(self, log_probs: Tensor, weights: Tensor, sums: Tensor | None = None) -> Tensor:
        """The score of every next token, less a constant for each row, for pairs (prefix, w).

        a_i = ``sums``_i + ``log_probs``_i. The sums' common part is subtracted, in float64, so
        that a long prefix costs no precision; without sums, nothing is subtracted.

        Args:
            log_probs: (n, d, V) log-probabilities of the next token; where there is a
                reference, it is the last of d + 1.
            weights: (n, d) on the simplex.
            sums: (n, d) or (n, d + 1) log-probabilities of the prefix, or ``None`` for 0.

        Returns:
            (n, V) float32, −∞ for forbidden tokens.

        Raises:
            InputError: the divergence needs a reference and there is none.
        """
        n, d = weights.shape
        if self.needs_reference and log_probs.shape[1] == d:
            raise InputError(f"reference: missing, divergence {self.divergence!r} needs it")
        steps = log_probs.float().unbind(dim=1)
        weights = weights.to(steps[0].device)
        if self.power == 0 and not self.needs_reference:
            # Σ_i w_i·sums_i is the same for all tokens.
            return _sum([_weighted(weights[:, i].float(), steps[i]) for i in range(d)])
        if sums is None:
            sums = torch.zeros(n, log_probs.shape[1])
        sums = sums.to(weights.device, torch.float64)
        if self.needs_reference:
            return _jensen_shannon(steps, weights, sums)
        # Sums relative to the expert with the largest weight, which loses no precision.
        logs, before = weights.double().log(), sums[:, :d]
        counts = torch.where(weights > 0, logs - self.power * before, -torch.inf)
        before = before - before.gather(1, counts.argmax(dim=1, keepdim=True))
        offsets = (logs - self.power * before).nan_to_num(torch.inf, torch.inf, -torch.inf)
        offsets = torch.where(weights > 0, offsets, -torch.inf)
        kind = torch.float64 if self.power < _SMALL_POWER else torch.float32
        terms = []
        for i in range(d):
            offset = offsets[:, i, None].to(kind)
            term = offset - self.power * steps[i].to(kind)
            # −∞ + ∞: the expert has no weight, so it forbids nothing
            terms.append(torch.where(offset == -torch.inf, offset, term))
        return (-_log_sum_exp(terms) / self.power).float()

    def features(self, log_probs: Tensor, sums: Tensor | None = None) -> Tensor:
        """Features whose sum Σ_i w_i·features_i, affine in w, orders tokens as scores do.

        Args:
            log_probs: (n, d, V), see :meth:`scores`; without the reference.
            sums: (n, d), or ``None`` for 0.

        Returns:
            (n, d, V) float64. Reverse KL: the log-probabilities. Forward KL and α:
            −e^(−α a_i), scaled alike for all tokens of a row and capped at e^100 times that
            of the best token: tokens at the cap lose unless w_i < e^−100. −∞ for tokens
            that an expert forbids.

        Raises:
            InputError: the divergence is not ``affine``.
        """
        if not self.affine:
            raise InputError(f"divergence = {self.divergence!r}: its scores are not affine in w")
        values = log_probs.double()
        if self.power == 0:
            return values
        if sums is not None:
            values = values + sums.to(values.device, torch.float64).unsqueeze(-1)
        exponents = -self.power * values
        # The best token's worst expert has exponent 0.
        least = exponents.amax(dim=1, keepdim=True).amin(dim=-1, keepdim=True)
        least = torch.where(least.isfinite(), least, 0.0)
        scaled = -torch.exp((exponents - least).clamp(max=_HOPELESS))
        return torch.where(exponents == torch.inf, -torch.inf, scaled)


def choose(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row, the lowest of equal ones, and its margin over the next.

    Args:
        scores: (n, V) with V ≥ 1; −∞ is allowed, NaN is not.

    Returns:
        (n,) tokens; (n,) margins ≥ 0, ∞ where there is no other token.
    """
    size = scores.shape[-1]
    best = scores.amax(dim=-1, keepdim=True)
    places = torch.arange(size, device=scores.device, dtype=torch.int32)
    tokens = torch.where(scores == best, places, size).amin(dim=-1).long()
    others = scores.scatter(-1, tokens.unsqueeze(-1), -torch.inf)
    margins = (best.squeeze(-1) - others.amax(dim=-1)).nan_to_num(nan=0.0, posinf=torch.inf)
    return tokens, margins


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """w·x with 0·(−∞) = 0: (n,), (n, V)."""
    weights = weights.unsqueeze(-1)
    return torch.where(weights > 0, weights * values, 0.0)


def _sum(terms: list[Tensor]) -> Tensor:
    """Sum sequentially: the same bits for any batch."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _log_sum_exp(terms: list[Tensor]) -> Tensor:
    """Logarithm of Σ exp, summed sequentially; ∞ where any term is ∞, −∞ where all are −∞."""
    largest = terms[0]
    for term in terms[1:]:
        largest = torch.maximum(largest, term)
    safe = torch.where(largest.isfinite(), largest, 0.0)
    return torch.log(_sum([torch.exp(term - safe) for term in terms])) + safe


def _jensen_shannon(steps: tuple[Tensor, ...], weights: Tensor, sums: Tensor) -> Tensor:
    """Scores b − log(e^g − 1), g = Σ_i w_i log(1 + e^(b − a_i)); where g is tiny, by log g."""
    # log1p, exp, log and expm1 give the same bits at any place of a tensor; softplus does not.
    d = weights.shape[1]
    reference = steps[d]
    parts, logs = [], []
    for i in range(d):
        weight = weights[:, i].float()
        ahead = (sums[:, i] - sums[:, d]).float().unsqueeze(-1) + (steps[i] - reference)
        part = torch.log1p(torch.exp(-ahead.abs())) + (-ahead).clamp(min=0.0)
        log = torch.where(ahead > -_TINY, -ahead, torch.log(part)) + weight.log().unsqueeze(-1)
        parts.append(_weighted(weight, part))
        logs.append(torch.where(weight.unsqueeze(-1) > 0, log, -torch.inf))
    g, log_g = _sum(parts), _log_sum_exp(logs)
    found = reference - torch.where(log_g < _TINY, log_g, g + torch.log(-torch.expm1(-g)))
    # E_ref[f(π/π_ref)] is undefined for a π that gives tokens which π_ref forbids.
    forbidden = (reference == -torch.inf) | (sums[:, d, None] == -torch.inf)
    return torch.where(forbidden, -torch.inf, found)


@dataclass(frozen=True)
class PublishedMixing(Mixing):
    """Mixing as the published code does it, on raw logits (see :mod:`palm_mod.mixing`).

    A replacement for :class:`palm_mod.mixing.Mixing` with the same arguments; ``log_probs``
    are the models' raw logits, and ``sums`` their sums. Ties go to the lowest token and the
    arithmetic is float32, where the published code leaves ties open and takes the models'
    dtype.
    """

    raw_logits: ClassVar[bool] = True

    @property
    def needs_reference(self) -> bool:
        """Never: even Jensen–Shannon is decoded without it."""
        return False
