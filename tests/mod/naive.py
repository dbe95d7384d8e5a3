"""Multi-objective decoding as the paper states it: one prompt, one weight vector, no cache.

Nothing of palm_mod is used; scores are in float64, from each model's own forward pass over
the whole prefix. It is what the forest has to equal, token for token.
"""

from __future__ import annotations

import math

import torch

# Where two tokens' scores are nearer than that, float32 may prefer the other one.
NEAR_TIE = 1e-5


class Alone:
    """A model that reads one prefix at a time; what it said of a prefix is remembered."""

    def __init__(self, model, vocabulary: int) -> None:
        self.model, self.vocabulary, self.said = model.eval(), vocabulary, {}

    @torch.no_grad()
    def __call__(self, prefix: tuple[int, ...]) -> torch.Tensor:
        if prefix not in self.said:
            logits = self.model(input_ids=torch.tensor([prefix]), use_cache=False).logits
            row = logits[0, -1, : self.vocabulary].double()
            self.said[prefix] = row - torch.logsumexp(row, dim=0)
        return self.said[prefix]


def scores(sums, weights, divergence, alpha, reference):
    """(V,) from the log-probabilities (V,) of prefix and token under each expert."""
    pairs = [(w, a) for w, a in zip(weights, sums, strict=True) if w > 0]
    if divergence == "reverse-kl":
        return sum(w * a for w, a in pairs)
    if divergence in ("forward-kl", "alpha"):
        power = 1.0 if divergence == "forward-kl" else alpha
        terms = torch.stack([math.log(w) - power * a for w, a in pairs])
        return -torch.logsumexp(terms, dim=0) / power
    h = sum(w * torch.nn.functional.logsigmoid(a - reference) for w, a in pairs)
    return reference + h - torch.log(-torch.expm1(h))


def naive_decode(
    models,
    weights,
    prompt,
    *,
    end_tokens,
    new_tokens,
    total=None,
    divergence="reverse-kl",
    alpha=None,
    reference=None,
    stop=None,
):
    """Greedy decoding of one prompt for one weight vector.

    Args:
        models: d :class:`Alone`; ``reference`` another.

    Returns:
        The tokens; each token's lead over the next best; Σ of each expert's log-probability.
    """
    everyone = [*models, *([reference] if reference is not None else [])]
    tokens, leads, sums = [], [], [0.0] * len(everyone)
    while len(tokens) < new_tokens and (total is None or len(prompt) + len(tokens) < total):
        prefix = (*prompt, *tokens)
        after = [total_ + one(prefix) for total_, one in zip(sums, everyone, strict=True)]
        experts = after[: len(models)]
        score = scores(experts, weights, divergence, alpha, after[-1])
        best, second = torch.topk(score, 2).values.tolist()
        token = int(score.argmax())
        tokens.append(token)
        leads.append(best - second)
        sums = [float(one[token]) for one in after]
        if token in end_tokens or (stop is not None and stop(tokens)):
            break
    return tokens, leads, sums


def compare(found, wanted, leads) -> bool:
    """Whether both are the same; ``False`` where they part at a near tie.

    Raises:
        AssertionError: they part where there is no tie.
    """
    if list(found) == list(wanted):
        return True
    parted = next(
        place
        for place in range(max(len(found), len(wanted)))
        if place >= min(len(found), len(wanted)) or found[place] != wanted[place]
    )
    assert parted < len(leads), (found, wanted)
    assert leads[parted] < NEAR_TIE, (parted, leads[parted], found, wanted)
    return False
