"""Options of `grpo`: TRL's and PALM's, default recipes, prompt sets.

GRPO with TRL's defaults does not optimise

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref).

Comments explain each entry of :data:`RECIPES`. With them the expected gradient of TRL 1.16's
loss is, exactly,

* `rloo`: that of J_w, KL of whole responses;
* `grpo`: that of J_w with each step's KL taken at sampled prefixes, so that a token's effect
  on the KL of later ones is ignored;
* `grpo` as in the paper: of neither; its KL term has the gradient of KL(π_ref ‖ π), and long
  responses have less influence.

Prompts come from JSON lines, tables, folders or the Hugging Face hub, in the layouts of
:mod:`palm_eval.lm.prompts`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from palm_core import InputError
from palm_core.plugin import (
    check_choice,
    check_count,
    check_number,
    did_you_mean,
    error_reason,
    is_folder,
    one_line,
)
from palm_eval import PromptFormat, Prompts, load_rewards, read_prompts
from palm_eval.plugin import Source, fingerprint_of, located, prompts_of, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_eval.plugin import RewardFunction

ALGORITHMS = ("grpo", "rloo")
PRESETS = ("objective", "paper")
TUNINGS = ("lora", "full")

#: By preset and algorithm, options of TRL's configuration.
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("objective", "grpo"): {
        # "group" divides advantages by their spread: the effective beta is beta times it
        "scale_rewards": "none",
        "multi_objective_aggregation": "sum_then_normalize",
        # a constant in place of each batch's length: long responses count by their tokens
        "loss_type": "dr_grpo",
        # without it the gradient of k3 is that of the reverse direction, KL(π_ref ‖ π)
        "use_bias_correction_kl": True,
        # otherwise policy and reference would differ before the first step
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
#: Oracle options that a preset sets unless the task does.
PRESET_OPTIONS: dict[str, dict[str, Any]] = {
    "objective": {"beta": 0.01, "steps": 200, "new_tokens": 256, "tuning": "lora"},
    "paper": {"beta": 0.01, "steps": 208, "new_tokens": 256, "tuning": "full"},
}
LEARNING_RATES = {"lora": 1e-5, "full": 1e-6}

#: Options of TRL that PALM sets, and where users set them.
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
    """The recipe, overridden by the task's options; their names are validated.

    Args:
        algorithm: see :class:`~palm_trl.grpo.GrpoOracle`.
        preset: likewise.
        tuning: likewise.
        given: the table ``[oracle.trainer]``.
        processes: number of training processes.

    Raises:
        InputError: an option that TRL lacks or that PALM sets; a batch size that
            cannot be divided into groups.
    """
    if (preset, algorithm) not in RECIPES:
        raise InputError(f"preset = {preset!r}: must be 'objective' with algorithm = {algorithm!r}")
    for name in given:
        if name in OURS:
            raise InputError(f"trainer.{name}: is set by {OURS[name]}, must be omitted")
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


_KEYS = ("path", "name", "split", "revision", "skip", "first")
_LOADERS = {".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The source of prompts.

    Args:
        path: a file (.jsonl, .json, .csv, .parquet), a folder that `datasets` can read, or
            the name of a dataset on the hub.
        name: of its configuration, if it has several.
        split: of a folder or dataset; files have only "train".
        revision: of a dataset on the hub.
        skip, first: skip this many, then take this many; ``None`` takes all.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    skip: int = 0
    first: int | None = None

    @classmethod
    def of(cls, given: object, option: str) -> PromptSet:
        """Read an option: a path or name, or a table with ``path``.

        Raises:
            InputError: neither, or an entry that is unknown or has a wrong type; it is named.
        """
        if isinstance(given, (str, Path)):
            given = {"path": str(given)}
        if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
            raise InputError(
                f"{option} = {one_line(repr(given), 80)}: must be a file, a folder, the name of a "
                f"dataset, or a table with path and perhaps {', '.join(_KEYS[1:])}"
            )
        for key, value in given.items():
            if key not in _KEYS:
                raise InputError(f"{option}.{key}: unknown, must be one of {', '.join(_KEYS)}")
            if key in ("skip", "first"):
                check_count(value, name=f"{option}.{key}", least=int(key == "first"))
            elif not isinstance(value, str) or not value:
                raise InputError(f"{option}.{key} = {value!r}: must be text")
        return cls(**given)

    def check(self, folder: Path, option: str) -> None:
        """Refuse a missing file, without access to the hub.

        Raises:
            InputError: names the missing file.
        """
        looks_like_a_file = Path(self.path).suffix.lower() in {".jsonl", *_LOADERS}
        if looks_like_a_file and not (folder / self.path).exists() and not Path(self.path).exists():
            raise InputError(f"{option} = {self.path!r}: no such file in {one_line(folder)}")

    def read(self, folder: Path, option: str, *, first: int | None = None) -> Prompts:
        """Read the prompts.

        Args:
            folder: searched first for a relative path.
            option: its name in messages.
            first: overrides :attr:`first`.

        Raises:
            InputError: nothing found, or neither layout; too few prompts.
        """
        near = folder / self.path
        at = near if near.exists() else Path(self.path)
        wanted = self.first if first is None else first
        if at.suffix.lower() == ".jsonl" or (is_folder(at) and (at / "prompts.jsonl").exists()):
            return read_prompts(at, skip=self.skip, first=wanted)
        place = f"{option} = {self.path!r}"
        rows = islice(self._load(at, place), None if wanted is None else self.skip + wanted)
        named = ((f"{place}, row {number}", row) for number, row in enumerate(rows))
        return prompts_of(named, place, skip=self.skip, first=wanted)

    def _load(self, at: Path, place: str) -> Iterable[Mapping[str, Any]]:
        import datasets

        kind = _LOADERS.get(at.suffix.lower())
        try:
            if at.is_dir() and (at / "dataset_info.json").is_file():
                found: Any = datasets.load_from_disk(str(at))
            elif at.is_dir() and (at / "dataset_dict.json").is_file():
                found = datasets.load_from_disk(str(at))[self.split]
            elif at.is_file() and kind is not None:
                found = datasets.load_dataset(kind, data_files=str(at), split="train")
            else:
                found = datasets.load_dataset(
                    str(at) if at.exists() else self.path,
                    self.name,
                    split=self.split,
                    revision=self.revision,
                )
        except Exception as error:
            raise InputError(
                f"{place}: cannot be read, must be a file (.jsonl, .json, .csv, .parquet), a "
                f"folder or a dataset on the Hugging Face hub: {error_reason(error)}"
            ) from error
        rows: Iterable[Mapping[str, Any]] = found
        return rows


KL_KINDS = ("sequence", "token")
STARTS = ("base", "nearest")
LAUNCHERS = ("python", "torchrun", "accelerate", "here")


@dataclass(eq=False)
class GrpoSettings:
    """The options of :class:`~palm_trl.grpo.GrpoOracle`. Construction loads no model.

    The oracle documents each option; functions that only read options take this class.

    Raises:
        InputError: an invalid option; the message names it and the accepted values.
    """

    #: The prefix of its policies' ids, and the oracle's name in their info.
    kind: ClassVar[str] = "grpo"
    _: KW_ONLY
    model: str
    rewards: Any
    prompts: Any
    evaluation: Any = None
    algorithm: str = "grpo"
    preset: str = "objective"
    trainer: Any = field(default_factory=dict)
    tuning: str | None = None
    lora: Any = field(default_factory=dict)
    beta: float | None = None
    kl: str = "sequence"
    steps: int | None = None
    new_tokens: int | None = None
    temperature: float = 1.0
    samples: int = 4
    rows: int = 64
    start: str = "base"
    warm_steps: int | None = None
    checkpoint_every: int = 50
    launcher: str = "python"
    processes: int = 1
    launch: Any = ()
    tokenizer: str | None = None
    format: str = "plain"
    system: str | None = None
    shortest: int = 1
    longest: int | None = None
    others: str = "refuse"
    device: str = "auto"
    dtype: str = "auto"
    task_dir: Path = Path()
    epsilon: float = 1.0
    delta: float = 0.0
    artifact_dir: Path | None = None
    work_dir: Path | None = None
    run_seed: int = 0

    def __post_init__(self) -> None:
        for name, accepted in (
            ("algorithm", ALGORITHMS),
            ("preset", PRESETS),
            ("kl", KL_KINDS),
            ("start", STARTS),
            ("launcher", LAUNCHERS),
        ):
            check_choice(getattr(self, name), accepted, name=name)
        for name, value in PRESET_OPTIONS[self.preset].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        check_choice(self.tuning, TUNINGS, name="tuning")
        self.beta = check_number(self.beta, name="beta", least=0.0)
        self.temperature = check_number(self.temperature, name="temperature", above=0.0)
        for name in ("steps", "new_tokens", "samples", "rows", "checkpoint_every", "processes"):
            check_count(getattr(self, name), name=name, least=1)
        check_count(self.run_seed, name="run_seed", least=0)
        self._check_start()
        self._check_launch()
        self.trainer = _table(self.trainer, "trainer")
        self.lora = _table(self.lora, "lora")
        if self.tuning == "full" and self.lora:
            raise InputError("lora: requires tuning = 'lora'")
        for name in ("model", "tokenizer"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (name == "model" or value is not None):
                raise InputError(f"{name} = {value!r}: must be a folder or a name on the hub")
        self.task_dir = Path(self.task_dir)
        self.put = PromptFormat(
            form=self.format,
            system=self.system,
            shortest=self.shortest,
            longest=self.longest,
            others=self.others,
        )
        self._train_set = PromptSet.of(self.prompts, "prompts")
        self._test_set = (
            self._train_set
            if self.evaluation is None
            else PromptSet.of(self.evaluation, "evaluation")
        )
        self._train_set.check(self.task_dir, "prompts")
        self._test_set.check(self.task_dir, "evaluation")
        self.functions: dict[str, RewardFunction] = load_rewards(self.rewards, self.task_dir)
        self.objectives = tuple(self.functions)
        if self.launcher != "here" and (unnamed := self._unnamed_rewards()):
            raise InputError(
                f"rewards.{unnamed}: is a function, which cannot be passed to another process; "
                "must be the name of a reward or 'module:function', or launcher = 'here'"
            )
        self.options = trainer_options(
            self.algorithm, self.preset, str(self.tuning), self.trainer, processes=self.processes
        )

    def _check_start(self) -> None:
        if self.warm_steps is not None:
            check_count(self.warm_steps, name="warm_steps", least=1)
            if self.start == "base":
                raise InputError(f"warm_steps = {self.warm_steps}: requires start = 'nearest'")
        if self.start == "nearest" and self.tuning == "full":
            raise InputError("start = 'nearest': requires tuning = 'lora'")

    def _check_launch(self) -> None:
        if isinstance(self.launch, str) or not all(isinstance(one, str) for one in self.launch):
            raise InputError(f"launch = {self.launch!r}: must be a list of arguments")
        self.launch = list(self.launch)
        if self.launcher != "here" and not hasattr(os, "killpg"):
            raise InputError(f"launcher = {self.launcher!r}: needs a POSIX system; use 'here'")
        if self.launcher in ("python", "here"):
            if self.processes != 1:
                raise InputError(
                    f"processes = {self.processes}: must be 1 with launcher = {self.launcher!r}, "
                    "or launcher = 'torchrun' or 'accelerate'"
                )
            if self.launch:
                raise InputError("launch: requires launcher = 'torchrun' or 'accelerate'")

    def _unnamed_rewards(self) -> str | None:
        for name, given in self.rewards.items():
            if callable(given):
                return str(name)
        return None

    @cached_property
    def training_prompts(self) -> Prompts:
        """The training prompts."""
        return self._train_set.read(self.task_dir, "prompts")

    @cached_property
    def evaluation_prompts(self) -> Prompts:
        """The evaluation prompts, the same for every policy."""
        name = "prompts" if self.evaluation is None else "evaluation"
        return self._test_set.read(self.task_dir, name)

    def more_prompts(self, count: int) -> Prompts:
        """The first ``count`` prompts of the evaluation source, for remeasurement.

        Raises:
            InputError: there are too few.
        """
        name = "prompts" if self.evaluation is None else "evaluation"
        return self._test_set.read(self.task_dir, name, first=count)

    @property
    def source(self) -> Source:
        """The model's source."""
        return source_of(located(self.model, self.task_dir))

    @property
    def tokenizer_source(self) -> Source:
        """The tokenizer's source."""
        if self.tokenizer is None:
            return self.source
        return source_of(located(self.tokenizer, self.task_dir))

    @property
    def fingerprint(self) -> str:
        """Hash of the contents of the model, prompts and rewards, and of the settings.

        Raises:
            InputError: the model or prompts were not found.
        """
        return fingerprint_of(
            self.kind,
            models=[self.source, self.tokenizer_source],
            prompts=[self.training_prompts, self.evaluation_prompts],
            rewards=self.functions,
            settings={name: getattr(self, name) for name in self._fingerprint_names()}
            | self.options,
        )

    def _fingerprint_names(self) -> list[str]:
        """Names of the settings that are part of the fingerprint."""
        elsewhere = {"rewards", "prompts", "evaluation", "model", "tokenizer", "trainer"}
        unimportant = {
            *("rows", "device", "task_dir", "artifact_dir", "work_dir", "epsilon", "delta"),
            *("checkpoint_every", "launcher", "launch"),
        }
        names = [one.name for one in fields(self) if not one.name.startswith("_")]
        return [name for name in names if name not in elsewhere | unimportant]

    def plain_options(self) -> dict[str, Any]:
        """The options as JSON values, for the subprocess of a call."""
        names = [one.name for one in fields(self) if not one.name.startswith("_")]
        return dict(json.loads(json.dumps({n: getattr(self, n) for n in names}, default=str)))


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name} = {one_line(repr(value), 80)}: must be a table of options")
    return dict(value)
