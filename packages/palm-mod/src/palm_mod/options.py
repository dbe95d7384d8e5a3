"""Options of `mod` and `soup`: validation, loading of prompts and rewards."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palm_core import InputError
from palm_core.plugin import check_count, check_number
from palm_eval import PromptFormat, Prompts, load_rewards, read_prompts
from palm_eval.plugin import fingerprint_of, located, source_of

if TYPE_CHECKING:
    from palm_eval.plugin import RewardFunction


@dataclass(eq=False)
class LanguageSettings:
    """Options common to `mod` and `soup`. Construction loads no model.

    Args:
        rewards: by objective, in the order of the experts: the name of a reward function,
            a table with its ``name`` and options, or a function with TRL's signature.
        prompts: JSON lines with "prompt" and columns, see
            :func:`~palm_eval.lm.prompts.read_prompts`.
        models: d experts, each a folder or a hub name, "name@revision"; or
        base, adapters: a base model and d LoRA adapters of it.
        reference: π_ref, for ``beta``; with adapters, the base model itself.
        tokenizer: by default the first expert's.
        beta: β ≥ 0 of f(π) = β·KL(π ‖ π_ref), see :mod:`palm_mod.kl`. Without a reference
            f = 0, and each policy's info says so.
        temperature: 0 decodes greedily.
        samples: responses to each prompt; more than 1 needs a temperature.
        new_tokens: maximum tokens of a response.
        total: maximum tokens of prompt and response, besides the experts' context length.
        stop: strings that end a response and are not part of it.
        format, system, shortest, longest, others: the prompt format and the accepted prompt
            lengths, see :class:`~palm_eval.lm.prompts.PromptFormat`.
        skip, first: skip this many prompts, then take this many.
        rows: maximum prefixes in memory at once; ``None`` derives it from free memory.
        device, dtype: see :func:`~palm_mod.experts.load_experts`.
        folder: searched first for relative model names and modules of custom rewards;
            ``None`` is the folder of the prompts.
        cache: a folder where scores are cached between runs.
        epsilon, delta: the slack to claim. How near a mixture is to the best policy is
            unknown, so 1 claims nothing, and nothing is certified beyond the policies found.
            A smaller claim is validated against the run's answers.
        artifact_dir: where responses are written; set by PALM.
        run_seed: the task's seed, for sampling at a temperature.

    Raises:
        InputError: an invalid option; the message names it and the accepted values.
    """

    #: The prefix of its policies' ids.
    kind: ClassVar[str]

    _: KW_ONLY
    rewards: Any
    prompts: Path
    models: Any = None
    base: str | None = None
    adapters: Any = None
    reference: str | None = None
    tokenizer: str | None = None
    beta: float = 0.0
    temperature: float = 0.0
    samples: int = 1
    new_tokens: int = 128
    total: int | None = None
    stop: Any = ()
    format: str = "plain"
    system: str | None = None
    shortest: int = 1
    longest: int | None = None
    others: str = "refuse"
    skip: int = 0
    first: int | None = None
    rows: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    folder: Path | None = None
    cache: Path | None = None
    epsilon: float = 1.0
    delta: float = 0.0
    artifact_dir: Path | None = None
    run_seed: int = 0

    def __post_init__(self) -> None:
        self.beta = check_number(self.beta, name="beta", least=0.0)
        self.temperature = check_number(self.temperature, name="temperature", least=0.0)
        for name, least in (("samples", 1), ("new_tokens", 1), ("run_seed", 0)):
            check_count(getattr(self, name), name=name, least=least)
        for name, least in (("rows", 1), ("total", 2)):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name=name, least=least)
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"samples = {self.samples}: must be 1, or temperature above 0; greedy decoding has "
                "one response"
            )
        if self.beta > 0 and self.reference is None:
            raise InputError(
                f"beta = {self.beta:g}: requires 'reference', the model KL is taken to"
            )
        if self.reference is not None and self.beta == 0 and not self.needs_reference:
            raise InputError(
                f"reference = {self.reference!r}: requires beta above 0; otherwise it has no effect"
            )
        self.put = PromptFormat(
            form=self.format,
            system=self.system,
            shortest=self.shortest,
            longest=self.longest,
            others=self.others,
        )
        self.asked: Prompts = read_prompts(self.prompts, skip=self.skip, first=self.first)
        at = Path(self.prompts)
        self.place = Path(self.folder) if self.folder is not None else at.parent
        self.functions: dict[str, RewardFunction] = load_rewards(self.rewards, self.place)
        self.objectives = tuple(self.functions)
        self._check_experts()

    @property
    def needs_reference(self) -> bool:
        """Whether decoding needs the reference."""
        return False

    def _check_experts(self) -> None:
        name, given = (
            ("models", self.models) if self.adapters is None else ("adapters", self.adapters)
        )
        if (self.models is None) == (self.adapters is None):
            raise InputError("experts: must be given by 'models', or by 'base' and 'adapters'")
        if (self.base is None) != (self.adapters is None):
            raise InputError("base: must be given exactly if 'adapters' is given")
        if isinstance(given, (str, Path)) or not isinstance(given, (list, tuple)):
            raise InputError(f"{name} = {given!r}: must be a list of names or folders")
        if len(given) != len(self.objectives):
            raise InputError(
                f"{name}: {len(given)} for {len(self.objectives)} rewards "
                f"({', '.join(self.objectives)}): must be one each, in their order"
            )

    def located(self, name: str | Path) -> str:
        """The model's folder relative to :attr:`folder` if it exists, else the name unchanged."""
        return located(name, self.place)

    def sources(self) -> dict[str, Any]:
        """Options of :func:`~palm_mod.experts.load_experts`."""
        one = {"base": self.base, "reference": self.reference, "tokenizer": self.tokenizer}
        several = {"models": self.models, "adapters": self.adapters}
        return {
            **{key: value and self.located(value) for key, value in one.items()},
            **{
                key: values and [self.located(value) for value in values]
                for key, values in several.items()
            },
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the contents of models, prompts and rewards, and of the settings.

        Raises:
            InputError: a model was not found.
        """
        where = self.sources()
        named = [where["base"], where["reference"], where["tokenizer"]]
        named += [*(where["models"] or ()), *(where["adapters"] or ())]
        return fingerprint_of(
            self.kind,
            models=[None if name is None else source_of(name) for name in named],
            prompts=[self.asked],
            rewards=self.functions,
            settings={name: getattr(self, name) for name in self._fingerprint_names()},
        )

    @property
    def measured(self) -> str:
        """How f is measured, in words."""
        if self.beta == 0:
            return "0: no reference is given" if self.reference is None else "0: beta is 0"
        if self.temperature == 0:
            return "beta * KL, exact: -log of the reference's probability of the response"
        return "beta * KL, exact at each step along the responses drawn"

    def _fingerprint_names(self) -> list[str]:
        """Names of the settings that are part of the fingerprint."""
        elsewhere = {"rewards", "prompts", "models", "base", "adapters", "reference", "tokenizer"}
        unimportant = {"rows", "device", "folder", "cache", "artifact_dir", "epsilon", "delta"}
        if self.temperature == 0:
            unimportant |= {"run_seed"}
        names = [one.name for one in fields(self) if not one.name.startswith("_")]
        return [name for name in names if name not in elsewhere | unimportant]
