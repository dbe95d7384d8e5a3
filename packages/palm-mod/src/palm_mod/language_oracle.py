"""Base class of `mod` and `soup`: models loaded once, and estimates of resources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from palm_eval.plugin import computing, downloads, gigabytes, judges_of, sized, source_of
from palm_mod.options import LanguageSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_mod.decoding import Loaded


def estimated(settings: LanguageSettings, calls: int | None) -> dict[str, str]:
    """Estimate the resources of ``calls`` oracle calls, as texts by resource.

    Args:
        settings: the models and prompts.
        calls: their number; ``None`` if unknown.
    """
    where = settings.sources()
    named = [*(where["models"] or ()), *([where["base"]] if where["base"] else ())]
    if where["reference"] and where["adapters"] is None:
        named.append(where["reference"])
    experts = [sized(source_of(name)) for name in named]
    judges = judges_of(settings.functions)
    adapters = [sized(source_of(name)) for name in where["adapters"] or ()]
    found = {"downloads": downloads([*experts, *adapters, *judges])}
    sizes = [one.parameters for one in experts]
    if any(size is None for size in sizes):
        return found
    held = sum(size or 0.0 for size in sizes)
    scored = sum(judge.parameters or 0.0 for judge in judges)
    each = 4 if settings.dtype == "float32" else 2
    found["memory"] = (
        f"{gigabytes(held * each + scored * 2)} for the models"
        + (" and the reward models" if judges else "")
        + "; caches on top"
    )
    # Each adapter is a row of its own in the base model's batch.
    rows = len(settings.objectives) if where["adapters"] is not None else 1
    tokens = len(settings.asked.texts) * settings.samples * settings.new_tokens
    found["computing"] = (
        computing(tokens * scored * 2.0, tokens * held * 2.0 * rows, calls)
        + "; less where weights agree on what they answer"
    )
    return found


@dataclass(eq=False)
class LanguageOracle(LanguageSettings, ABC):
    """Base class of oracles that decode with experts; the models are loaded on first use."""

    #: Weights in one call: all weights of a run share their forward passes.
    batch: ClassVar[int] = 4096

    _loaded: Loaded | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> Mapping[str, Any]:
        """Pickle without loaded models: each worker loads its own."""
        return {**self.__dict__, "_loaded": None}

    def estimate(self, calls: int | None) -> dict[str, str]:
        """Estimate the resources of ``calls`` calls, as texts by resource; ``None``: unknown."""
        return estimated(self, calls)

    @abstractmethod
    def load(self) -> Loaded:
        """Load models and prompts, once."""

    @abstractmethod
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order."""
