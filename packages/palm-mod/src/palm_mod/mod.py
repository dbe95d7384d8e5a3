"""The oracle `mod`: multi-objective decoding of d experts, for all requested weights together.

Shi et al., "Decoding-time language model alignment with multiple objectives" (NeurIPS 2024);
paper, appendix B.3. Nothing is trained: the policy for w mixes the experts' predictions
token by token (:mod:`palm_mod.mixing`), and weights with a common prefix share it
(:mod:`palm_mod.prefix_tree`).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from palm_core import InputError
from palm_core.plugin import check_choice
from palm_mod.language_oracle import LanguageOracle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_mod.decoding import Loaded
    from palm_mod.mixing import Mixing
    from palm_mod.prefix_tree import Counts
    from palm_mod.simplex_family import Family

_CHOICES = ("reverse-kl", "forward-kl", "alpha", "jensen-shannon")


@dataclass(eq=False)
class ModOracle(LanguageOracle):
    """Mixes d experts at every token; options of :class:`~palm_mod.options.LanguageSettings`.

    Args:
        divergence: "reverse-kl", "forward-kl", "alpha" or "jensen-shannon" (which needs
            the reference for decoding), see :class:`~palm_mod.mixing.Mixing`.
        alpha: of divergence "alpha".
        published: mix raw logits as the code published with MOD does, see
            :mod:`palm_mod.mixing`; to compare with its results.

    Raises:
        InputError: an option with a value that is not accepted, or without one that it requires.

    Attributes:
        counts: the cost of the last call; ``None`` before.

    Example:
        ```toml
        [oracle]
        name = "mod"
        models = ["experts/better", "experts/safe"]
        prompts = "prompts.jsonl"
        format = "safety-alignment"
        total = 200
        [oracle.rewards.better]
        name = "classifier"
        preset = "beaver-reward"
        [oracle.rewards.safe]
        name = "classifier"
        preset = "beaver-cost"
        ```
    """

    kind: ClassVar[str] = "mod"

    _: KW_ONLY
    divergence: str = "reverse-kl"
    alpha: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        check_choice(self.divergence, _CHOICES, name="divergence")
        if self.needs_reference and self.reference is None:
            raise InputError(f"divergence = {self.divergence!r}: requires 'reference'")
        if not isinstance(self.published, bool):
            raise InputError(f"published = {self.published!r}: must be true or false")
        if self.published and self.beta != 0:
            raise InputError("published = true: has no reference to measure KL to, beta must be 0")
        self.counts: Counts | None = None
        super().__post_init__()

    @property
    def needs_reference(self) -> bool:
        """True for Jensen–Shannon only: for the others the reference cancels."""
        return self.divergence == "jensen-shannon" and not self.published

    def mixing(self) -> Mixing:
        """The mixing of the experts."""
        from palm_mod.mixing import Mixing, PublishedMixing

        kind = PublishedMixing if self.published else Mixing
        return kind(self.divergence, self.alpha)  # type: ignore[arg-type]  # checked there

    def load(self) -> Loaded:
        """Load the experts, once.

        Raises:
            InputError: experts or tokenizers that cannot be loaded or do not match.
            WorkError: out of memory.
        """
        if self._loaded is None:
            from palm_mod.decoding import prepare
            from palm_mod.experts import load_experts

            mixing = self.mixing()
            experts = load_experts(**self.sources(), device=self.device, dtype=self.dtype)
            experts.raw_logits = mixing.raw_logits
            self._loaded = prepare(self, experts)
        return self._loaded

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order; all share the prefix trees."""
        from palm_mod.decoding import decode

        loaded = self.load()
        rows = np.array(weights, dtype=np.float64)
        found, self.counts = decode(loaded, loaded.experts, rows, self.mixing())
        loaded.answering.score(
            [
                (prompt, one.tokens)
                for responses in found
                for prompt, several in enumerate(responses)
                for one in several
            ]
        )
        for row, responses in zip(rows, found, strict=True):
            yield loaded.answering.policy(row, responses, kind=self.kind, measured=self.measured)

    def family(self, *, leaves: int = 1000, most_cells: int = 20_000) -> Family:
        """The policies for *all* weights, exactly; see :func:`palm_mod.family_of`.

        Raises:
            InputError: as :func:`palm_mod.family_of`.
        """
        from palm_mod.simplex_family import family_of

        return family_of(self, leaves=leaves, most_cells=most_cells)
