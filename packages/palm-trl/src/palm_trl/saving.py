"""The trained policy as a folder: weights, configuration, tokenizer; whole or absent."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.artifacts import writing

if TYPE_CHECKING:
    import torch

    from palm_trl.settings import GrpoSettings

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
            place = stack.enter_context(writing(folder, POLICY))
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
