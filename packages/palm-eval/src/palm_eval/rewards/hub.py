"""Hugging Face models and tokenizers: loading them, and knowing one from another.

Nothing here imports PyTorch or transformers before it is needed.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from palm_core.errors import InputError
from palm_core.text import one_line, reason

# Files up to this size are compared by what they hold, larger ones (weights) by size and
# time of change: reading 16 GB anew for every report would take a minute.
_SMALL = 32 * 1024 * 1024


def require_hf(what: str) -> None:
    """Raise :class:`InputError` naming the extra where PyTorch or transformers is missing."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{what} needs {' and '.join(missing)}, not installed: install palm-eval with its "
            "extra [hf]; where a checkout of the PALM repository has it: "
            "pip install ./packages/palm-core './packages/palm-eval[hf]'"
        )


def load_tokenizer(source: str, revision: str | None) -> Any:
    """The tokenizer of a name or folder.

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
    """What to raise where transformers could not load ``source``."""
    return InputError(
        f"{kind} = {one_line(repr(source), 200)}: cannot be loaded, must be a name on the Hugging "
        f"Face hub or a folder made by save_pretrained: {reason(error)}"
    )


def source_identity(source: str, revision: str | None) -> str:
    """What tells this model or tokenizer from another: its files' contents or its commit.

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
        raise InputError(f"model = {one_line(repr(source), 200)}: its commit cannot be told")
    return f"hub:{source}@{commit}"


def tokenizer_identity(tokenizer: Any) -> str | None:
    """What tells a loaded tokenizer from another, or ``None`` where that cannot be told."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return "tokenizer:" + hashlib.sha256(backend.to_str().encode()).hexdigest()
