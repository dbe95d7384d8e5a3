"""Measuring a policy: sampled responses, their rewards as in training, and KL to π_ref.

Separate from the trainer's log: prompts and random numbers are the same for all policies of a
run, the temperature is that of training. Policies of a run can be measured again on more
prompts, without training.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from palm_core import InputError
from palm_core.plugin import check_count
from palm_trl.inference import divergences, draw, load_base, loaded_policy, wanted_of
from palm_trl.measurement import Measurement, policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from palm_core import Policy
    from palm_eval import Prompts
    from palm_eval.plugin import Encoded
    from palm_trl.inference import Base
    from palm_trl.options import GrpoSettings

__all__ = ["Measurement", "encoded_for", "measure", "remeasured"]
_log = logging.getLogger("palm_trl")
#: Maximum difference of the two KL estimates in standard errors, and its minimum of prompts.
_APART, _ENOUGH = 4.0, 10


def measure(
    settings: GrpoSettings,
    policy: Path | None,
    prompts: Prompts | None = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    base: Base | None = None,
) -> Measurement:
    """Sample G responses to each prompt; compute their rewards and KL to π_ref.

    Args:
        settings: of sampling and rewards; an oracle is a subclass of its settings.
        policy: a folder with an adapter or a full model; ``None`` for π_ref itself.
        prompts: by default the evaluation prompts.
        samples: G, by default that of the settings.
        seed: of sampling; by default the run's, the same for all its policies.
        base: π_ref, if it is loaded already.

    Raises:
        InputError: the model, policy, prompts or a reward is invalid.
        WorkError: not enough memory, a reward that failed, or a KL that is not finite.
    """
    count = settings.samples if samples is None else check_count(samples, name="samples", least=1)
    chosen = settings.run_seed if seed is None else check_count(seed, name="seed", least=0)
    given = settings.evaluation_prompts if prompts is None else prompts
    base = load_base(settings) if base is None else base
    encoded = encoded_for(settings, base.tokenizer, base.context, given)
    new_tokens = int(settings.new_tokens or 0)
    wanted = wanted_of(encoded.tokens, count)
    with loaded_policy(settings, base, policy) as loaded:
        drawn = draw(
            loaded.model,
            wanted,
            seed=chosen,
            temperature=settings.temperature,
            new_tokens=new_tokens,
            ends=base.ends,
            rows=settings.rows,
        )
        nats = divergences(
            loaded,
            [one.prompt for one in wanted],
            drawn,
            temperature=settings.temperature,
            rows=settings.rows,
        )
    shape = (len(encoded.kept), count)
    texts, rewards, correct = _rewarded(settings, base.tokenizer, given, encoded.kept, drawn)
    found = Measurement(
        objectives=settings.objectives,
        prompts=encoded.kept,
        texts=texts,
        rewards=rewards,
        kl=np.array([one.full for one in nats]).reshape(shape),
        kl_k1=np.array([one.k1 for one in nats]).reshape(shape),
        tokens=np.array([len(one) for one in drawn]).reshape(shape),
        ended=np.array([one[-1] in base.ends for one in drawn]).reshape(shape),
        correct=correct,
        temperature=settings.temperature,
        new_tokens=new_tokens,
        seed=chosen,
    )
    _check(found)
    return found


def encoded_for(
    settings: GrpoSettings, tokenizer: Any, context: int | None, prompts: Prompts
) -> Encoded:
    """Encode the prompts that are short enough for a response to fit.

    Args:
        settings: for the prompt format and the accepted lengths.
        tokenizer: the model's.
        context: the model's context length, or ``None``.
        prompts: to measure on.

    Raises:
        InputError: a prompt length that is not accepted, unless dropped; no prompt is left.
    """
    from palm_eval import encode_prompts

    room = None if context is None else context - int(settings.new_tokens or 0) + 1
    return encode_prompts(tokenizer, prompts.texts, settings.put, room=room)


def _rewarded(
    settings: GrpoSettings,
    tokenizer: Any,
    prompts: Prompts,
    kept: tuple[int, ...],
    drawn: list[tuple[int, ...]],
) -> tuple[tuple[tuple[str, ...], ...], Any, Any]:
    """Texts (n, G), rewards (n, G, d) and, if a reward judges it, correctness (n, G)."""
    from palm_eval import score
    from palm_eval.plugin import Responder

    asked = prompts.chosen(kept)
    count = len(drawn) // len(kept)
    responder = Responder(tokenizer)
    ids = [[list(one) for one in drawn[i : i + count]] for i in range(0, len(drawn), count)]
    texts = tuple(tuple(responder.text(one) for one in several) for several in ids)

    def scored(functions: Any) -> Any:
        scores = score(
            functions,
            asked.texts,
            [list(several) for several in texts],
            columns=asked.columns,
            completion_columns={"completion_ids": ids},
        )
        return np.stack(scores.per_completion)

    judge = next(
        (
            found
            for function in settings.functions.values()
            if (found := getattr(function, "correctness", None)) is not None
        ),
        None,
    )
    correct = None if judge is None else scored({"correctness": judge})[:, :, 0]
    return texts, scored(settings.functions), correct


def _check(found: Measurement) -> None:
    apart = found.kl_disagreement
    _log.info(
        "measured on %d prompts: rewards %s, KL %.4g (k1 %.4g), %.1f tokens, %.1f %% cut off",
        len(found.prompts),
        ", ".join(f"{value:.4g}" for value in found.mean_rewards),
        found.mean_kl,
        found.mean_kl_k1,
        found.mean_tokens,
        100 * found.truncation_rate,
    )
    if apart is not None and abs(apart) > _APART and len(found.prompts) >= _ENOUGH:
        _log.warning(
            "KL is %.4g over the vocabulary but %.4g along the responses, %.1f standard errors "
            "apart: responses may not be drawn from the policy that is measured",
            found.mean_kl,
            found.mean_kl_k1,
            abs(apart),
        )


#: Cache of the last π_ref: loading takes longer than measuring small policies.
_LOADED: WeakKeyDictionary[GrpoSettings, Base] = WeakKeyDictionary()


def remeasured(
    settings: GrpoSettings,
    policy: Policy,
    *,
    artifact: Path,
    prompts: int,
    samples: int | None = None,
) -> Policy:
    """Measure a policy again, on the first ``prompts`` prompts of the evaluation source.

    Args:
        settings: of the policy's oracle.
        policy: of a run.
        artifact: its folder.
        prompts: from 1 to the number of prompts available.
        samples: responses to each; ``None`` as in the run.

    Raises:
        InputError: there are too few prompts, or no model in ``artifact``.
        WorkError: the measurement failed.
    """
    given = settings.more_prompts(prompts)
    if not artifact.is_dir():
        raise InputError(f"policy {policy.id!r}: {str(artifact)!r} must be its model's folder")
    base = _LOADED.get(settings)
    if base is None:
        base = _LOADED[settings] = load_base(settings)
    found = measure(settings, artifact, given, samples=samples, base=base)
    start = policy.info.get("start")
    again = policy_of(settings, policy.weights, found, policy.artifact, start)
    return replace(again, id=policy.id, info={**policy.info, **again.info})
