"""KL(π_w ‖ π_ref) of decoded responses: the regulariser f of the paper's objective.

π_w is the policy that decoding realises:

* *sampling* at temperature T picks the next token t with probability
  π_w(t | y) ∝ exp(score_w(y, t)/T). By the chain rule

      KL(π_w ‖ π_ref) = E_{y ∼ π_w} Σ_k KL(π_w(· | y_<k) ‖ π_ref(· | y_<k)),

  and :class:`Meter` sums the KL divergences of all steps of the sampled responses, each over
  the whole vocabulary. So only y is sampled: no estimate from the same responses has a
  smaller variance (Rao–Blackwell), and it is never negative.
* *greedy* decoding is the limit T → 0: π_w is a point mass at one y, and

      KL(π_w ‖ π_ref) = −log π_ref(y | x), exactly.

  This is the KL divergence of a deterministic policy; it is larger than that of the
  distribution of which the policy is the mode.

Both are of responses truncated at the length limit, in nats; π_ref is at temperature 1.
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
    """Measures the KL divergence of each weight vector's policy while responses are sampled.

    Wraps both a splitter and its noise, so that it sees predictions before and after noise is
    added to them.

    Args:
        splitter: of the weight vectors; its members are their indices.
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
        """The noise, stored until the next split."""
        added = self._noise(prompt, tokens, device)
        self._shown.append((prompt, len(tokens), added))
        return added

    def count(self, members: tuple[int, ...]) -> int:
        """See :class:`palm_mod.prefix_tree.Splitter`."""
        return self._splitter.count(members)

    def split(
        self, log_probs: Tensor, sums: Tensor, members: Sequence[tuple[int, ...]]
    ) -> list[list[tuple[int, tuple[int, ...], float]]]:
        """See :class:`palm_mod.prefix_tree.Splitter`; also measures the KL divergence."""
        # a step that ran out of memory is repeated: the last noise applies
        shown, self._shown = self._shown[-len(members) :], []
        for row, ((prompt, place, added), group) in enumerate(zip(shown, members, strict=True)):
            plain = (log_probs[row] - added).unsqueeze(0)
            weights = self._splitter.weights[list(group)].to(plain.device)
            scores = self._splitter.mixing.scores(
                plain.expand(len(group), -1, -1), weights, sums[row].expand(len(group), -1)
            )
            divergence = kl((scores / self._temperature).log_softmax(dim=-1), plain[0, -1])
            for member, value in zip(group, divergence.tolist(), strict=True):
                # assigned, not added: a repeated step counts once
                self._steps[prompt, member][place] = value
        return self._splitter.split(log_probs, sums, members)


def kl(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Σ_t p(t)·(log p(t) − log q(t)), 0 where p(t) = 0: (n, V), (V,) -> (n,) float64."""
    p = log_probs.double().exp()
    gained = log_probs.double() - reference.double()
    terms = torch.where(p > 0, p * gained, torch.zeros_like(p))
    return terms.sum(dim=-1).clamp(min=0.0)
