"""Decoding for an oracle: from weight vectors to the responses of each, and what it cost."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_eval.language.prompts import encode_prompts
from palm_eval.language.texts import Responder
from palm_mod.answering import Answering, Response
from palm_mod.forest import Counts, Limits, grow
from palm_mod.kl import Meter
from palm_mod.sampling import Sampling
from palm_mod.splitters import WeightSplitter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from palm_mod.experts import Experts
    from palm_mod.mixing import Mixing
    from palm_mod.settings import LanguageSettings

_log = logging.getLogger("palm_mod")

# Seconds between two lines of progress.
_EVERY = 30.0


@dataclass
class Loaded:
    """What an oracle holds once it has loaded its models.

    Args:
        experts: all of them, and the reference where there is one.
        tokens: of each prompt that is decoded.
        limits: when a response ends.
        answering: scores responses.
        temperature, samples, seed: how responses are drawn.
    """

    experts: Experts
    tokens: tuple[tuple[int, ...], ...]
    limits: Limits
    answering: Answering
    temperature: float
    samples: int
    seed: int


def prepare(settings: LanguageSettings, experts: Experts) -> Loaded:
    """Put the prompts to the experts' tokenizer; see how much fits.

    Raises:
        InputError: a prompt that has no tokens, or too many.
    """
    total = min((n for n in (settings.total, experts.context) if n is not None), default=None)
    encoded = encode_prompts(experts.tokenizer, settings.asked.texts, settings.put, room=total)
    if encoded.dropped:
        _log.warning("%d prompts have another length and are dropped", len(encoded.dropped))
    responder = Responder(experts.tokenizer, settings.stop)
    longest = max(map(len, encoded.tokens)) + settings.new_tokens
    rows = settings.rows or experts.rows_that_fit(longest) or 64
    return Loaded(
        experts,
        encoded.tokens,
        Limits(
            end_tokens=experts.end_tokens,
            new_tokens=settings.new_tokens,
            total=total,
            rows=rows,
            stop=responder.stopped if responder.stops else None,
        ),
        Answering(
            settings.functions,
            settings.asked.chosen(encoded.kept),
            lambda tokens: responder.text(tokens).strip(),
            beta=settings.beta,
            cache=settings.cache,
            artifact_dir=settings.artifact_dir,
        ),
        settings.temperature,
        settings.samples,
        settings.run_seed,
    )


def decode(
    loaded: Loaded, experts: Experts, weights: NDArray[np.float64], mixing: Mixing
) -> tuple[list[list[list[Response]]], Counts]:
    """The responses of each weight vector: for each, for each prompt, those drawn.

    Args:
        loaded: prompts and limits.
        experts: d of them, which may be others than those loaded (a soup of them is one).
        weights: (k, d).
        mixing: how the experts are mixed.

    Raises:
        InputError, WorkError: as :func:`palm_mod.forest.grow` does.
    """
    k, samples = len(weights), loaded.samples
    drawn = Sampling(loaded.temperature, loaded.seed, samples)
    prompts, noise = drawn.noise(experts.vocabulary, loaded.tokens)
    members = [tuple(range(k))] * len(prompts)
    splitter = WeightSplitter(weights, mixing)
    measured = experts.has_reference and loaded.answering.beta > 0
    if noise is None:
        leaves, counts = grow(
            experts, prompts, members, splitter, loaded.limits, progress=_Progress()
        )
        meter = None
    else:
        meter = Meter(splitter, noise, loaded.temperature) if measured else None
        leaves, counts = grow(
            experts,
            prompts,
            members,
            splitter if meter is None else meter,
            loaded.limits,
            noise=noise if meter is None else meter.noise,
            progress=_Progress(),
        )
    found: list[list[list[Response]]] = [[[] for _ in loaded.tokens] for _ in range(k)]
    for leaf in sorted(leaves, key=lambda leaf: leaf.prompt):
        for member in leaf.members:
            nats = 0.0
            if meter is not None:
                nats = meter.nats(leaf.prompt, member)
            elif measured:
                nats = max(0.0, -leaf.log_probs[-1])
            response = Response(leaf.tokens, leaf.ended, nats)
            found[member][leaf.prompt // samples].append(response)
    print(told(counts, k, len(prompts)), file=sys.stderr, flush=True)
    return found, counts


class _Progress:
    """Prints how far decoding is, now and then: where a worker prints is the run's log."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def __call__(self, counts: Counts, left: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            print(f"{counts.rows} rows run, {left} prefixes go on", file=sys.stderr, flush=True)


def told(counts: Counts, k: int, prompts: int) -> str:
    """What decoding k weight vectors cost, on one line."""
    saved = counts.alone / max(1, counts.rows)
    return (
        f"{k} weight vectors × {prompts} prompts: {counts.rows} rows run, {counts.alone} alone "
        f"({saved:.1f} times as many), {counts.read_again} read again; least lead of a token "
        f"over the next {counts.least_margin:.2g}"
    )
