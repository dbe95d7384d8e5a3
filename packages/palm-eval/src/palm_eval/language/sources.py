"""Where language models come from: names on the Hugging Face hub, and folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palm_core.errors import InputError
from palm_eval.rewards.hub import source_identity


@dataclass(frozen=True)
class Source:
    """Where a model comes from: its name or folder, and the revision of a name."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def identity(self) -> str:
        """What tells it from another: the contents of its files, or its commit.

        Raises:
            InputError: there is no such folder or name.
        """
        return source_identity(self.name, self.revision)


def source_of(name: object) -> Source:
    """Read a folder, a name or "name@revision".

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
    """A model's folder below ``folder`` where there is one, else its name as it is."""
    near = folder / name
    return str(near) if near.is_dir() else str(name)
