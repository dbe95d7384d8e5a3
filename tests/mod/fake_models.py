"""Language models made of nothing: a seeded generator keyed on the prefix, and naive decoding."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch


class FakeModels:
    """d experts (and a reference) whose predictions depend on all tokens so far.

    Args:
        disagreement: the share of prefixes at which the experts have logits of their own;
            elsewhere they differ by little.
        digits: decimals that logits are rounded to, for ties; ``None`` for none.
        forbidden: the share of predictions that are −∞.
    """

    def __init__(
        self,
        n_experts=2,
        vocabulary=5,
        *,
        seed=0,
        disagreement=0.3,
        reference=False,
        digits=None,
        forbidden=0.0,
        spread=2.0,
        raw=False,
    ):
        self.n_experts, self.has_reference = n_experts, reference
        self.names = [f"model {i}" for i in range(n_experts)] + ["the reference"] * reference
        self.vocabulary, self.seed, self.disagreement = vocabulary, seed, disagreement
        self.digits, self.forbidden, self.spread, self.raw = digits, forbidden, spread, raw
        self.read = Counter()  # prefixes that the models ran on
        self.most_rows = 0
        self._known = {}

    def predict(self, prefix):
        """(d [+ 1], V) float32 log-probabilities of the next token."""
        prefix = tuple(prefix)
        if prefix not in self._known:
            self._known[prefix] = self._predict(prefix)
        return self._known[prefix]

    def _predict(self, prefix):
        random = np.random.default_rng([self.seed, *prefix])
        rows = self.n_experts + self.has_reference
        own = 1.0 if random.random() < self.disagreement else 0.05
        logits = random.normal(size=self.vocabulary) + own * random.normal(
            size=(rows, self.vocabulary)
        )
        logits *= self.spread
        if self.digits is not None:
            # Ties survive normalisation only if nothing is added that differs: raw logits.
            logits = np.round(logits, self.digits)
        logits[random.random(logits.shape) < self.forbidden] = -np.inf
        logits[:, 0] = np.where(np.isinf(logits).all(axis=1), 0.0, logits[:, 0])
        if not self.raw:
            with np.errstate(divide="ignore"):
                top = logits.max(axis=1, keepdims=True)
                logits = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return torch.from_numpy(logits.astype(np.float32))

    def start(self, prefixes):
        return _State(self, [tuple(prefix) for prefix in prefixes])


class _State:
    def __init__(self, models, prefixes):
        assert prefixes
        self._models, self._prefixes, self._used = models, prefixes, False
        models.read.update(prefixes)
        models.most_rows = max(models.most_rows, len(prefixes))
        self.log_probs = torch.stack([models.predict(prefix) for prefix in prefixes])

    def step(self, parents, tokens):
        assert not self._used, "a state that was used up"
        self._used = True
        pairs = zip(parents.tolist(), tokens.tolist(), strict=True)
        return _State(self._models, [(*self._prefixes[i], token) for i, token in pairs])


def decode_alone(models, prompt, weights, mixing, limits, *, number=0, noise=None):
    """One weight vector, one prompt, one token after another: (tokens, sums, ended, leads)."""
    from palm_mod.mixing import choose

    weights = torch.as_tensor(weights, dtype=torch.float64).unsqueeze(0)
    tokens, leads = (), []
    sums = torch.zeros(models.n_experts + models.has_reference, dtype=torch.float64)
    while True:
        step = models.predict((*prompt, *tokens))
        heard = step if noise is None else step + noise(number, tokens, "cpu")
        scores = mixing.scores(heard.unsqueeze(0), weights, sums.unsqueeze(0))
        token, lead = choose(scores)
        leads.append(lead.item())
        tokens = (*tokens, token.item())
        sums = sums + step[:, tokens[-1]].double()
        ended = tokens[-1] in limits.end_tokens or (
            limits.stop is not None and limits.stop(number, tokens)
        )
        full = len(tokens) >= limits.new_tokens or (
            limits.total is not None and len(prompt) + len(tokens) >= limits.total
        )
        if ended or full:
            return tokens, tuple(sums.tolist()), bool(ended), leads
