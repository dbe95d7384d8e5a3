"""Models of a run's portfolio: located in its artifacts, validated against the ledger.

A model is a folder that peft or transformers can load: an adapter or a full model. Only known
file names are copied, only safetensors, and no links that lead out of the folder.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Portfolio
from palm_core.plugin import (
    ARTIFACTS,
    Ledger,
    is_folder,
    locate_artifact,
    one_line,
    read_bounded,
    unportable_name,
    verify_artifact,
)
from palm_eval.plugin import source_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_core import Policy
    from palm_core.plugin import Answer, Artifact

ADAPTER, FULL = "adapter", "full"
_CONFIG = {ADAPTER: "adapter_config.json", FULL: "config.json"}
_WEIGHTS = {ADAPTER: "adapter_model", FULL: "model"}
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
)
_LARGEST_CONFIG = 1 << 24

#: LoRA ranks that vLLM's ``--max-lora-rank`` accepts.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Options of an adapter that vLLM refuses or, as with patterns, silently ignores.
_UNSERVED = (
    *("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"),
    *("layer_replication", "trainable_token_indices", "target_parameters", "arrow_config"),
    *("use_qalora", "use_bdlora", "alora_invocation_tokens"),
)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model in a folder.

    Args:
        kind: "adapter" or "full".
        config: its configuration.
        weights: its files, including the configuration.
        tokenizer: the files of its tokenizer; empty if it has none.
    """

    kind: str
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]

    @property
    def rank(self) -> int:
        """The rank of an adapter."""
        return int(self.config["r"])

    def copy(self, folder: Path) -> None:
        """Write the model and its tokenizer into the new ``folder``."""
        folder.mkdir(parents=True)
        for file in (*self.tokenizer, *self.weights):
            shutil.copyfile(file, folder / file.name)


def find_model(folder: Path, what: str) -> ModelFiles:
    """Find the model in ``folder``, or in the only subfolder that has one.

    Args:
        folder: a policy's artifact.
        what: its name in error messages.

    Raises:
        InputError: there is none, or several; it is not LoRA; its weights are not
            safetensors; one of its files is outside the folder.
    """
    places = [folder] if _kind(folder) else sorted(p for p in folder.iterdir() if _kind(p))
    if not places:
        raise InputError(
            f"{what}: its artifact has no model, neither an {_CONFIG[ADAPTER]} nor a "
            f"{_CONFIG[FULL]}; 'soup' keeps models with save_models = true, 'mod' has none"
        )
    if len(places) > 1:
        raise InputError(f"{what}: its artifact has {len(places)} models, must have one")
    (place,) = places
    kind = str(_kind(place))
    config = read_config(place / _CONFIG[kind], what)
    weights = [*place.glob(f"{_WEIGHTS[kind]}*.safetensors")]
    if not weights:
        raise InputError(f"{what}: must have its weights in {_WEIGHTS[kind]}.safetensors")
    extra = [
        file
        for name in (f"{_WEIGHTS[kind]}.safetensors.index.json", "generation_config.json")
        if (file := place / name).exists()
    ]
    if kind == ADAPTER:
        _check_lora(config, what)
    tokenizer = _tokenizer(place) or _tokenizer(folder)
    files = ModelFiles(
        kind=kind,
        config=config,
        weights=(place / _CONFIG[kind], *sorted(weights), *extra),
        tokenizer=tuple(tokenizer),
    )
    root = folder.resolve()
    for file in (*files.weights, *files.tokenizer):
        if not (file.is_file() and file.resolve().is_relative_to(root)):
            raise InputError(f"{what}: {one_line(file.name)} must be a file inside it")
    return files


def unserved(model: ModelFiles) -> str | None:
    """The reason why vLLM cannot serve an adapter as measured; or ``None``."""
    config = model.config
    for name in _UNSERVED:
        if config.get(name):
            return f"{name} = {one_line(json.dumps(config[name]), 80)}, which vLLM does without"
    if config.get("bias", "none") != "none":
        return f"bias = {config['bias']!r}, which vLLM does without"
    if model.rank > RANKS[-1]:
        return f"rank {model.rank}, vLLM serves at most {RANKS[-1]}"
    return None


def name_base(folder: Path, base: str) -> None:
    """Set the base model in the configuration of the adapter in ``folder``."""
    file = folder / _CONFIG[ADAPTER]
    config = read_config(file, folder.name)
    if config.get("base_model_name_or_path") != base:
        config["base_model_name_or_path"] = base
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _kind(folder: Path) -> str | None:
    if folder.is_symlink() or not folder.is_dir():
        return None
    return next((kind for kind, name in _CONFIG.items() if (folder / name).is_file()), None)


