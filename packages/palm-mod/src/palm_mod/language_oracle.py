"""What `mod` and `soup` have in common as oracles: loading once, and an estimate beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from palm_mod.settings import LanguageSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_mod.decoding import Loaded


@dataclass(eq=False)
class LanguageOracle(LanguageSettings, ABC):
    """An oracle of :class:`~palm_mod.settings.LanguageSettings`. Solving loads the models."""

    #: Weights in one call: those of a run share their forward passes.
    batch: ClassVar[int] = 4096

    _loaded: Loaded | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> Mapping[str, Any]:
        """Without loaded models: a worker loads its own."""
        return {**self.__dict__, "_loaded": None}

    def estimate(self, calls: int | None) -> dict[str, str]:
        """What so many calls take, in words by what it is of; ``None``: not known."""
        from palm_mod.estimating import estimated

        return estimated(self, calls)

    @abstractmethod
    def load(self) -> Loaded:
        """Load what is asked, once."""

    @abstractmethod
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order."""
