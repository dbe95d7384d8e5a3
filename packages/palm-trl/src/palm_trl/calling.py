"""A call itself, wherever it runs: train, then measure what was trained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_trl.settings import GrpoSettings

#: What a call is asked, and what it measured, in its folder.
CALL, MEASURED = "call.json", "measurement.json"
#: Set where standard input is a pipe that closes when the process that asked is gone.
LEASH = "PALM_TRL_LEASH"


def perform(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> None:
    """Train, and measure the policy, where that is not done yet.

    Of several processes all train, and the first measures.

    Args:
        settings: say how.
        weights: (d,).
        folder: of the call.
        start: see :func:`palm_trl.training.train`.

    Raises:
        InputError: see :func:`palm_trl.training.train` and :func:`palm_trl.measuring.measure`.
        WorkError: likewise.
    """
    from palm_eval.language.memory import release
    from palm_trl.measuring import measure
    from palm_trl.saving import POLICY
    from palm_trl.training import train

    train(settings, weights, folder, start=start)
    _part()
    release()
    if int(os.environ.get("RANK", "0")) == 0 and not (folder / MEASURED).exists():
        measure(settings, folder / POLICY).save(folder / MEASURED)


def _part() -> None:
    """Let the other processes go: the first measures by itself."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
