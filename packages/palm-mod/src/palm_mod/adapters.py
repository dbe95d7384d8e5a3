"""d LoRA adapters on one base: one forward pass for all of them, and for the base itself."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import one_line, reason
from palm_eval.language.memory import check_memory
from palm_mod.running import WITHOUT, CausalModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_eval.language.sources import Source


def with_adapters(
    base: Any, name: str, adapters: Sequence[tuple[str, Source]], *, reference: bool
) -> tuple[CausalModel, list[str]]:
    """The base with all adapters, unmerged; rows of one batch use different ones.

    Args:
        base: a causal language model of transformers.
        name: what messages call it.
        adapters: what messages call each, and where it is.
        reference: whether the base itself is run as well, last.

    Returns:
        The model; what was found that does no harm.

    Raises:
        InputError: peft is missing; an adapter cannot be loaded, does not fit the base, or
            is of a kind that cannot be one of several in a batch.
    """
    require_peft()
    from peft import PeftModel

    model: Any = None
    notes, names = [], []
    for number, (label, source) in enumerate(adapters):
        notes += _check(label, source, base)
        names.append(f"expert-{number}")
        options: dict[str, Any] = {"adapter_name": names[-1], "revision": source.revision}
        try:
            if model is None:
                model = PeftModel.from_pretrained(base, source.name, **options)
            else:
                model.load_adapter(source.name, **options)
        except Exception as error:
            check_memory(label, error)
            raise InputError(
                f"{label}: does not fit {name}, must be an adapter of it: {reason(error)}"
            ) from error
    if reference:
        names.append(WITHOUT)
    return CausalModel(model, name, names), notes


def require_peft() -> None:
    """Raise :class:`InputError` where peft is not installed."""
    if find_spec("peft") is None:
        raise InputError(
            "adapters: need peft, not installed: install palm-mod with its extra [lora]"
        )


def _check(label: str, source: Source, base: Any) -> list[str]:
    """Refuse what one batch for several adapters cannot hold; tell of another base."""
    from peft import LoraConfig, PeftConfig
    from peft.utils.save_and_load import load_peft_weights

    try:
        config = PeftConfig.from_pretrained(source.name, revision=source.revision)
        keys = load_peft_weights(source.name, device="cpu", revision=source.revision)
    except Exception as error:
        raise InputError(
            f"{label}: cannot be loaded, must be a LoRA adapter saved by peft: {reason(error)}"
        ) from error
    refused = None
    if type(config) is not LoraConfig:
        refused = f"is of type {config.peft_type}"
    elif config.use_dora:
        refused = "is of type DoRA"
    elif config.bias != "none":
        refused = f"changes the base's biases (bias = {config.bias!r})"
    else:
        others = sorted(key for key in keys if ".lora_" not in key)
        if others:
            refused = f"has full weights beside LoRA ({one_line(others[0], 120)})"
    if refused is not None:
        raise InputError(
            f"{label}: {refused}, must be plain LoRA to share forward passes; merged into its "
            "base it can be one of 'models'"
        )
    trained_on, given = config.base_model_name_or_path, base.config.name_or_path
    if trained_on and trained_on != given:
        return [f"{label}: was trained on {trained_on!r}, runs on {given!r}"]
    return []
