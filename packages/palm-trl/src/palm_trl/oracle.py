"""The oracle `grpo`: for a weight vector, the policy that reinforcement learning finds for it.

Paper, section 4 and appendix B.2. It trains π_w for

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref),    π_ref the model it starts from,

and then measures r and f = β·KL by itself, on prompts that are fixed for all policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from palm_trl.settings import GrpoSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import Policy


class GrpoOracle(GrpoSettings):
    """Fine-tunes a language model for each weight vector. Making one loads no model.

    Takes the options of :class:`~palm_trl.settings.GrpoSettings`; those of TRL's are put to
    TRL at once.

    Raises:
        InputError: an option is wrong: named, with what would be accepted.
    """

    #: Nothing is shared between weight vectors.
    batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trainer:
            from palm_trl.config import check_config

            check_config(self)

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order, each when it is trained.

        Raises:
            InputError: the model, a prompt or an option of TRL's is not what it must be.
            WorkError: training or measuring failed; the line says at which step, and what to
                change.
        """
        from palm_trl.answering import answer

        for row in weights:
            yield answer(self, row)

    def estimate(self, calls: int | None) -> dict[str, str]:
        """What so many calls take, in words by what it is of; ``None``: not known."""
        from palm_trl.estimating import estimated

        return estimated(self, calls)

    def remeasure(
        self, policy: Policy, *, artifact: Path, prompts: int, samples: int | None = None
    ) -> Policy:
        """Measure a policy again, on the first ``prompts`` of the evaluation's source.

        Args:
            policy: of a run of this oracle.
            artifact: its folder.
            prompts: at least 1, and as many as there are at most.
            samples: responses to each; ``None`` as in the run.

        Raises:
            InputError: there are not so many prompts, or the artifact is not the policy's.
            WorkError: measuring failed.
        """
        from palm_trl.remeasuring import remeasured

        return remeasured(self, policy, artifact=artifact, prompts=prompts, samples=samples)
