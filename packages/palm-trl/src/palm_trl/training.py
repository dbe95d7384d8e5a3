"""Training a policy for one weight vector, in this process (called by each of several).

The trained policy maximises J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref), within the limits of
:mod:`palm_trl.options`. TRL calls the rewards with the original prompts, columns and texts.
"""

from __future__ import annotations

import copy
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import GenerationConfig, PrinterCallback

from palm_core import InputError, PalmError, WorkError, check_weights
from palm_core.plugin import one_line
from palm_eval import encode_prompts
from palm_eval.plugin import (
    Responder,
    called,
    check_scores,
    columns_of,
    dtype_of,
    end_tokens,
    load_causal,
    load_tokenizer,
)
from palm_trl.outcome import POLICY, Prepared, failure, save_policy
from palm_trl.trainer_config import CHECKPOINTS, begin_from, lora_config, trainer_config
from palm_trl.trainers import Curves, FiniteGradients, Grpo, NoLastCheckpoint, Rloo, last_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from palm_eval import Prompts
    from palm_eval.plugin import RewardFunction
    from palm_trl.options import GrpoSettings

#: The column of the training set with the prompt's number.
ROW = "row"
# Further arguments of TRL for reward functions; not available in measurements.
_OFFERED = ("trainer_state", "log_extra", "log_metric")


def reward_functions(
    functions: Mapping[str, RewardFunction], prompts: Prompts, responder: Responder
) -> list[Callable[..., list[float | None]]]:
    """One function for each objective, for TRL, with the objective as its ``__name__``.

    It passes the same arguments as measurement does: prompts and columns as in the file, the
    responses' texts, ``completion_ids`` including the end token; and ``trainer_state`` if
    the function takes it. ``None`` (no score) is left to TRL.

    Args:
        functions: by objective.
        prompts: the training prompts, indexed by the column :data:`ROW`.
        responder: decodes responses.

    Raises:
        InputError: when called, a column that a function needs is missing.
        WorkError: when called, a function fails, or what it returns is not one finite number or
            ``None`` for each response. Both name objective and step.
    """
    return [
        _named(objective, _Rewarding(objective, function, prompts, responder))
        for objective, function in functions.items()
    ]


class _Rewarding:
    def __init__(
        self, objective: str, function: RewardFunction, prompts: Prompts, responder: Responder
    ) -> None:
        self._objective, self._function = objective, function
        self._prompts, self._responder = prompts, responder
        self._taken, self._required = columns_of(function)

    def __call__(self, given: Mapping[str, Any]) -> list[float | None]:
        state = given["trainer_state"]
        try:
            return self._rewards(given)
        except PalmError as error:
            raise type(error)(self._line(state.global_step, str(error))) from error
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}", 300)
            raise WorkError(self._line(state.global_step, f"failed: {reason}")) from error

    def _rewards(self, given: Mapping[str, Any]) -> list[float | None]:
        rows: Sequence[int] = given[ROW]
        asked = self._prompts.chosen(rows)
        prompts = list(asked.texts)
        completion_ids = [list(ids) for ids in given["completion_ids"]]
        columns: dict[str, Any] = {name: list(values) for name, values in asked.columns.items()}
        columns["completion_ids"] = completion_ids
        columns |= {name: given[name] for name in _OFFERED if name in given}
        for column in sorted(self._required - set(columns)):
            known = ", ".join(sorted(set(columns) - set(_OFFERED)))
            raise InputError(f"needs the column {column!r}; given: {known}")
        if self._taken is not None:
            columns = {name: columns[name] for name in columns if name in self._taken}
        texts = [self._responder.text(ids) for ids in completion_ids]
        scores = called(self._function, prompts, texts, columns)
        return check_scores(scores, prompts, self._objective)

    def _line(self, done: int, text: str) -> str:
        return f"rewards.{self._objective}, step {done + 1}: {text}"


def _named(objective: str, rewarding: _Rewarding) -> Callable[..., list[float | None]]:
    def reward(**given: Any) -> list[float | None]:
        return rewarding(given)

    reward.__name__ = reward.__qualname__ = objective
    return reward


_log = logging.getLogger("palm_trl")
#: One JSON object for each logged step, in a call's folder.
CURVES = "training.jsonl"


