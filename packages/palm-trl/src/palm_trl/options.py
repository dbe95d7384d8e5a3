"""TRL's options: what PALM sets by default and why, what it sets itself, what may be said.

GRPO with TRL's own defaults optimises something else than

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref).

Each entry of :data:`RECIPES` says what it is there for. With them the expected gradient of
TRL 1.16's loss is, exactly,

* `rloo`: that of J_w, KL of whole responses;
* `grpo`: that of J_w with each step's KL taken at prefixes as they come, so that what a token
  does to the KL of later ones is not seen;
* `grpo` as in the paper: of neither; its KL term has the gradient of KL(π_ref ‖ π), and long
  responses count less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from palm_core.errors import InputError
from palm_core.simplex import check_count
from palm_core.text import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHMS = ("grpo", "rloo")
PRESETS = ("objective", "paper")
TUNINGS = ("lora", "full")

#: By preset and algorithm, options of TRL's configuration.
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("objective", "grpo"): {
        # "group" divides advantages by their spread: the effective beta is beta times it
        "scale_rewards": "none",
        "multi_objective_aggregation": "sum_then_normalize",
        # a constant in place of each batch's length: long answers count by their tokens
        "loss_type": "dr_grpo",
        # without it the gradient of k3 is that of the KL the other way round
        "use_bias_correction_kl": True,
        # or policy and reference would differ before the first step
        "disable_dropout": True,
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
    },
    ("objective", "rloo"): {
        # KL is part of the reward, at sequence level: the gradient is that of J_w itself
        "normalize_advantages": False,
        "disable_dropout": True,
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
    },
    # section 4 and appendix B.2; 48 prompts times 4 samples are 192 completions a step
    ("paper", "grpo"): {
        "scale_rewards": "group",
        "loss_type": "grpo",
        "use_bias_correction_kl": False,
        "num_generations": 4,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 12,
        "learning_rate": 5e-7,
        "optim": "adamw_torch",
        "bf16": True,
    },
}
#: Options of the oracle that a preset sets too, where the task does not.
PRESET_OPTIONS: dict[str, dict[str, Any]] = {
    "objective": {"beta": 0.01, "steps": 200, "new_tokens": 256, "tuning": "lora"},
    "paper": {"beta": 0.01, "steps": 208, "new_tokens": 256, "tuning": "full"},
}
LEARNING_RATES = {"lora": 1e-5, "full": 1e-6}

#: What PALM sets, and by what it is asked for.
OURS = {
    "beta": "[oracle] beta",
    "max_steps": "[oracle] steps",
    "num_train_epochs": "[oracle] steps",
    "max_completion_length": "[oracle] new_tokens",
    "temperature": "[oracle] temperature",
    "save_steps": "[oracle] checkpoint_every",
    "save_strategy": "[oracle] checkpoint_every",
    "use_cpu": "[oracle] device",
    "model_init_kwargs": "[oracle] dtype",
    "chat_template_kwargs": "[oracle] format",
    "seed": "[run] seed",
    "data_seed": "[run] seed",
    "reward_weights": "the weight vector asked",
    "output_dir": "the run's folder",
    "resume_from_checkpoint": "the run's folder",
    "remove_unused_columns": "PALM, whose rewards see all columns",
    "save_only_model": "PALM, which goes on from checkpoints",
    "ignore_data_skip": "PALM, which goes on from checkpoints",
    "load_best_model_at_end": "PALM, which keeps the last",
    "push_to_hub": "palm export, which writes what can be uploaded",
    "save_total_limit": "PALM, which goes on from checkpoints",
    "logging_nan_inf_filter": "PALM, which stops there",
    "disable_tqdm": "PALM",
    "do_train": "PALM",
    "do_eval": "PALM, which measures by itself",
    "eval_strategy": "PALM, which measures by itself",
}


def trainer_options(
    algorithm: str, preset: str, tuning: str, given: Mapping[str, Any], *, processes: int = 1
) -> dict[str, Any]:
    """The recipe with what the task says in its stead; names checked.

    Args:
        algorithm: see :class:`~palm_trl.oracle.GrpoOracle`.
        preset: likewise.
        tuning: likewise.
        given: the table ``[oracle.trainer]``.
        processes: that train together.

    Raises:
        InputError: an option that TRL does not have, or that is set elsewhere; a batch that
            cannot be divided into groups.
    """
    if (preset, algorithm) not in RECIPES:
        raise InputError(
            f"preset = {preset!r}: is for algorithm = 'grpo', must be 'objective' for {algorithm!r}"
        )
    for name in given:
        if name in OURS:
            raise InputError(f"trainer.{name}: is set by {OURS[name]}, must be left out")
    if given:
        known = trl_names(algorithm)
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise InputError(f"trainer.{name}: TRL's {algorithm} has no such option{hint}")
    chosen = {
        "learning_rate": LEARNING_RATES[tuning],
        "report_to": "none",
        "logging_steps": 1,
        **RECIPES[preset, algorithm],
        **given,
    }
    _check_groups(chosen, processes)
    return chosen


def config_class(algorithm: str) -> type[Any]:
    """TRL's configuration of ``algorithm``, "grpo" or "rloo". Imports TRL."""
    if algorithm == "grpo":
        from trl.trainer.grpo_config import GRPOConfig

        return cast("type[Any]", GRPOConfig)
    from trl.trainer.rloo_config import RLOOConfig

    return cast("type[Any]", RLOOConfig)


def trl_names(algorithm: str) -> list[str]:
    """The options that TRL's configuration of ``algorithm`` has."""
    from dataclasses import fields

    return sorted(one.name for one in fields(config_class(algorithm)) if one.init)


def _check_groups(chosen: Mapping[str, Any], processes: int) -> None:
    names = ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps")
    for name in names:
        check_count(chosen[name], name=f"trainer.{name}", least=1 + (name == names[0]))
    group, each, accumulated = (chosen[name] for name in names)
    batch = chosen.get("generation_batch_size")
    what = f"generation_batch_size = {batch}"
    if batch is None:
        rounds = chosen.get("steps_per_generation") or accumulated
        batch = each * processes * rounds
        what = f"{each} per device × {processes} processes × {rounds} = {batch} completions"
    if batch % group:
        raise InputError(
            f"trainer.num_generations = {group}: {one_line(what)} a batch, must be a multiple of it"
        )
