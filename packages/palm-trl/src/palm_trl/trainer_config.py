"""TRL's configuration for a call: recipe, task options, PALM's settings, adapters."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import typing
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from palm_core import InputError
from palm_core.plugin import did_you_mean, error_reason, one_line
from palm_trl.options import config_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_trl.options import GrpoSettings

#: The folder of TRL's checkpoints in a call's folder.
CHECKPOINTS = "checkpoints"
# Hardware options, which are validated on the training machine.
_HARDWARE = ("bf16", "fp16", "tf32", "deepspeed", "fsdp", "fsdp_config", "parallelism_config")


def trainer_config(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> Any:
    """TRL's GRPOConfig or RLOOConfig for a call.

    Half precision and activation checkpointing follow the task, else the GPU's support.

    Args:
        settings: the options.
        weights: (d,), as ``reward_weights``.
        folder: of the call.
        start: the adapter from which training starts, or ``None``.

    Raises:
        InputError: TRL refuses a value, or vLLM is requested and missing; it is named.
    """
    import torch

    from palm_eval.plugin import device_of

    options = dict(settings.options)
    on_gpu = device_of(settings.device).type == "cuda"
    if not options.get("fp16"):
        options.setdefault("bf16", on_gpu and torch.cuda.is_bf16_supported())
    options.setdefault("gradient_checkpointing", on_gpu)
    if options.get("use_vllm"):
        _check_vllm()
    return _made(
        settings, options | _ours(settings, weights, folder, start) | {"use_cpu": not on_gpu}
    )


def check_config(settings: GrpoSettings) -> None:
    """Validate the options by TRL's configuration, before any training.

    Imports TRL's configuration (seconds, once) and validates on a CPU: no GPU is initialised,
    and accelerate's state is restored. Hardware options are validated in the call itself.
    Does nothing in one of several training processes.

    Raises:
        InputError: see :func:`trainer_config`.
    """
    if "RANK" in os.environ:
        return
    import numpy as np

    even = np.full(len(settings.objectives), 1 / len(settings.objectives))
    options = {name: value for name, value in settings.options.items() if name not in _HARDWARE}
    # Validate as one process with the batch size of all.
    options["per_device_train_batch_size"] *= settings.processes
    options |= _ours(settings, even, settings.task_dir, None)
    options |= {"bf16": False, "use_cpu": True}
    options.setdefault("gradient_checkpointing", False)
    with _untouched_state():
        _made(settings, options)


def seed_of(run_seed: int, weights: NDArray[np.float64]) -> int:
    """The seed of a call, below 2³¹: a function of the run's seed and the weights (d,) only."""
    content = json.dumps([run_seed, [float(one) for one in weights]])
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:4], "big") % 2**31


def steps_of(settings: GrpoSettings, start: Path | None) -> int:
    """The number of training steps of a call."""
    steps = settings.steps if start is None else settings.warm_steps or settings.steps
    assert steps is not None
    return steps


def _ours(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, start: Path | None
) -> dict[str, Any]:
    seed = seed_of(settings.run_seed, weights)
    return {
        "beta": settings.beta,
        "max_steps": steps_of(settings, start),
        "max_completion_length": settings.new_tokens,
        "temperature": settings.temperature,
        "reward_weights": [float(one) for one in weights],
        "output_dir": str(folder / CHECKPOINTS),
        "save_strategy": "steps",
        "save_steps": _save_steps(settings),
        "save_total_limit": 2,  # the last may be incomplete
        "seed": seed,
        "data_seed": seed,
        "remove_unused_columns": False,
        "eval_strategy": "no",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
    }


