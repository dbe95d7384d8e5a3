"""What went wrong while training, as one line that says what to change."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from palm_core.errors import InputError, PalmError, WorkError
from palm_core.text import one_line, reason

if TYPE_CHECKING:
    from palm_trl.settings import GrpoSettings

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
    from palm_eval.language.memory import out_of_memory  # imports PyTorch

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
    return WorkError(f"{where}: training failed: {reason(error)}")


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
