"""What a folder holds that peft or transformers can load: an adapter or a whole model.

Only files with names that such models have are taken, only safetensors, and none that a link
leads out of the folder to.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.files import read_bounded
from palm_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADAPTER, FULL = "adapter", "full"
_CONFIG = {ADAPTER: "adapter_config.json", FULL: "config.json"}
_WEIGHTS = {ADAPTER: "adapter_model", FULL: "model"}
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
)
_LARGEST_CONFIG = 1 << 24

#: LoRA ranks that vLLM sets memory aside for, as its ``--max-lora-rank`` takes them.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Options of an adapter that vLLM refuses, or, as with patterns, silently does without.
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
        config: what its configuration says.
        weights: its files, the configuration too.
        tokenizer: the files of its tokenizer; empty where it has none.
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
        """Write the model and its tokenizer into ``folder``, which is made."""
        folder.mkdir(parents=True)
        for file in (*self.tokenizer, *self.weights):
            shutil.copyfile(file, folder / file.name)


def find_model(folder: Path, what: str) -> ModelFiles:
    """The model in ``folder``, or in the one folder below it that has one.

    Args:
        folder: a policy's artifact.
        what: error messages call it.

    Raises:
        InputError: there is none, or several; it is not LoRA; its weights are not
            safetensors; a file of it lies elsewhere.
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
        raise InputError(f"{what}: has no {_WEIGHTS[kind]}.safetensors, must have its weights so")
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
    """Why vLLM cannot serve an adapter as it was measured, in words; or ``None``."""
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
    """Make the adapter in ``folder`` say that it is for ``base``."""
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
        file: where.
        what: error messages call the model.

    Raises:
        InputError: it is no JSON object.
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
