"""Adapters: what trains, how it begins from an earlier one, and against which reference."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import did_you_mean, one_line, reason

if TYPE_CHECKING:
    from pathlib import Path

    from palm_trl.settings import GrpoSettings

#: Where the task says nothing.
DEFAULTS: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
_OURS = ("task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_type")
# Others write into the base model, which then is no longer the reference.
_BEGINNINGS = (True, False, "gaussian", "orthogonal")


def lora_config(settings: GrpoSettings) -> Any:
    """Peft's LoraConfig by the table ``[oracle.lora]``.

    Raises:
        InputError: an option that peft does not have, that is PALM's, or a value it refuses.
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
        raise InputError(f"lora: peft refuses it: {reason(error)}") from error


def begin_from(model: Any, start: Path) -> None:
    """Give the new adapter of ``model`` the weights of the one in ``start``.

    TRL takes a model that comes with an adapter for its own reference. So the adapter is a
    new one, of which only the weights are set, and the reference stays the model without it.

    Raises:
        InputError: no adapter there, or none of this model and these options.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    try:
        weights = load_peft_weights(str(start), device="cpu")
        own = {n for n, one in model.named_parameters() if one.requires_grad}
        found: Any = set_peft_model_state_dict(model, weights)
        missing = own & set(found.missing_keys)
        wrong = sorted([*missing, *found.unexpected_keys])
    except Exception as error:
        raise InputError(f"start = {one_line(start)}: cannot be taken: {reason(error)}") from error
    if wrong:
        raise InputError(
            f"start = {one_line(start)}: is no adapter of this model with these options, "
            f"differs in {one_line(', '.join(wrong), 200)}"
        )
