"""What the oracle `grpo` is asked, as data: options checked, prompts and rewards found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palm_core.errors import InputError
from palm_core.simplex import check_count, check_number
from palm_core.text import one_line
from palm_eval.language.fingerprints import fingerprint_of
from palm_eval.language.prompts import PromptFormat
from palm_eval.language.reward_tables import load_rewards
from palm_eval.language.sources import Source, located, source_of
from palm_trl.options import (
    ALGORITHMS,
    PRESET_OPTIONS,
    PRESETS,
    TUNINGS,
    trainer_options,
)
from palm_trl.prompt_sets import PromptSet

if TYPE_CHECKING:
    from palm_eval.language.prompt_files import Prompts
    from palm_eval.rewards.base import RewardFunction

KL_KINDS = ("sequence", "token")
STARTS = ("base", "nearest")
LAUNCHERS = ("python", "torchrun", "accelerate", "here")


@dataclass(eq=False)
class GrpoSettings:
    """The options of :class:`~palm_trl.oracle.GrpoOracle`. Making them loads no model.

    What each is, says the oracle; the calls, which only read them, take these.

    Raises:
        InputError: an option is wrong: named, with what would be accepted.
    """

    #: The beginning of its policies' ids, and what their info says.
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
            _check_choice(getattr(self, name), accepted, name)
        for name, value in PRESET_OPTIONS[self.preset].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        _check_choice(self.tuning, TUNINGS, "tuning")
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
            raise InputError("lora: goes with tuning = 'lora' only")
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
                f"rewards.{unnamed}: is a function, which a process of its own cannot be told of; "
                "must be the name of a reward or 'module:function', or launcher = 'here'"
            )
        self.options = trainer_options(
            self.algorithm, self.preset, str(self.tuning), self.trainer, processes=self.processes
        )

    def _check_start(self) -> None:
        if self.warm_steps is not None:
            check_count(self.warm_steps, name="warm_steps", least=1)
            if self.start == "base":
                raise InputError(f"warm_steps = {self.warm_steps}: goes with start = 'nearest'")
        if self.start == "nearest" and self.tuning == "full":
            raise InputError("start = 'nearest': needs adapters, must go with tuning = 'lora'")

    def _check_launch(self) -> None:
        if isinstance(self.launch, str) or not all(isinstance(one, str) for one in self.launch):
            raise InputError(f"launch = {self.launch!r}: must be a list of arguments")
        self.launch = list(self.launch)
        if self.launcher in ("python", "here"):
            if self.processes != 1:
                raise InputError(
                    f"processes = {self.processes}: must be 1 with launcher = {self.launcher!r}, "
                    "or launcher = 'torchrun' or 'accelerate'"
                )
            if self.launch:
                raise InputError("launch: goes with launcher = 'torchrun' or 'accelerate' only")

    def _unnamed_rewards(self) -> str | None:
        for name, given in self.rewards.items():
            if callable(given):
                return str(name)
        return None

    @cached_property
    def training_prompts(self) -> Prompts:
        """What is trained on."""
        return self._train_set.read(self.task_dir, "prompts")

    @cached_property
    def evaluation_prompts(self) -> Prompts:
        """What every policy is measured on."""
        name = "prompts" if self.evaluation is None else "evaluation"
        return self._test_set.read(self.task_dir, name)

    def more_prompts(self, count: int) -> Prompts:
        """The first ``count`` of the evaluation's source, to measure again on.

        Raises:
            InputError: there are not so many.
        """
        name = "prompts" if self.evaluation is None else "evaluation"
        return self._test_set.read(self.task_dir, name, first=count)

    @property
    def source(self) -> Source:
        """Where the model is."""
        return source_of(located(self.model, self.task_dir))

    @property
    def tokenizer_source(self) -> Source:
        """Where its tokenizer is."""
        if self.tokenizer is None:
            return self.source
        return source_of(located(self.tokenizer, self.task_dir))

    @property
    def fingerprint(self) -> str:
        """Changes with the content of the model, prompts and rewards, and with any setting.

        Raises:
            InputError: a model or prompts that are not there.
        """
        return fingerprint_of(
            self.kind,
            models=[self.source, self.tokenizer_source],
            prompts=[self.training_prompts, self.evaluation_prompts],
            rewards=self.functions,
            settings={name: getattr(self, name) for name in self._told()} | self.options,
        )

    def _told(self) -> list[str]:
        """The settings that answers depend on."""
        elsewhere = {"rewards", "prompts", "evaluation", "model", "tokenizer", "trainer"}
        unimportant = {
            *("rows", "device", "task_dir", "artifact_dir", "work_dir", "epsilon", "delta"),
            *("checkpoint_every", "launcher", "launch"),
        }
        names = [one.name for one in fields(self) if not one.name.startswith("_")]
        return [name for name in names if name not in elsewhere | unimportant]

    def plain_options(self) -> dict[str, Any]:
        """The options as JSON has them, for the process that a call runs in."""
        names = [one.name for one in fields(self) if not one.name.startswith("_")]
        return dict(json.loads(json.dumps({n: getattr(self, n) for n in names}, default=str)))


def _check_choice(value: object, accepted: tuple[str, ...], name: str) -> None:
    if value not in accepted:
        raise InputError(f"{name} = {value!r}: must be one of {', '.join(map(repr, accepted))}")


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name} = {one_line(repr(value), 80)}: must be a table of options")
    return dict(value)