def read_config(file: Path, what: str) -> dict[str, Any]:
    """A model's or an adapter's configuration.

    Args:
        file: its path.
        what: the model's name in error messages.

    Raises:
        InputError: it is not a JSON object.
    """
    data = read_bounded(file, _LARGEST_CONFIG)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: {file.name}: is not JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise InputError(f"{what}: {file.name}: must be a JSON object")
    return found


def _check_lora(config: Mapping[str, Any], what: str) -> None:
    kind, rank = config.get("peft_type"), config.get("r")
    if kind != "LORA":
        raise InputError(f"{what}: peft_type = {one_line(repr(kind), 80)}: must be 'LORA'")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise InputError(f"{what}: r = {one_line(repr(rank), 80)}: must be a rank of at least 1")


def _tokenizer(place: Path) -> list[Path]:
    return [file for name in _TOKENIZER if (file := place / name).exists()]


#: The served name of the adapters' base model.
BASE = "base"
_LONGEST_NAME = 80
_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A policy of the portfolio and its model.

    Args:
        name: its served name and its folder: letters, digits, ".", "_" and "-".
        policy: as measured.
        artifact: as recorded in the ledger.
        files: the model's files.
    """

    name: str
    policy: Policy
    artifact: Artifact
    files: ModelFiles


@dataclass(frozen=True, kw_only=True)
class Base:
    """The adapters' base model: a hub name or an absolute folder.

    Args:
        name: as vLLM and transformers take it.
        revision: of a hub name, or ``None``.
        config: its configuration if it is on this machine; else empty.
    """

    name: str
    revision: str | None
    config: dict[str, Any]

    @property
    def on_hub(self) -> bool:
        """Whether it is a hub name, not a folder."""
        return not Path(self.name).is_absolute()


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The contents of an export.

    Args:
        run: the name of the run's folder.
        portfolio: of the run.
        models: one for each policy of the portfolio, in its order, all of one kind.
        base: of adapters; ``None`` for full models.
        versions: package → version, from the ledger's sessions.
    """

    run: str
    portfolio: Portfolio
    models: tuple[Model, ...]
    base: Base | None
    versions: dict[str, str]


def gather(run: Path, task_dir: Path | None = None, base: str | None = None) -> Gathered:
    """Find the models of a portfolio.

    Args:
        run: the run's folder, or its ``portfolio.json``.
        task_dir: the folder of its task, searched first for the adapters' base model.
        base: the base model, if it has moved: a folder, a hub name, or "name@revision".

    Raises:
        InputError: no portfolio, or no ledger beside it; a policy without a model, or one
            that differs from its record; adapters of a base model that is not found.
    """
    portfolio = Portfolio.load(run)
    folder = run if is_folder(run) else run.parent
    _check_models(portfolio, run)
    with Ledger.read(folder) as ledger:
        answers = ledger.answers()
        versions = {k: v for one in ledger.sessions() for k, v in one.versions.items()}
    names = model_names([policy.id for policy in portfolio.policies])
    models = tuple(
        _model(folder / ARTIFACTS, policy, name, answers)
        for policy, name in zip(portfolio.policies, names, strict=True)
    )
    kinds = {model.files.kind for model in models}
    if len(kinds) > 1:
        raise InputError(f"{run}: must have only adapters or only full models, has both")
    adapters = kinds == {ADAPTER}
    if base is not None and not adapters:
        raise InputError(f"base = {one_line(repr(base), 200)}: requires adapters, has full models")
    found = None
    if adapters:
        given, revision = _named_base(models, oracle_options(portfolio))
        found = base_of(given, revision, task_dir) if base is None else _moved(base)
    return Gathered(
        run=folder.resolve().name,
        portfolio=portfolio,
        models=models,
        base=found,
        versions=versions,
    )


def oracle_options(portfolio: Portfolio) -> dict[str, Any]:
    """The task's table ``[oracle]``, without defaults."""
    found = (portfolio.task or {}).get("oracle")
    return dict(found) if isinstance(found, dict) else {}


