"""TRL's trainers with what PALM needs of them: its own tokens, min–max rewards, whole checkpoints.

Three private methods of TRL 1.16 are overridden; tests/trl/test_canary.py watches over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from palm_core.errors import WorkError
from palm_trl.checkpoints import mark_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# A mixin's super() is TRL's trainer, which a type checker cannot know: hence its three ignores.
class _Mixin:
    """Keeps what PALM adds in front of TRL's methods.

    Args:
        tokens: of each prompt, by its text as it is put.
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

    A reward that is the same for all n says nothing about them: it becomes 0. NaN (no score,
    as TRL marks it) stays, and counts for nothing.
    """
    absent = rewards.isnan()
    low = rewards.masked_fill(absent, torch.inf).amin(dim=0)
    high = rewards.masked_fill(absent, -torch.inf).amax(dim=0)
    spread = high - low
    scaled = torch.where(spread > 0, (rewards - low) / torch.where(spread > 0, spread, 1.0), 0.0)
    return scaled.masked_fill(absent, torch.nan)


def not_finite(what: str, step: int, args: Any) -> WorkError:
    """What to raise where ``what`` is NaN or infinite at ``step``."""
    half = next((name for name in ("bf16", "fp16") if getattr(args, name)), None)
    other = f", or trainer.{half} = false" if half else ""
    return WorkError(
        f"step {step}: the {what} is not finite; lower trainer.learning_rate = "
        f"{args.learning_rate:g} or trainer.max_grad_norm = {args.max_grad_norm:g}{other}"
    )
