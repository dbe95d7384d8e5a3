"""The outcome of a call: the trained policy as a folder, or the error that ended it."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core import InputError, PalmError, WorkError
from palm_core.plugin import error_reason, one_line, write_artifact

if TYPE_CHECKING:
    import torch

    from palm_trl.options import GrpoSettings

#: The policy, in a call's folder.
POLICY = "policy"
# What a trainer leaves beside a model: a pickle, and a model card of its own.
_LITTER = ("training_args.bin", "README.md")


@dataclass(frozen=True)
class Prepared:
    """A trainer, and what is saved as it was before: trainers change both for themselves.

    Attributes:
        trainer: TRL's.
        tokenizer: the model's.
        configs: the model's config and generation_config.
        dtype: that the weights of a whole model are saved in.
    """

    trainer: Any
    tokenizer: Any
    configs: tuple[Any, Any]
    dtype: torch.dtype


def save_policy(ready: Prepared, settings: GrpoSettings, folder: Path) -> None:
    """Write ``folder``/policy; called by all processes, written by the first.

    Args:
        ready: whose trainer has trained.
        settings: name the model that an adapter is of.
        folder: of the call.

    Raises:
        OSError: the disk is full, or gone.
    """
    trainer = ready.trainer
    first = trainer.accelerator.is_main_process
    with ExitStack() as stack:
        # All processes name the same folder: weights may be spread over them.
        place = Path(folder) / f".writing-{POLICY}"
        if first:
            place = stack.enter_context(write_artifact(folder, POLICY))
        trainer.accelerator.wait_for_everyone()
        trainer.save_model(str(place))
        trainer.accelerator.wait_for_everyone()
        if not first:
            return
        for name in _LITTER:
            (place / name).unlink(missing_ok=True)
        if settings.tuning == "lora":
            _name_base(place / "adapter_config.json", settings)
        else:
            _cast(place, ready.dtype)
            for one in ready.configs:
                one.save_pretrained(place)
        ready.tokenizer.save_pretrained(place)


def _name_base(file: Path, settings: GrpoSettings) -> None:
    """The base of an adapter is what the task calls it, wherever it was found."""
    told = json.loads(file.read_text(encoding="utf-8"))
    source = settings.source
    told["base_model_name_or_path"] = settings.model if source.revision is None else source.name
    told["revision"] = source.revision
    file.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cast(place: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    for file in sorted(place.glob("*.safetensors")):
        tensors = load_file(file)
        if all(one.dtype == dtype or not one.is_floating_point() for one in tensors.values()):
            continue
        cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
        save_file(cast, file, metadata={"format": "pt"})


#: Why a call failed, in its folder.
ERROR = "error.json"
# What drawing a token says of logits that are NaN.
_NOT_NUMBERS = ("probability tensor contains",)
_DISK = ("No space left on device", "unexpected pos", "PytorchStreamWriter", "Disk quota exceeded")


def failure(error: Exception, settings: GrpoSettings, where: str) -> PalmError:
    """``error`` as PALM says it.

    Args:
        error: as it was raised.
        settings: whose options could be changed.
        where: "step 7", for instance.
    """
    if isinstance(error, PalmError):
        return error
    from palm_eval.lm.memory import out_of_memory  # imports PyTorch

    text = one_line(str(error).split("\n", 1)[0], 160)
    if out_of_memory(error):
        return WorkError(f"{where}: out of memory; {smaller(settings)}: {text}")
    if any(said in str(error) for said in _NOT_NUMBERS):
        return WorkError(
            f"{where}: the weights are not finite any more; lower trainer.learning_rate = "
            f"{settings.options['learning_rate']:g}: {text}"
        )
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(said in str(error) for said in _DISK):
        return WorkError(
            f"{where}: the disk is full; free space, or raise checkpoint_every = "
            f"{settings.checkpoint_every}: {text}"
        )
    return WorkError(f"{where}: training failed: {error_reason(error)}")


def smaller(settings: GrpoSettings) -> str:
    """What to change where memory is short."""
    options = settings.options
    advice = (
        f"lower trainer.per_device_train_batch_size = {options['per_device_train_batch_size']} "
        "and raise trainer.gradient_accumulation_steps by as much"
    )
    if options.get("gradient_checkpointing") is not True:
        advice += ", set trainer.gradient_checkpointing = true"
    if options.get("use_vllm"):
        share = options.get("vllm_gpu_memory_utilization", "0.3, the default")
        advice += f", lower trainer.vllm_gpu_memory_utilization = {share}"
    if settings.tuning == "full":
        advice += ", or tuning = 'lora'"
    return advice


def write_failure(folder: Path, error: PalmError) -> None:
    """Leave ``error`` in a call's folder; of several processes the first that fails does."""
    kind = "input" if isinstance(error, InputError) else "work"
    handle, name = tempfile.mkstemp(prefix=".error-", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"kind": kind, "message": one_line(error)}, file)
    with suppress(FileExistsError):  # the first process that failed has told why
        os.link(name, folder / ERROR)
    Path(name).unlink()


def read_failure(folder: Path) -> PalmError | None:
    """What a call's processes left, or ``None``."""
    try:
        told = json.loads((folder / ERROR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # none of them said anything
    message = str(told["message"])
    return InputError(message) if told["kind"] == "input" else WorkError(message)
