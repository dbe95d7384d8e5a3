"""Sources of language models: hub names and folders, their identities and fingerprints.

PyTorch and transformers are imported on first use.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core import InputError
from palm_core.plugin import error_reason, one_line
from palm_eval.rewards.registry import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from palm_eval.lm.prompts import Prompts
    from palm_eval.rewards.base import RewardFunction

# Files up to this size are compared by content, larger ones (weights) by size and modification
# time: hashing 16 GB for every report would take a minute.
_SMALL = 32 * 1024 * 1024


def require_hf(what: str) -> None:
    """Raise :class:`InputError` naming the extra if PyTorch or transformers is missing."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{what} needs {' and '.join(missing)}, not installed: install palm-eval with its "
            "extra [hf]; where a checkout of the PALM repository has it: "
            "pip install ./packages/palm-core './packages/palm-eval[hf]'"
        )


def load_tokenizer(source: str, revision: str | None) -> Any:
    """Load the tokenizer of a hub name or folder.

    Raises:
        InputError: transformers is missing, or it cannot load the tokenizer.
    """
    require_hf("a tokenizer")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:
        raise cannot_load("tokenizer", source, error) from error


def cannot_load(kind: str, source: str, error: Exception) -> InputError:
    """The error if transformers cannot load ``source``."""
    return InputError(
        f"{kind} = {one_line(repr(source), 200)}: cannot be loaded, must be a name on the Hugging "
        f"Face hub or a folder made by save_pretrained: {error_reason(error)}"
    )


def source_identity(source: str, revision: str | None) -> str:
    """The identity of a model or tokenizer: a hash of its files, or its commit.

    Raises:
        InputError: ``source`` is neither a folder nor a name whose commit can be found.
    """
    folder = Path(source)
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            found = file.stat()
            digest.update(f"{file.relative_to(folder).as_posix()}\0{found.st_size}\0".encode())
            if found.st_size > _SMALL:
                digest.update(f"{found.st_mtime_ns}\0".encode())
            else:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return "files:" + digest.hexdigest()
    require_hf("a model from the Hugging Face hub")
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        resolved = cached_file(source, "config.json", revision=revision)
        commit = extract_commit_hash(resolved, None)
    except Exception as error:
        raise cannot_load("model", source, error) from error
    if commit is None:
        raise InputError(f"model = {one_line(repr(source), 200)}: its commit cannot be determined")
    return f"hub:{source}@{commit}"


def tokenizer_identity(tokenizer: Any) -> str | None:
    """The identity of a loaded tokenizer, or ``None`` if unknown."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return "tokenizer:" + hashlib.sha256(backend.to_str().encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """The source of a model: a folder, or a hub name with its revision."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def identity(self) -> str:
        """The identity of the source: a hash of its files, or its commit.

        Raises:
            InputError: there is no such folder or name.
        """
        return source_identity(self.name, self.revision)


def source_of(name: object) -> Source:
    """Parse a folder, a name or "name@revision".

    Raises:
        InputError: none of these.

    Example:
        >>> source_of("org/name@v1")
        Source(name='org/name', revision='v1')
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise InputError(f"{name!r}: must be the name or folder of a model")
    text = str(name)
    if Path(text).exists() or "@" not in text:
        return Source(text)
    plain, _, revision = text.rpartition("@")
    return Source(plain, revision)


def located(name: str | Path, folder: Path) -> str:
    """The model's folder below ``folder`` if it exists, else its name unchanged."""
    near = folder / name
    return str(near) if near.is_dir() else str(name)


def fingerprint_of(
    kind: str,
    *,
    models: Iterable[Source | None],
    prompts: Iterable[Prompts],
    rewards: Mapping[str, RewardFunction],
    settings: Mapping[str, Any],
) -> str:
    """Hash of the contents of models, prompts and rewards, and of the settings.

    Args:
        kind: of oracle.
        models: in a fixed order, ``None`` for an omitted one.
        prompts: likewise.
        rewards: by objective, in their order.
        settings: all options that affect answers, as plain values.

    Raises:
        InputError: a model was not found.
    """
    content = {
        "kind": kind,
        "models": [None if source is None else source.identity for source in models],
        "prompts": [one.fingerprint for one in prompts],
        "rewards": [[name, identity(function)] for name, function in rewards.items()],
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
