"""What training tells while it goes: training.jsonl, lines of the log, and where it must stop."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from palm_trl.trainers import not_finite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger("palm_trl")
#: Seconds between two lines of the log.
BETWEEN = 20.0


class Curves(TrainerCallback):
    """Writes one JSON object for each logged step; a resumed training goes on where it stood.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said = self._begun = time.monotonic()
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what was logged before the checkpoint, and nothing after it."""
        del args, control
        self._first, self._begun = state.global_step, time.monotonic()
        if state.is_world_process_zero:
            lines = [_line(logs) for logs in state.log_history if _of_step(logs)]
            self._path.write_text("".join(lines), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Add a line."""
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
        told = ", ".join(
            f"{name} {logs[name]:.4g}" for name in ("reward", "kl", "loss") if name in logs
        )
        _log.info("step %d of %d: %s; %.0f s left", state.global_step, state.max_steps, told, left)


class FiniteGradients(TrainerCallback):
    """Stops before a gradient that is not finite reaches the weights."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Look at the gradient's norm.

        Raises:
            WorkError: it is not finite, which mixed precision in float16 alone copes with.
        """
        del control
        found = [one.grad for one in model.parameters() if one.grad is not None]
        if args.fp16 or not found:
            return
        if not torch.isfinite(torch.nn.utils.get_total_norm(found)):
            raise not_finite("gradient", state.global_step + 1, args)


class NoLastCheckpoint(TrainerCallback):
    """Leaves out the checkpoint after the last step: the policy is written then.

    The trainer would go on from it by one step more.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take back what the trainer asks for at its end."""
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
