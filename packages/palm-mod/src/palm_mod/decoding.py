"""Decoding for an oracle: from weights to responses, their rewards, and policies.

Responses are identified by their tokens. Each distinct response is scored once and cached by
the oracle: weight vectors with equal responses cost no further reward calls.
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
from palm_eval import encode_prompts, score, write_responses
from palm_eval.plugin import Responder
from palm_mod.kl import Meter
from palm_mod.prefix_tree import Counts, Limits, WeightSplitter, grow
from palm_mod.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_eval import Prompts
    from palm_eval.plugin import RewardFunction
    from palm_mod.experts import Experts
    from palm_mod.mixing import Mixing
    from palm_mod.options import LanguageSettings

_log = logging.getLogger("palm_mod")

#: A response: the prompt's number and its tokens.
Key = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Response:
    """One response of a policy to one prompt.

    Args:
        tokens: including the end token.
        ended: whether it ended by itself; otherwise it was truncated.
        nats: its contribution to the KL divergence, 0 without a reference.
    """

    tokens: tuple[int, ...]
    ended: bool
    nats: float = 0.0


@dataclass
class Answering:
    """Scores responses and builds policies from them.

    Args:
        rewards: by objective.
        prompts: n prompts.
        decode: tokens of a response to its text.
        beta: β ≥ 0, of β·KL(π_w ‖ π_ref); 0 where there is no reference.
        cache: the folder of cached scores, see :func:`palm_eval.scoring.score`; or ``None``.
        artifact_dir: where responses are written; ``None`` outside a run.
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
        """Score responses that are not scored yet: (prompt's number, tokens), in any order.

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
        """The policy that produced ``responses``, with measured rewards and f.

        Args:
            weights: (d,) asked for.
            responses: by prompt, the scored responses, the same number for each prompt.
            kind: of oracle, the prefix of the policy's id.
            measured: how f was measured, in words.
            model: writes the deployable model into a folder; or ``None``.
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
        """A digest of the responses, for policy ids.

        f is measured in float32, whose last digits depend on the rest of the batch, and equal
        ids must have equal f. So the weights are hashed too where f is not 0.
        """
        content = repr([[one.tokens for one in several] for several in responses]).encode()
        if self.beta > 0:
            content += weights.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def _write(
        self, name: str, texts: Sequence[Sequence[str]], model: Callable[[Path], None] | None
    ) -> str | None:
        """Write the responses, and the model if there is one; return their path."""
        if self.artifact_dir is None:
            return None
        with write_artifact(self.artifact_dir, name) as folder:
            write_responses(folder, self.prompts.texts, texts, self.prompts.columns)
            if model is not None:
                model(folder)
        return name


# Seconds between two progress lines.
_EVERY = 30.0


@dataclass
class Loaded:
    """The loaded state of an oracle: models, encoded prompts, scoring.

    Args:
        experts: all of them, with the reference if there is one.
        tokens: of each decoded prompt.
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
    """Encode the prompts by the experts' tokenizer; set the length limits.

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
    """Decode all prompts: the responses by weight vector and prompt.

    Args:
        loaded: prompts and limits.
        experts: d experts, not necessarily those loaded (a soup is a single expert).
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
    print(cost_text(counts, k, len(prompts)), file=sys.stderr, flush=True)
    return found, counts


class _Progress:
    """Prints the progress of decoding at intervals; a worker's output goes to the run's log."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def __call__(self, counts: Counts, left: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            print(f"{counts.rows} rows run, {left} prefixes go on", file=sys.stderr, flush=True)


def cost_text(counts: Counts, k: int, prompts: int) -> str:
    """The cost of decoding k weight vectors, on one line."""
    saved = counts.alone / max(1, counts.rows)
    return (
        f"{k} weight vectors × {prompts} prompts: {counts.rows} rows run, {counts.alone} alone "
        f"({saved:.1f} times as many), {counts.read_again} read again; least lead of a token "
        f"over the next {counts.least_margin:.2g}"
    )
