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

#: The folder of the policy in a call's folder.
POLICY = "policy"
# Files that a trainer writes beside a model: a pickle, and TRL's model card.
_LITTER = ("training_args.bin", "README.md")


@dataclass(frozen=True)
class Prepared:
    """A trainer, with tokenizer and configurations to save, which the trainer may modify.

    Attributes:
        trainer: TRL's.
        tokenizer: the model's.
        configs: the model's config and generation_config.
        dtype: in which the weights of a full model are saved.
    """

    trainer: Any
    tokenizer: Any
    configs: tuple[Any, Any]
    dtype: torch.dtype


def save_policy(ready: Prepared, settings: GrpoSettings, folder: Path) -> None:
    """Write ``folder``/policy; called by all processes, written by the first.

    Args:
        ready: with a finished trainer.
        settings: for the name of an adapter's base model.
        folder: of the call.

    Raises:
        OSError: the disk is full or unavailable.
    """
    trainer = ready.trainer
    first = trainer.accelerator.is_main_process
    with ExitStack() as stack:
        # All processes write to the same folder: weights may be sharded over them.
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
    """Set the adapter's base model to its name in the task, not its local path."""
    config = json.loads(file.read_text(encoding="utf-8"))
    source = settings.source
    config["base_model_name_or_path"] = settings.model if source.revision is None else source.name
    config["revision"] = source.revision
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cast(place: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    for file in sorted(place.glob("*.safetensors")):
        tensors = load_file(file)
        if all(one.dtype == dtype or not one.is_floating_point() for one in tensors.values()):
            continue
        cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
        save_file(cast, file, metadata={"format": "pt"})


#: The file with the error of a failed call, in its folder.
ERROR = "error.json"
# PyTorch's error messages when sampling from NaN logits.
_NOT_NUMBERS = ("probability tensor contains",)
_DISK = ("No space left on device", "unexpected pos", "PytorchStreamWriter", "Disk quota exceeded")


def failure(error: Exception, settings: GrpoSettings, where: str) -> PalmError:
    """Convert ``error`` to an error of PALM.

    Args:
        error: as raised.
        settings: for advice on options to change.
        where: for example "step 7".
    """
    if isinstance(error, PalmError):
        return error
    from palm_eval.plugin import out_of_memory

    text = one_line(str(error).split("\n", 1)[0], 160)
    if out_of_memory(error):
        return WorkError(f"{where}: out of memory; {smaller(settings)}: {text}")
    if any(said in str(error) for said in _NOT_NUMBERS):
        return WorkError(
            f"{where}: the weights are no longer finite; lower trainer.learning_rate = "
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
    """Advice on options to change when out of memory."""
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
    """Write ``error`` to a call's folder; of several processes only the first to fail does."""
    kind = "input" if isinstance(error, InputError) else "work"
    handle, name = tempfile.mkstemp(prefix=".error-", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"kind": kind, "message": one_line(error)}, file)
    with suppress(FileExistsError):  # an earlier failure of another process is there
        os.link(name, folder / ERROR)
    Path(name).unlink()


def read_failure(folder: Path) -> PalmError | None:
    """Read the error of a call's processes, or ``None``."""
    try:
        stored = json.loads((folder / ERROR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # no process wrote an error
    message = str(stored["message"])
    return InputError(message) if stored["kind"] == "input" else WorkError(message)
