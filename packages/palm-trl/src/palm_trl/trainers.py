"""Subclasses of TRL's trainers: tokenized prompts, min–max rewards, checkpoints, callbacks.

Three private methods of TRL 1.16 are overridden; tests/trl/test_canary.py detects changes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from palm_core import WorkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"checkpoint-(\d+)")
_WHOLE = "whole"


def mark_whole(folder: str | Path, step: int) -> None:
    """Mark the checkpoint of ``step`` as complete, after flushing it to disk.

    Raises:
        OSError: the disk is full or unavailable.
    """
    checkpoint = Path(folder) / f"checkpoint-{step}"
    for file in checkpoint.rglob("*"):
        if file.is_file():
            _flush(file)
    mark = checkpoint / _WHOLE
    mark.write_bytes(b"")
    _flush(mark)
    with suppress(OSError):  # some file systems cannot flush folders
        _flush(checkpoint)


def last_whole(folder: Path, *, clean: bool = False) -> Path | None:
    """The latest complete checkpoint in ``folder``, or ``None``.

    Args:
        folder: of checkpoints; may be missing.
        clean: remove incomplete checkpoints.
    """
    found = {}
    for checkpoint in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(checkpoint.name)
        if match and (checkpoint / _WHOLE).is_file():
            found[int(match[1])] = checkpoint
        elif clean:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return found[max(found)] if found else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# super() of the mixin is TRL's trainer, unknown to type checkers: hence three ignores.
class _Mixin:
    """Mixin with PALM's changes to TRL's methods.

    Args:
        tokens: of each prompt, by its formatted text.
        normalized: whether rewards are min–max normalized in each batch.
    """

    state: Any
    accelerator: Any
    args: Any
    reward_func_names: list[str]
    _log_metric: Any

    def __init__(
        self, *given: Any, tokens: Mapping[str, Sequence[int]], normalized: bool, **options: Any
    ) -> None:
        self._tokens, self._normalized = tokens, normalized
        super().__init__(*given, **options)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self._tokens[prompt]) for prompt in prompts], None, {}

    def _calculate_rewards(self, *given: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*given)  # type: ignore[misc]  # a mixin
        if not self._normalized:
            return rewards
        for name, column in zip(self.reward_func_names, rewards.T, strict=True):
            self._log_metric(f"rewards/{name}/before", column.nanmean().item())
        return min_max(rewards)

    def training_step(self, *given: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **options)  # type: ignore[misc]  # a mixin
        if not torch.isfinite(loss):
            raise not_finite("loss", self.state.global_step + 1, self.args)
        return loss

    def _save_checkpoint(self, *given: Any, **options: Any) -> None:
        super()._save_checkpoint(*given, **options)  # type: ignore[misc]  # a mixin
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_whole(self.args.output_dir, self.state.global_step)


class Grpo(_Mixin, GRPOTrainer):
    """Group relative policy optimization (Shao et al. 2024)."""


class Rloo(_Mixin, RLOOTrainer):
    """REINFORCE leave-one-out (Ahmadian et al. 2024)."""


def min_max(rewards: torch.Tensor) -> torch.Tensor:
    """Each objective's rewards (n, d) scaled to [0, 1] over the batch (paper, appendix B.2).

    A reward that is the same for all n becomes 0. NaN (TRL's mark for no score) stays and is
    ignored.
    """
    absent = rewards.isnan()
    low = rewards.masked_fill(absent, torch.inf).amin(dim=0)
    high = rewards.masked_fill(absent, -torch.inf).amax(dim=0)
    spread = high - low
    scaled = torch.where(spread > 0, (rewards - low) / torch.where(spread > 0, spread, 1.0), 0.0)
    return scaled.masked_fill(absent, torch.nan)


def not_finite(what: str, step: int, args: Any) -> WorkError:
    """The error for a NaN or infinite ``what`` at ``step``."""
    half = next((name for name in ("bf16", "fp16") if getattr(args, name)), None)
    other = f", or trainer.{half} = false" if half else ""
    return WorkError(
        f"step {step}: the {what} is not finite; lower trainer.learning_rate = "
        f"{args.learning_rate:g} or trainer.max_grad_norm = {args.max_grad_norm:g}{other}"
    )


_log = logging.getLogger("palm_trl")
#: Seconds between two log lines.
BETWEEN = 20.0


class Curves(TrainerCallback):
    """Writes one JSON object per logged step; resumed training appends after its checkpoint.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said = self._begun = time.monotonic()
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Truncate the log to the steps before the checkpoint."""
        del args, control
        self._first, self._begun = state.global_step, time.monotonic()
        if state.is_world_process_zero:
            lines = [_line(logs) for logs in state.log_history if _of_step(logs)]
            self._path.write_text("".join(lines), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Append a line."""
        del args, control
        logs: dict[str, Any] = given["logs"]
        if not state.is_world_process_zero or not _of_step(logs):
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line({**logs, "step": state.global_step}))
        now, last = time.monotonic(), state.global_step >= state.max_steps
        if now - self._said < BETWEEN and not last:
            return
        self._said = now
        left = (now - self._begun) / (state.global_step - self._first)
        left *= state.max_steps - state.global_step
        values = ", ".join(
            f"{name} {logs[name]:.4g}" for name in ("reward", "kl", "loss") if name in logs
        )
        _log.info(
            "step %d of %d: %s; %.0f s left", state.global_step, state.max_steps, values, left
        )


class FiniteGradients(TrainerCallback):
    """Stops before a gradient that is not finite reaches the weights."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Check the gradient's norm.

        Raises:
            WorkError: it is not finite; only float16 mixed precision recovers from that.
        """
        del control
        found = [one.grad for one in model.parameters() if one.grad is not None]
        if args.fp16 or not found:
            return
        if not torch.isfinite(torch.nn.utils.get_total_norm(found)):
            raise not_finite("gradient", state.global_step + 1, args)


class NoLastCheckpoint(TrainerCallback):
    """Skips the checkpoint after the last step, when the policy is written.

    Resuming from it would train one step more.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cancel the trainer's request for a checkpoint at the end."""
        del args
        if state.global_step >= state.max_steps:
            control.should_save = False


def _of_step(logs: Mapping[str, Any]) -> bool:
    return "loss" in logs  # the summary at the end has none


def _line(logs: Mapping[str, Any]) -> str:
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in logs.items()
    }
    return json.dumps({"step": plain.pop("step"), **plain}) + "\n"