def model_names(ids: Sequence[str]) -> list[str]:
    """Names of policies that are safe in shells, URLs and file systems.

    Example:
        >>> model_names(["grpo-w0.5-0.5", "a b", "a,b"])
        ['grpo-w0.5-0.5', 'a-b', 'a-b-2']
    """
    taken, names = {BASE}, []
    for policy in ids:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", policy).strip("._-")[:_LONGEST_NAME].rstrip(".")
        if not plain or unportable_name(plain):
            plain = f"policy-{plain}".rstrip("-")
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _check_models(portfolio: Portfolio, run: Path) -> None:
    bare = [policy for policy in portfolio.policies if policy.artifact is None]
    if not bare:
        return
    asked = one_line(repr(oracle_options(portfolio).get("name")), 80)
    raise InputError(
        f"{one_line(run)}: policy {one_line(repr(bare[0].id), 80)} has no model to export "
        f"(oracle: {asked}); must be a run of 'grpo', or of 'soup' with save_models = true"
    )


def _model(root: Path, policy: Policy, name: str, answers: Sequence[Answer]) -> Model:
    what = f"policy {one_line(repr(policy.id), 80)}"
    answer = next((one for one in answers if _is(one, policy)), None)
    if answer is None:
        raise InputError(
            f"{what}: no answer in the run's ledger is this policy; the portfolio must be the "
            "run's own (palm prune RUN makes it again)"
        )
    if answer.artifact is None:
        raise InputError(
            f"{what}: its model {one_line(repr(policy.artifact), 200)} must be inside the run, "
            "whose ledger has the hash of the measured model"
        )
    wrong = verify_artifact(root, answer.artifact)
    if wrong is not None:
        raise InputError(f"{what}: differs from the measured model: {wrong}")
    place = locate_artifact(root, answer.artifact.path)
    if not place.is_dir():
        raise InputError(f"{what}: {one_line(place.name)} is a file, must be a folder with a model")
    files = find_model(place, what)
    return Model(name=name, policy=policy, artifact=answer.artifact, files=files)


def _is(answer: Answer, policy: Policy) -> bool:
    """Whether the portfolio's policy equals the recorded answer."""
    found = answer.policy
    return (
        found.id == policy.id
        and found.artifact == policy.artifact
        and np.array_equal(found.weights, policy.weights)
        and np.array_equal(found.rewards, policy.rewards)
        and found.regularizer == policy.regularizer
    )


def base_of(given: str, revision: str | None, task_dir: Path | None) -> Base:
    """Locate the adapters' base model.

    A run does not record its task's path, and the model's folder may be relative to that.

    Args:
        given: its name or folder, as recorded in the adapters.
        revision: of a name.
        task_dir: searched for the folder before the current one.

    Raises:
        InputError: there is no such folder, and it is not a valid hub name.
    """
    for folder in (*([] if task_dir is None else [task_dir / given]), Path(given)):
        if folder.is_dir() or folder.is_absolute():
            config = folder / "config.json"
            known = read_config(config, "the base model") if config.is_file() else {}
            return Base(name=str(folder.resolve()), revision=None, config=known)
    if _HUB.fullmatch(given):
        return Base(name=given, revision=revision, config=_cached_config(given, revision))
    raise InputError(
        f"base model {one_line(repr(given), 200)}: no such folder; must be beside the task "
        "(--task TASK), or given (--base MODEL)"
    )


def _cached_config(name: str, revision: str | None) -> dict[str, Any]:
    """The configuration of a hub model from the local cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return {}
    return read_config(Path(found), "the base model") if isinstance(found, str) else {}


def _moved(base: str) -> Base:
    source = source_of(base)
    if source.name.startswith("-"):
        raise InputError(f"base = {one_line(repr(base), 80)}: must be a folder or a name")
    return base_of(source.name, source.revision, None)


def _named_base(models: Sequence[Model], asked: Mapping[str, Any]) -> tuple[str, str | None]:
    """The common base model of all adapters, and its revision, as they name it.

    Args:
        models: adapters.
        asked: the oracle's options.

    Raises:
        InputError: no adapter names a base model, or they name different ones.
    """
    names = {}
    for model in models:
        given = model.files.config.get("base_model_name_or_path")
        if not isinstance(given, str) or not given or given.startswith("-"):
            raise InputError(
                f"policy {one_line(repr(model.policy.id), 80)}: base_model_name_or_path = "
                f"{one_line(repr(given), 80)}: must be the model that its adapter is for"
            )
        names[given] = model
    if len(names) > 1:
        raise InputError(f"adapters of several models: {one_line(', '.join(names))}; must be one")
    ((given, model),) = names.items()
    revision = model.files.config.get("revision")
    if revision is None:  # the adapter may lack it; the task has "name@revision"
        source = source_of(model.policy.info.get("base") or asked.get("base") or given)
        revision = source.revision if source.name == given else None
    return given, revision if isinstance(revision, str) else None
