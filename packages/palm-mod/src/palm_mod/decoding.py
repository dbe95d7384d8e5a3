"""Decoding for an oracle: from weights to responses, their rewards, and policies.

Responses are told apart by their tokens. Each different one is scored once, whoever gives it,
and an oracle remembers it: weight vectors that agree cost no reward.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from palm_core import Policy
from palm_core.plugin import weight_id, write_artifact
from palm_eval.lm.causal_models import Responder
from palm_eval.lm.prompts import encode_prompts
from palm_eval.responses import write_responses
from palm_eval.scoring import score
from palm_mod.kl import Meter
from palm_mod.prefix_tree import Counts, Limits, WeightSplitter, grow
from palm_mod.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_eval.lm.prompts import Prompts
    from palm_eval.rewards.base import RewardFunction
    from palm_mod.experts import Experts
    from palm_mod.mixing import Mixing
    from palm_mod.options import LanguageSettings

_log = logging.getLogger("palm_mod")

#: A response: the prompt's number and its tokens.
Key = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Response:
    """What a policy answers to one prompt, once.

    Args:
        tokens: with what ended it.
        ended: by itself; otherwise its length was the limit.
        nats: KL to the reference that it contributes, 0 without a reference.
    """

    tokens: tuple[int, ...]
    ended: bool
    nats: float = 0.0


@dataclass
class Answering:
    """Scores responses and makes policies of them.

    Args:
        rewards: by objective.
        prompts: n prompts.
        decode: tokens of a response to its text.
        beta: β ≥ 0, of β·KL(π_w ‖ π_ref); 0 where there is no reference.
        cache: a folder for scores, see :func:`palm_eval.scoring.score`; or ``None``.
        artifact_dir: where responses are written; ``None`` where nothing is built.
    """

    rewards: Mapping[str, RewardFunction]
    prompts: Prompts
    decode: Callable[[Sequence[int]], str]
    beta: float = 0.0
    cache: Path | None = None
    artifact_dir: Path | None = None
    _texts: dict[Key, str] = field(default_factory=dict, repr=False)
    _scores: dict[tuple[int, str], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def score(self, responses: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """Score what is not known yet: (prompt's number, tokens), in any order.

        Raises:
            InputError, WorkError: as :func:`palm_eval.scoring.score` does.
        """
        fresh: dict[int, dict[str, None]] = {}
        for prompt, tokens in responses:
            key = (prompt, tuple(tokens))
            if key not in self._texts:
                self._texts[key] = self.decode(tokens)
            if (prompt, self._texts[key]) not in self._scores:
                fresh.setdefault(prompt, {})[self._texts[key]] = None
        if not fresh:
            return
        numbers = sorted(fresh)
        prompts = self.prompts.chosen(numbers)
        found = score(
            self.rewards,
            prompts.texts,
            [list(fresh[prompt]) for prompt in numbers],
            columns=prompts.columns,
            cache=self.cache,
        )
        for prompt, rewards in zip(numbers, found.per_completion, strict=True):
            for text, row in zip(fresh[prompt], rewards, strict=True):
                self._scores[prompt, text] = row
        _log.info("scored %d different responses", sum(map(len, fresh.values())))

    def text_of(self, prompt: int, tokens: Sequence[int]) -> str:
        """The text of a response that was scored."""
        return self._texts[prompt, tuple(tokens)]

    def rewards_of(self, prompt: int, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The rewards (d,) of a response that was scored."""
        return self._scores[prompt, self.text_of(prompt, tokens)]

    def policy(
        self,
        weights: NDArray[np.float64],
        responses: Sequence[Sequence[Response]],
        *,
        kind: str,
        measured: str = "0: no reference is given",
        model: Callable[[Path], None] | None = None,
    ) -> Policy:
        """The policy that gives ``responses``, measured.

        Args:
            weights: (d,) asked for.
            responses: for each prompt those that were drawn, as many for all; scored.
            kind: of oracle, the beginning of the policy's id.
            measured: how f was, in words.
            model: writes what can be deployed into a folder; or ``None``.
        """
        texts = [
            [self._texts[prompt, one.tokens] for one in several]
            for prompt, several in enumerate(responses)
        ]
        per_prompt = np.array(
            [
                np.mean([self._scores[prompt, text] for text in several], axis=0)
                for prompt, several in enumerate(texts)
            ]
        )
        n = len(per_prompt)
        per_prompt_f = self.beta * np.array(
            [np.mean([one.nats for one in several]) for several in responses]
        )
        errors = per_prompt.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else None
        drawn = [one for several in responses for one in several]
        return Policy(
            id=f"{kind}-{self._digest(responses, weights)}",
            weights=weights,
            rewards=per_prompt.mean(axis=0),
            regularizer=float(per_prompt_f.mean()),
            reward_errors=errors,
            prompt_rewards=per_prompt,
            prompt_regularizer=per_prompt_f if self.beta > 0 else None,
            artifact=self._write(weight_id(weights), texts, model),
            info={
                "oracle": kind,
                "regularizer": measured,
                "tokens": sum(len(one.tokens) for one in drawn),
                "cut_off": sum(not one.ended for one in drawn),
            },
        )

    def _digest(self, responses: Sequence[Sequence[Response]], weights: NDArray[np.float64]) -> str:
        """A name for the responses, whoever gives them.

        f is measured in float32, whose last digits depend on what else is in a batch; and
        the same name must have the same f. So where f counts, the weights are in it too.
        """
        told = repr([[one.tokens for one in several] for several in responses]).encode()
        if self.beta > 0:
            told += weights.tobytes()
        return hashlib.sha256(told).hexdigest()[:16]

    def _write(
        self, name: str, texts: Sequence[Sequence[str]], model: Callable[[Path], None] | None
    ) -> str | None:
        """Write the responses, and the model where there is one; return their place."""
        if self.artifact_dir is None:
            return None
        with write_artifact(self.artifact_dir, name) as folder:
            write_responses(folder, self.prompts.texts, texts, self.prompts.columns)
            if model is not None:
                model(folder)
        return name


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
        InputError, WorkError: as :func:`palm_mod.prefix_tree.grow` does.
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
