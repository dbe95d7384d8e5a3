"""What fine-tuning takes, before it begins: downloads, memory, GPU hours; estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_eval.language.estimates import Sized, computing, downloads, gigabytes, judges_of, sized

if TYPE_CHECKING:
    from palm_trl.settings import GrpoSettings

#: Operations for each parameter and token: forward and backward; forward alone.
_LEARN, _READ = 6.0, 2.0


def estimated(settings: GrpoSettings, calls: int | None) -> dict[str, str]:
    """What ``calls`` calls take, in words by what it is of.

    Args:
        settings: say what is trained and measured.
        calls: how many; ``None`` where that is not known.
    """
    model = sized(settings.source)
    judges = judges_of(settings.functions)
    found = {"downloads": downloads([model, *judges])}
    if model.parameters is None:
        return found
    found["memory"] = _memory(settings, model, judges)
    told = settings.options
    completions = told.get("generation_batch_size") or told[
        "per_device_train_batch_size"
    ] * settings.processes * (
        told.get("steps_per_generation") or told["gradient_accumulation_steps"]
    )
    trained_tokens = float(completions * (settings.steps or 0) * (settings.new_tokens or 0))
    measured = (
        len(settings.evaluation_prompts.texts) * settings.samples * (settings.new_tokens or 0)
    )
    # The policy learns and is read once more for its old probabilities; the reference is read.
    passes = _LEARN + _READ * (2 if settings.beta else 1)
    judged = sum(judge.parameters or 0.0 for judge in judges) * _READ
    found["computing"] = computing(
        trained_tokens * (model.parameters * passes + judged)
        + measured * (model.parameters * 2 * _READ + judged),
        (trained_tokens + measured) * model.parameters * _READ,
        calls,
    )
    return found


def _memory(settings: GrpoSettings, model: Sized, judges: list[Sized]) -> str:
    """Of weights and the optimiser; activations and caches come on top."""
    count = model.parameters or 0.0
    each = 4.0 if settings.dtype in ("auto", "float32") else 2.0
    if settings.tuning == "full":
        # weights, gradients, two moments; and the reference
        needed = count * (4 * each + (each if settings.beta else 0.0))
        how = "weights, gradients and AdamW's moments" + (
            ", and the reference" * bool(settings.beta)
        )
    else:
        needed, how = count * each, "the weights, which are the reference too"
    needed += sum(judge.parameters or 0.0 for judge in judges) * 2
    how += " and the reward models" if judges else ""
    return f"{gigabytes(needed)} on each GPU for {how}; activations and caches on top"