def train(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> None:
    """Train the policy for ``weights`` and save it in ``folder``/policy.

    Resumes from the last complete checkpoint, with the same result; does nothing if the
    policy exists.

    Args:
        settings: the options.
        weights: (d,).
        folder: of the call: ``policy``, ``training.jsonl``, and temporary ``checkpoints``.
        start: a folder with the adapter from which training starts; the reference stays the
            model. ``None`` starts from the model.

    Raises:
        InputError: the model, the prompts, an adapter or an option is invalid.
        WorkError: training failed; the message names the step and the options to change.
    """
    folder = Path(folder)
    if (folder / POLICY).is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    row = check_weights(weights, len(settings.objectives))[0]
    config = trainer_config(settings, row, folder, start=start)
    ready = prepared(settings, config, folder, start=start)
    trainer = ready.trainer
    checkpoint = last_whole(folder / CHECKPOINTS, clean=trainer.accelerator.is_main_process)
    if checkpoint is not None:
        _log.info("going on from %s", checkpoint.name)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        save_policy(ready, settings, folder)
    except Exception as error:
        step = min(trainer.state.global_step + 1, config.max_steps)
        raise failure(error, settings, f"step {step}") from error
    if trainer.accelerator.is_main_process:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def prepared(
    settings: GrpoSettings, config: Any, folder: Path, *, start: Path | None = None
) -> Prepared:
    """Load the model and create the trainer, without starting it.

    Raises:
        InputError: see :func:`train`.
        WorkError: not enough memory.
    """
    place, source = f"model = {settings.model!r}", settings.source
    peft_config = lora_config(settings) if settings.tuning == "lora" else None
    tokenizer = load_tokenizer(place, settings.tokenizer_source)
    model = load_causal(place, source, torch.device("cpu"), dtype_of(settings.dtype))
    dtype, configs = model.dtype, (copy.deepcopy(model.config), model.generation_config)
    if peft_config is None:
        # Steps of 1e-6 are lost in the 8 bits of bfloat16; it is used only on request.
        model.requires_grad_(True)
        if settings.dtype == "auto":
            model.float()
    ends = sorted(end_tokens(tokenizer, [model]))
    if not ends:
        raise InputError(f"{place}: the model or its tokenizer must have an end-of-text token")
    _generate_freely(model, ends)
    task = _task(settings, tokenizer, model, config)
    config.model_init_kwargs = None if source.revision is None else {"revision": source.revision}
    padded = load_tokenizer(place, settings.tokenizer_source)  # the trainer changes its padding
    if padded.eos_token_id is None:
        padded.eos_token_id = ends[0]
    trainer_of: Any = Grpo if settings.algorithm == "grpo" else Rloo
    try:
        trainer = trainer_of(
            model=model,
            args=config,
            reward_funcs=reward_functions(settings.functions, task.prompts, Responder(tokenizer)),
            train_dataset=task.rows,
            processing_class=padded,
            peft_config=peft_config,
            callbacks=[Curves(folder / CURVES), FiniteGradients(), NoLastCheckpoint()],
            tokens=task.tokens,
            normalized=settings.preset == "paper",
        )
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"{place}: TRL refuses to train it: {_reason(error)}") from error
    except Exception as error:
        raise failure(error, settings, "before step 1") from error
    trainer.remove_callback(PrinterCallback)
    if start is not None:
        begin_from(trainer.accelerator.unwrap_model(trainer.model), start)
    return Prepared(trainer, tokenizer, configs, dtype)


@dataclass(frozen=True)
class _Task:
    """Prompts in TRL's form: ``rows`` of texts and numbers, and their tokens by text."""

    prompts: Prompts
    rows: Dataset
    tokens: dict[str, tuple[int, ...]]


def _task(settings: GrpoSettings, tokenizer: Any, model: Any, config: Any) -> _Task:
    prompts = settings.training_prompts
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    room = None if context is None else context - settings.new_tokens + 1
    if room is not None and room < 2:
        raise InputError(
            f"new_tokens = {settings.new_tokens}: the model has {context} positions, must be less"
        )
    encoded = encode_prompts(tokenizer, prompts.texts, settings.put, room=room)
    if encoded.dropped:
        _log.warning("%d prompts have another length and are dropped", len(encoded.dropped))
    batch = config.generation_batch_size // config.num_generations
    if len(encoded.kept) < batch:
        raise InputError(
            f"prompts: {len(encoded.kept)} to train on, must be at least {batch}, for one batch "
            f"of {config.generation_batch_size} completions with trainer.num_generations = "
            f"{config.num_generations}; or lower trainer.gradient_accumulation_steps"
        )
    texts = [settings.put.text(tokenizer, prompts.texts[number]) for number in encoded.kept]
    rows = Dataset.from_dict({"prompt": texts, ROW: list(encoded.kept)})
    return _Task(prompts, rows, dict(zip(texts, encoded.tokens, strict=True)))


def _generate_freely(model: Any, ends: list[int]) -> None:
    """Sample from the model's distribution, without the generation settings of its authors."""
    settings = {"bos_token_id": model.generation_config.bos_token_id, "eos_token_id": ends}
    model.generation_config = GenerationConfig.from_dict(settings)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
