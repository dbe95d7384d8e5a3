"""From responses to policies: what `mod` and `soup` share.

Responses are told apart by their tokens. Each different one is scored once, whoever gives it,
and an oracle remembers it: weight vectors that agree cost no reward.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from palm_core import Policy
from palm_core.artifacts import writing
from palm_core.oracle import weight_id
from palm_eval.responses import write_responses
from palm_eval.scoring import score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_eval.language.prompt_files import Prompts
    from palm_eval.rewards.base import RewardFunction

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
        with writing(self.artifact_dir, name) as folder:
            write_responses(folder, self.prompts.texts, texts, self.prompts.columns)
            if model is not None:
                model(folder)
        return name