def _save_steps(settings: GrpoSettings) -> int:
    """``checkpoint_every``, rounded up to the end of a batch of completions.

    Elsewhere the rest of a batch would be lost, and a resumed training would differ.
    """
    accumulated = int(settings.options["gradient_accumulation_steps"])
    rounds = settings.options.get("steps_per_generation")
    size = settings.options.get("generation_batch_size")
    if size is not None:
        rounds = int(size) // (settings.options["per_device_train_batch_size"] * settings.processes)
    used = int(rounds or accumulated) * int(settings.options.get("num_iterations", 1))
    period = math.lcm(accumulated, max(1, used)) // accumulated
    return -(-settings.checkpoint_every // period) * period


def _made(settings: GrpoSettings, options: Mapping[str, Any]) -> Any:
    config = config_class(settings.algorithm)
    chosen = dict(options)
    known = {one.name for one in fields(config)}
    for name in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
        new = name.replace("gradient", "activation")  # deprecated names, still used by TRL
        if name in chosen and new in known:
            chosen.setdefault(new, chosen.pop(name))
    _check_types(config, chosen)
    try:
        return config(**chosen)
    except Exception as error:
        raise InputError(_refused(error, settings, chosen)) from error


def _check_vllm() -> None:
    from trl.import_utils import is_vllm_available

    if not is_vllm_available():
        raise InputError(
            "trainer.use_vllm = True: vLLM is not installed; install palm-trl with its extra "
            "[vllm], or leave use_vllm out"
        )


def _check_types(config: type, chosen: Mapping[str, Any]) -> None:
    """Refuse wrong types, such as a string for a number: TRL would accept it and fail later."""
    hints = typing.get_type_hints(config)
    for name, value in chosen.items():
        try:
            msgspec.convert(value, hints[name], builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise InputError(
                f"trainer.{name} = {one_line(repr(value), 60)}: {one_line(error, 120)}"
            ) from error
        except (TypeError, NameError):
            continue  # a type that only TRL can validate


def _refused(error: Exception, settings: GrpoSettings, chosen: Mapping[str, Any]) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Blame the task's options first: by the position of their names, else by their values.
    for names in (settings.trainer, settings.options, chosen):
        places = {name: re.search(rf"\b{name}\b", text) for name in names}
        named = {found.start(): name for name, found in places.items() if found}
        valued = [name for name, value in names.items() if text.startswith(f"{value} ")]
        name = named[min(named)] if named else next(iter(valued), None)
        if name is not None:
            return f"trainer.{name} = {one_line(repr(names[name]), 60)}: {one_line(text, 400)}"
    given = ", ".join(f"trainer.{name}" for name in settings.trainer) or "trainer"
    return f"{one_line(given, 150)}: refused by TRL: {one_line(text, 400)}"


@contextmanager
def _untouched_state() -> Iterator[None]:
    from accelerate.state import AcceleratorState, PartialState

    states = (PartialState._shared_state, AcceleratorState._shared_state)
    kept = [dict(state) for state in states]
    try:
        yield
    finally:
        for state, before in zip(states, kept, strict=True):
            state.clear()
            state.update(before)


#: Defaults.
DEFAULTS: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
_OURS = ("task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_type")
# Others modify the base model, which then is no longer the reference.
_BEGINNINGS = (True, False, "gaussian", "orthogonal")


def lora_config(settings: GrpoSettings) -> Any:
    """Peft's LoraConfig from the table ``[oracle.lora]``.

    Raises:
        InputError: an option that peft lacks or that PALM sets, or a value that peft refuses.
    """
    from peft import LoraConfig

    known = [one.name for one in fields(LoraConfig) if one.init and one.name not in _OURS]
    for name in settings.lora:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"lora.{name}: peft's LoraConfig has no such option to set{hint}")
    begins = settings.lora.get("init_lora_weights", True)
    if begins not in _BEGINNINGS:
        raise InputError(
            f"lora.init_lora_weights = {begins!r}: changes the base model, which is the "
            f"reference; must be one of {', '.join(map(repr, _BEGINNINGS))}"
        )
    try:
        return LoraConfig(**{**DEFAULTS, **settings.lora}, task_type="CAUSAL_LM")
    except Exception as error:
        raise InputError(f"lora: peft refuses it: {error_reason(error)}") from error


def begin_from(model: Any, start: Path) -> None:
    """Copy the weights of the adapter in ``start`` into the new adapter of ``model``.

    TRL would take a model with an existing adapter as its own reference. So a new adapter is
    created and only its weights are set; the reference stays the model without it.

    Raises:
        InputError: no adapter in ``start``, or one of another model or other options.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    try:
        weights = load_peft_weights(str(start), device="cpu")
        own = {n for n, one in model.named_parameters() if one.requires_grad}
        found: Any = set_peft_model_state_dict(model, weights)
        missing = own & set(found.missing_keys)
        wrong = sorted([*missing, *found.unexpected_keys])
    except Exception as error:
        raise InputError(
            f"start = {one_line(start)}: cannot be loaded: {error_reason(error)}"
        ) from error
    if wrong:
        raise InputError(
            f"start = {one_line(start)}: must be an adapter of this model with these options, "
            f"differs in {one_line(', '.join(wrong), 200)}"
        )
