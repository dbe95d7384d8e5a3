"""Sampling by Gumbel noise that depends only on the seed, the prompt and the prefix.

Let G(t) be independent standard Gumbel values, −log(−log U). Then

    argmax_t score_w(t) + T·G(t)   is distributed as   softmax(score_w/T)

for each weight vector w: P(t wins) = ∫ e^(−g) e^(−e^(−g)·Σ_s e^((s_s − s_t)/T)) dg, with s
the scores, is e^(s_t/T) / Σ_s e^(s_s/T). Every score of :mod:`palm_mod.mixing` is a mean
that a constant added to all models' a_i(t) is simply added to; so T·G(t) is added to those,
and decoding is greedy again: prefixes are shared exactly, and regions of weights are too.

G is generated for each prefix by a counter-based generator (Philox), keyed by a BLAKE2 digest
of the seed, the prompt and the tokens so far. It is the same on any device, in any batch and
order, with or without a prefix tree. All weight vectors get the same G for the same prefix
(common random numbers): differences between them are due to the weights. Responses of one
weight vector to different prompts, or to different samples of one prompt, are independent.

top-k and top-p are refused (:class:`Sampling`): the likeliest tokens depend on w, and after
truncation the weights at which a token wins are no longer a polytope.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from palm_core import InputError
from palm_core.plugin import check_count, check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_LARGEST_SEED = 2**63 - 1


class GumbelNoise:
    """T·G for each prefix: the ``noise`` of :func:`palm_mod.prefix_tree.grow`.

    Args:
        seed: whole number from 0 to 2⁶³ − 1.
        vocabulary: V, the number of tokens.
        temperature: T > 0.
        keys: by prompt number, the key of its noise: its tokens and the sample's number,
            for example. ``None``: the prompt number itself.

    Raises:
        InputError: a seed, vocabulary or temperature that is not accepted.
    """

    def __init__(
        self,
        seed: int,
        vocabulary: int,
        temperature: float,
        keys: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.seed = _check_seed(seed)
        self.vocabulary = check_count(vocabulary, name="vocabulary", least=1)
        self.temperature = check_number(temperature, name="temperature", above=0.0)
        self._keys = keys

    def __call__(self, prompt: int, tokens: Sequence[int], device: Any = "cpu") -> Tensor:
        """T·G (V,) float32 at the prefix of ``tokens`` after the prompt of that number."""
        key = (prompt,) if self._keys is None else self._keys[prompt]
        words = np.array([self.seed, len(key), *key, *tokens], dtype="<i8")
        digest = blake2b(words.tobytes(), digest_size=16, person=b"palm-mod gumbel").digest()
        philox = np.random.Philox(key=int.from_bytes(digest, "little"))
        # Raw bits: NumPy guarantees their stability across versions, not that of numbers.
        bits = np.asarray(philox.random_raw(self.vocabulary), dtype=np.uint64)
        # Midpoints of 2^53 intervals: neither 0 nor 1.
        uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        noise = -self.temperature * np.log(-np.log(uniform))
        return torch.from_numpy(noise.astype(np.float32)).to(device)


@dataclass(frozen=True)
class Sampling:
    """Parameters of sampling.

    Args:
        temperature: T; 0 decodes greedily.
        seed: of the noise.
        samples: responses of each prompt; must be 1 for greedy decoding.
        top_k, top_p: unsupported, must be left out (see :mod:`palm_mod.sampling`).

    Raises:
        InputError: a value that is not accepted.
    """

    temperature: float = 0.0
    seed: int = 0
    samples: int = 1
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_number(self.temperature, name="temperature", least=0.0)
        _check_seed(self.seed)
        check_count(self.samples, name="samples", least=1)
        for name in ("top_k", "top_p"):
            value = getattr(self, name)
            if value is not None:
                raise InputError(
                    f"{name} = {value!r}: must be omitted, the most likely tokens depend on the "
                    "weights; use temperature"
                )
        if self.temperature == 0 and self.samples > 1:
            raise InputError(
                f"samples = {self.samples}: must be 1 with temperature = 0, which gives the same "
                "response each time"
            )

    def noise(
        self, vocabulary: int, prompts: Sequence[Sequence[int]]
    ) -> tuple[list[Sequence[int]], GumbelNoise | None]:
        """Repeat each prompt ``samples`` times; with the noise, ``None`` if greedy.

        Keyed by the prompt's tokens and the number of the sample.
        """
        repeated = [prompt for prompt in prompts for _ in range(self.samples)]
        if self.temperature == 0:
            return repeated, None
        keys = [(*prompt, sample) for prompt in prompts for sample in range(self.samples)]
        return repeated, GumbelNoise(self.seed, vocabulary, self.temperature, keys)


def _check_seed(seed: int) -> int:
    seed = check_count(seed, name="seed", least=0)
    if seed > _LARGEST_SEED:
        raise InputError(f"seed = {seed}: must be at most {_LARGEST_SEED}")
    return seed
