"""Estimates of resources before loading: parameters, downloads, compute.

Estimates state their assumptions. Nothing is downloaded and no weights are read.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_eval.lm.sources import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from palm_eval.lm.sources import Source
    from palm_eval.rewards.base import RewardFunction

#: Peak bfloat16 operations per second of an H100 or H200; a multiply-add counts as two.
PEAK = 989e12
#: Utilisation of the peak in training, and in generation, which is memory-bound.
TRAINING, GENERATING = 0.4, 0.05
_BYTES = 2  # of a parameter, as usually published
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)\s*([bm])(?![A-Za-z0-9])", re.IGNORECASE)
_LARGEST_HEADER = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A model and its size.

    Args:
        name: as requested.
        parameters: their number, ``None`` if unknown.
        here: whether it is a local folder, or in the hub's cache.
    """

    name: str
    parameters: float | None
    here: bool

    def __str__(self) -> str:
        return f"{self.name} ({'size unknown' if self.parameters is None else self.size})"

    @property
    def size(self) -> str:
        """Number of parameters, in words."""
        count = self.parameters or 0.0
        if count >= 1e8:
            return f"{count / 1e9:.2g} billion"
        return f"{count / 1e6:.2g} million" if count >= 1e5 else f"{count:.0f}"


def sized(source: Source) -> Sized:
    """The size of a model: from its local files, else from its name.

    Example:
        >>> from palm_eval.lm.sources import Source
        >>> str(sized(Source("org/Llama-2-7b-hf")))
        'org/Llama-2-7b-hf (7 billion)'
    """
    folder = Path(source.name)
    here = folder.is_dir()
    if not here:
        cached = _cached(source)
        here = cached is not None
        folder = cached or folder
    counted = sum(map(_parameters, folder.glob("*.safetensors"))) if here else 0
    return Sized(
        name=str(source), parameters=float(counted) if counted else _named(source.name), here=here
    )


def judges_of(rewards: Mapping[str, RewardFunction]) -> list[Sized]:
    """The models used by reward functions."""
    return [
        sized(source_of(name))
        for function in rewards.values()
        for name in getattr(function, "models", ())
    ]


def downloads(models: Iterable[Sized]) -> str:
    """The remaining downloads, in words."""
    missing = {one.name: one for one in models if not one.here}
    if not missing:
        return "none"
    known = sum(one.parameters or 0.0 for one in missing.values()) * _BYTES
    listed = ", ".join(map(str, missing.values()))
    return f"{gigabytes(known)}: {listed}" if known else listed


def gigabytes(count: float) -> str:
    """Format a number of bytes."""
    return "less than 0.1 GB" if count < 1e8 else f"about {count / 1e9:.2g} GB"


def computing(trained: float, generated: float, calls: int | None) -> str:
    """GPU hours for operations of training and of generating, in words.

    Args:
        trained: operations of one call, in training and forward passes.
        generated: operations of one call, in generating token by token.
        calls: their number; ``None`` if unknown.
    """
    hours = (trained / (TRAINING * PEAK) + generated / (GENERATING * PEAK)) / 3600
    together = "" if calls is None else f", {_hours(hours * calls)} in all"
    return (
        f"{_hours(hours)} a call{together}, on an H100 of which training uses {TRAINING:.0%} and "
        f"generating {GENERATING:.0%}"
    )


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return "less than a GPU minute"
    digits = max(0, 1 - math.floor(math.log10(hours)))
    return f"about {round(hours, digits):g} GPU hours"


def _named(name: str) -> float | None:
    found = _SIZE.findall(name.rsplit("/", 1)[-1].replace("-", " ").replace("_", " "))
    if not found:
        return None
    number, unit = found[-1]
    return float(number) * (1e9 if unit.lower() == "b" else 1e6)


def _cached(source: Source) -> Path | None:
    """Its path in the hub's cache; the hub is not contacted."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(source.name, "config.json", revision=source.revision)
    except ValueError:  # not a repository name
        return None
    return Path(found).parent if isinstance(found, str) else None


def _parameters(file: Path) -> int:
    """The number of parameters in a safetensors file, from its header."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > _LARGEST_HEADER:
                return 0
            header: dict[str, Any] = json.loads(opened.read(length))
        return sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    except (OSError, ValueError, struct.error, KeyError, TypeError):
        return 0
