"""KL(π_w ‖ π_ref) along what is decoded: the regulariser f of the paper's objective.

π_w is the policy that decoding realises, whatever it was mixed for:

* *sampling* at temperature T picks the next token t with probability
  π_w(t | y) ∝ exp(score_w(y, t)/T). By the chain rule

      KL(π_w ‖ π_ref) = E_{y ∼ π_w} Σ_k KL(π_w(· | y_<k) ‖ π_ref(· | y_<k)),

  and :class:`Meter` adds the divergences of all steps of the responses that were drawn, each
  a sum over the whole vocabulary. So only y is sampled: no estimate of the same responses
  has a smaller variance (Rao–Blackwell), and it is never negative.
* *greedy* decoding is the limit T → 0: π_w is a point mass at one y, and

      KL(π_w ‖ π_ref) = −log π_ref(y | x), exactly.

  That is what a deterministic policy costs: it is larger than the divergence of the
  distribution that it is the mode of.

Both are of the responses as they were cut at their greatest length. In nats; π_ref is at
temperature 1.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from palm_mod.prefix_tree import WeightSplitter


class Meter:
    """Measures the divergence of each weight vector's policy while responses are sampled.

    Stands in for a splitter and its noise, both, so that it sees predictions before and
    after noise is added to them.

    Args:
        splitter: of the weight vectors; its members are their places.
        noise: of temperature ``temperature``, see :func:`palm_mod.prefix_tree.grow`.
        temperature: T > 0.
    """

    def __init__(
        self,
        splitter: WeightSplitter,
        noise: Callable[[int, Sequence[int], Any], Tensor],
        temperature: float,
    ) -> None:
        self._splitter, self._noise, self._temperature = splitter, noise, temperature
        self._shown: list[tuple[int, int, Tensor]] = []
        self._steps: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)

    def nats(self, prompt: int, member: int) -> float:
        """Σ_k KL at the k-th token of the response of weight vector ``member``."""
        return sum(self._steps[prompt, member].values())

    def noise(self, prompt: int, tokens: Sequence[int], device: Any) -> Tensor:
        """The noise, which is remembered until the next split."""
        added = self._noise(prompt, tokens, device)
        self._shown.append((prompt, len(tokens), added))
        return added

    def count(self, members: tuple[int, ...]) -> int:
        """See :class:`palm_mod.prefix_tree.Splitter`."""
        return self._splitter.count(members)

    def split(
        self, log_probs: Tensor, sums: Tensor, members: Sequence[tuple[int, ...]]
    ) -> list[list[tuple[int, tuple[int, ...], float]]]:
        """See :class:`palm_mod.prefix_tree.Splitter`; measures on the way."""
        # a step that ran out of memory is done again: the last ones are those that count
        shown, self._shown = self._shown[-len(members) :], []
        for row, ((prompt, place, added), group) in enumerate(zip(shown, members, strict=True)):
            plain = (log_probs[row] - added).unsqueeze(0)
            weights = self._splitter.weights[list(group)].to(plain.device)
            scores = self._splitter.mixing.scores(
                plain.expand(len(group), -1, -1), weights, sums[row].expand(len(group), -1)
            )
            divergence = kl((scores / self._temperature).log_softmax(dim=-1), plain[0, -1])
            for member, value in zip(group, divergence.tolist(), strict=True):
                # written, not added: a step that is done again counts once
                self._steps[prompt, member][place] = value
        return self._splitter.split(log_probs, sums, members)


def kl(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Σ_t p(t)·(log p(t) − log q(t)), 0 where p(t) = 0: (n, V), (V,) -> (n,) float64."""
    p = log_probs.double().exp()
    gained = log_probs.double() - reference.double()
    terms = torch.where(p > 0, p * gained, torch.zeros_like(p))
    return terms.sum(dim=-1).clamp(min=0.0)
